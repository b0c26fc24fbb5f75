"""How a network's numbers lie and which they are: measured when it is loaded, kept for the next time.

Channels last is faster for most 2D networks and slower for some 3D ones, bfloat16 pays on some processors:
both are tried on one batch of windows, and the plain way stays unless another is clearly faster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

WORTH_IT = 0.95  # of the plain way's time: less gain is noise
RUNS = 3
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Layout:
    """Where the channels lie, and what is computed in."""

    channels_last: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"


PLAIN = Layout()


def layouts(*, bfloat16: bool) -> tuple[Layout, ...]:
    """What is tried, the plain one first."""
    plain = (PLAIN, Layout(channels_last=True))
    return plain + tuple(Layout(one.channels_last, "bfloat16") for one in plain) if bfloat16 else plain


class LaidOut(nn.Module):
    """A network in a layout: the same in, the same out, in float32.

    The kernels are laid out in place.
    """

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.network, self.layout = network, layout
        # Laid out while measuring, weights would stay tensors of inference: no heat map could be made.
        with torch.inference_mode(False):
            for parameter in network.parameters():
                if parameter.dim() in _LAST:
                    form = _LAST[parameter.dim()] if layout.channels_last else torch.contiguous_format
                    parameter.data = parameter.data.contiguous(memory_format=form)

    def forward(self, x: Tensor) -> Any:
        """(B, channels, ...) to whatever the network gives."""
        if self.layout.channels_last:
            x = x.contiguous(memory_format=_LAST[x.dim()])
        if self.layout.dtype == "float32":
            return self.network(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x)


def seconds_of(
    network: nn.Module,
    example: Tensor,
    tried: Iterable[Layout],
    *,
    runs: int = RUNS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Layout, float]:
    """Median seconds of one batch in each layout, taken in turns after a first run of each.

    Parameters
    ----------
    example : a batch of windows on the network's device
    """
    taken: dict[Layout, list[float]] = {layout: [] for layout in tried}
    with torch.inference_mode():
        for turn in range(runs + 1):
            for layout, seconds in taken.items():
                laid_out = LaidOut(network, layout)
                _wait(example)
                began = clock()
                laid_out(example)
                _wait(example)
                if turn:
                    seconds.append(clock() - began)
    return {layout: median(seconds) for layout, seconds in taken.items()}


def fastest_first(seconds: dict[Layout, float]) -> list[Layout]:
    """The layouts that are clearly faster than the plain one, the fastest first, then the plain one."""
    limit = WORTH_IT * seconds[PLAIN]
    better = [layout for layout in sorted(seconds, key=lambda one: seconds[one]) if seconds[layout] < limit]
    return [layout for layout in better if layout != PLAIN] + [PLAIN]


def kept_layout(path: Path) -> Layout | None:
    """The layout that was chosen before; None where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_bytes())
        found = Layout(**content["layout"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found in layouts(bfloat16=True) else None


def keep_layout(path: Path, layout: Layout, seconds: dict[Layout, float]) -> None:
    """Write the choice, and what was measured, for the next time and for whoever asks why."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = [{**asdict(one), "seconds": round(taken, 5)} for one, taken in seconds.items()]
    text = json.dumps({"layout": asdict(layout), "measured": measured}, indent=1) + "\n"
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def chosen_layout(order: Sequence[Layout], is_right: Callable[[Layout], bool]) -> Layout:
    """The first that computes the right thing; of float32 that is not asked."""
    return next(layout for layout in order if layout.dtype == "float32" or is_right(layout))


def _wait(example: Tensor) -> None:
    if example.device.type == "cuda":
        torch.cuda.synchronize(example.device)
