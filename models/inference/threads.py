"""How many threads torch takes: one job runs at a time, so all cores compute it, and nothing runs beside."""

from __future__ import annotations

import os

import torch


def set_threads(threads: int | None) -> None:
    """Set them for the whole process, once, before anything is computed; None takes the cores it may use."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.set_num_interop_threads(1)
