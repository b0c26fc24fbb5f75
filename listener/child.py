"""A process beside the receiver, started with the settings on its standard input, watched, started again."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from config.logs import logger
from config.settings import Settings

TEND_SECONDS = 0.25
RESTART_SECONDS = (0.5, 30.0)  # first and longest wait before it is started again


class ChildProcess:
    """One process of ours that receiving does not depend on.

    Parameters
    ----------
    name : in the log
    module : run with the descriptors as arguments
    descriptors : it inherits these
    """

    def __init__(self, name: str, module: str, settings: Settings, descriptors: Sequence[int]) -> None:
        self._name, self._module, self._settings = name, module, settings
        self._descriptors = tuple(descriptors)
        self._process: subprocess.Popen[bytes] | None = None
        self._tended_at = self._start_at = 0.0
        self._wait_seconds = RESTART_SECONDS[0]

    def tend(self) -> None:
        """Start the process when it is not there; cheap enough for every turn of the loop."""
        now = time.monotonic()
        if now - self._tended_at < TEND_SECONDS:
            return
        self._tended_at = now
        if self._process is not None and self._process.poll() is not None:
            logger("listener").warning(f"the {self._name} ended", status=self._process.returncode)
            ran_long = now - self._start_at > 2 * RESTART_SECONDS[1]
            self._wait_seconds = RESTART_SECONDS[0] if ran_long else self._wait_seconds
            self._process, self._start_at = None, now + self._wait_seconds
            self._wait_seconds = min(2 * self._wait_seconds, RESTART_SECONDS[1])
        if self._process is None and now >= self._start_at:
            self._start_at = now
            self._process = self._start()

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Let it end, as it was told otherwise; killed when it takes longer."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            # -P: a folder named like one of our packages must not be taken for it.
            [sys.executable, "-P", "-m", self._module, *map(str, self._descriptors)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.PIPE,
            pass_fds=self._descriptors,
            start_new_session=True,  # a terminal's Ctrl-C is ours; it ends when we say so
        )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(self._settings.model_dump_json().encode())
        return process
