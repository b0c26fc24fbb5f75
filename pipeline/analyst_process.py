"""The worker's hold on its analyst: start it, give it work, hear from it, end it.

Knows nothing of models and images, so that the worker stays small and outlives whatever the analyst meets.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Final

import psutil

from config.settings import Settings
from pipeline.assignment import Assignment, Report

START_SECONDS_MAX: Final = 600.0  # loading libraries and trying every package on a busy machine


@dataclass(frozen=True)
class Ended:
    """The process is gone; how, in words."""

    how: str


def _main(pipe: Connection, settings: Settings, parent: int) -> None:
    # The worker decides when to stop: a signal to the whole group must not fail a job.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Imported here, in the new process: the worker must not load torch.
    from pipeline.analyst import serve_assignments

    serve_assignments(pipe, settings, parent)


class AnalystProcess:
    """One analyst process and the pipe to it."""

    def __init__(self, settings: Settings) -> None:
        # Spawned, not forked: the worker has threads and database connections.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, settings, os.getpid()), name="preread-analyst", daemon=True
        )
        self._process.start()
        theirs.close()
        self.started_at = time.monotonic()

    def give(self, assignment: Assignment) -> None:
        """Hand over work; the answers come by `hear`."""
        try:
            self._pipe.send(assignment)
        except OSError:
            return  # it is gone: `hear` says so

    def hear(self, timeout_seconds: float) -> Report | Ended | None:
        """The next report; `Ended` when the process is gone; None when nothing came in time."""
        ready = wait([self._pipe, self._process.sentinel], timeout_seconds)
        if self._pipe in ready:
            try:
                report: Report = self._pipe.recv()
            except (EOFError, OSError):
                return self._ended()
            return report
        return self._ended() if ready else None

    def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def memory_bytes(self) -> int:
        """Resident memory of the process; 0 when it is gone."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _ended(self) -> Ended:
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return Ended("was killed, most likely by the kernel because the machine ran out of memory")
        if code < 0:
            return Ended(f"was ended by {signal.Signals(-code).name}")
        return Ended(f"ended with exit code {code}")
