"""When a run ends, stops to be resumed, or is due for a checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from models.training.processes import Processes
from models.training.record import Progress, memory_bytes


@dataclass(frozen=True)
class LoopLimits:
    """When a run ends. The rates follow whichever of steps and minutes is further, so the schedule always
    completes.
    """

    steps: int
    minutes: float | None = None  # of training time
    stop_after_seconds: float | None = None  # of this call: stop cleanly, to be resumed
    checkpoint_seconds: float = 120.0
    log_steps: int = 25


@dataclass(frozen=True)
class Turn:
    """What the first process's clock says before a step; the same in every process."""

    share: float  # of the schedule, 0 to 1
    seconds: float  # of training, over all resumptions
    is_due: bool  # a checkpoint
    is_stopped: bool  # by the deadline


class Clock:
    """Time of this call and of the whole run."""

    def __init__(self, limits: LoopLimits, earlier_seconds: float) -> None:
        self._limits, self._earlier = limits, earlier_seconds
        self._began = self._saved = time.monotonic()

    def turn(self, step: int, processes: Processes) -> Turn:
        """Where the run stands before a step."""
        now, limits = time.monotonic(), self._limits
        seconds = self._earlier + now - self._began
        share = step / limits.steps
        if limits.minutes is not None:
            share = max(share, seconds / (60 * limits.minutes))
        is_due = now - self._saved >= limits.checkpoint_seconds
        stop = limits.stop_after_seconds is not None and now - self._began >= limits.stop_after_seconds
        if processes.count > 1:
            told = torch.tensor([share, seconds, float(is_due), float(stop)], dtype=torch.float64)
            share, seconds, is_due_now, stop_now = processes.agreed(told).tolist()
            is_due, stop = bool(is_due_now), bool(stop_now)
        return Turn(share, seconds, is_due, stop)

    def saved(self) -> None:
        """A checkpoint was written just now."""
        self._saved = time.monotonic()

    def progress(
        self, step: int, share: float, loss: dict[str, float], figures: dict[str, float], device: torch.device
    ) -> Progress:
        """A line of the log, with the time that is left at the pace so far."""
        seconds = self._earlier + time.monotonic() - self._began
        left = seconds / max(share, 1e-6) * (1 - share)
        return Progress(step, share, loss, seconds, left, figures, memory_bytes(device))
