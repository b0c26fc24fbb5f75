"""What a run leaves behind while it goes on: metrics.jsonl, curves.svg, pictures of inner cases; and one
line to show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image

from models.evaluation.pictures import contact_sheet
from models.training.curves import curves_svg

METRICS_NAME, CURVES_NAME, PICTURES_FOLDER = "metrics.jsonl", "curves.svg", "pictures"
PICTURE_COLUMNS = 4
REDRAWN_EVERY = 20  # lines; drawing all curves costs as much as reading the log


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    share: float  # of the schedule, 0 to 1
    loss: dict[str, float]
    seconds: float  # of training, over all resumptions
    seconds_left: float
    figures: dict[str, float] = field(default_factory=dict)  # of the inner part, where it was just judged
    memory_bytes: int = 0  # resident, or the most that was allocated on the GPU

    @property
    def words(self) -> str:
        """Loss, figures, time left and memory, for a bar of progress."""
        values = {**self.loss, **{f"inner {name}": value for name, value in self.figures.items()}}
        return ", ".join(
            [
                *(f"{name.replace('_', ' ')} {value:.3f}" for name, value in values.items()),
                f"{_time_words(self.seconds_left)} left",
                f"{self.memory_bytes / 2**30:.1f} GiB",
            ]
        )


class Record:
    """The files of a run. Resuming at a step drops the lines after it: those steps are done again."""

    def __init__(self, out: Path, step: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out = out
        self._log = out / METRICS_NAME
        text = self._log.read_text(encoding="utf-8") if self._log.is_file() else ""
        # A kill may have cut the last line short.
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        self._rows: list[dict[str, Any]] = [row for row in map(json.loads, lines) if row["step"] <= step]
        self._log.write_text("".join(json.dumps(row) + "\n" for row in self._rows), encoding="utf-8")

    def add(self, line: Progress) -> None:
        """Append to the log; now and then, and with every judgement, draw the curves again."""
        row = {
            "step": line.step,
            "share": round(line.share, 4),
            "seconds": round(line.seconds, 1),
            **line.loss,
            **{f"inner_{name}": value for name, value in line.figures.items()},
        }
        self._rows.append(row)
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if line.figures or len(self._rows) % REDRAWN_EVERY == 0:
            (self._out / CURVES_NAME).write_text(curves_svg(self._rows), encoding="utf-8")

    def keep_pictures(self, step: int, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Inner cases as the weights of this step outline them, on one sheet."""
        if not pictures:
            return
        folder = self._out / PICTURES_FOLDER
        folder.mkdir(exist_ok=True)
        sheet = contact_sheet(pictures, min(PICTURE_COLUMNS, len(pictures)))
        Image.fromarray(sheet).save(folder / f"step-{step:09d}.png", "PNG", optimize=True)


def memory_bytes(device: torch.device) -> int:
    """The most that was allocated on the GPU, or what the process has in memory now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def _time_words(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
