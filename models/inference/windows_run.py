"""Windows of an array through a network, a batch at a time; mirror images averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from models.grid_steps import Tiling
from models.inference.batches import Batches
from models.inference.windows import Box

Network = Callable[[Tensor], Tensor]


class WindowsRun:
    """Runs windows.

    Parameters
    ----------
    network : (B, channels, *window) -> (B, heads, *window)
    batch : windows at a time
    device : of the network
    """

    def __init__(
        self, network: Network, tiling: Tiling, *, heads: int, batch: int, device: torch.device
    ) -> None:
        self._network, self._tiling, self._heads, self._device = network, tiling, heads, device
        self._batches = Batches(batch, device)

    def logits(self, source: Tensor, boxes: Sequence[Box]) -> Iterator[tuple[Box, Tensor]]:
        """Each box with its logits (heads, slices, rows, columns), in the order given.

        Parameters
        ----------
        source : (channels, slices, rows, columns)
        """

        def compute(part: slice) -> Tensor:
            return self._forward(torch.stack([source[:, *box] for box in boxes[part]]))

        for part, logits in self._batches.run(len(boxes), compute):
            yield from zip(boxes[part], logits, strict=True)

    def _forward(self, windows: Tensor) -> Tensor:
        """(B, channels, slices, rows, columns) -> (B, heads, slices, rows, columns), float32."""
        is_flat = len(self._tiling.window) == 2
        given = (windows.squeeze(2) if is_flat else windows).to(self._device)
        # Never around a yield: the mode would stay on in whoever asks for the next one.
        with torch.inference_mode():
            logits = mirrored(self._network, given, self._tiling.mirror).float()
        if logits.shape != (len(given), self._heads, *given.shape[2:]):
            raise ValueError(
                f"the network gave {tuple(logits.shape)} for windows of {tuple(given.shape)}, "
                f"expected {self._heads} heads of the same size"
            )
        return logits.unsqueeze(2) if is_flat else logits


def mirrored(network: Network, windows: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean of the logits over every set of mirrored axes, each mirrored back."""
    total = network(windows)
    if not axes:
        return total
    count = 1
    for number in range(1, len(axes) + 1):
        for chosen in combinations(axes, number):
            turned = [axis + 2 for axis in chosen]
            total = total + network(windows.flip(turned)).flip(turned)
            count += 1
    return total / count
