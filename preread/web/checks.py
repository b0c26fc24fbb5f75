"""The doctor's quick checks for the Node page: made at most every few seconds, however many screens look."""

import threading
import time

from config.settings import Settings
from preread.check_result import CheckResult
from preread.doctor import (
    check_clock,
    check_database,
    check_disk,
    check_state_folder,
    check_workers,
)
from preread.doctor_ways_in import check_ways_in

KEPT_SECONDS = 10.0


class Checks:
    """Results of the last round. Thread-safe: two rounds at once would trip over the probe file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made_at = -KEPT_SECONDS
        self._results: tuple[CheckResult, ...] = ()

    def results(self) -> tuple[CheckResult, ...]:
        """One line per check, from a round no older than `KEPT_SECONDS`."""
        with self._lock:
            if time.monotonic() - self._made_at >= KEPT_SECONDS:
                settings = self._settings
                self._results = (
                    *check_ways_in(settings),
                    *check_workers(settings),
                    check_state_folder(settings),
                    check_disk(settings),
                    *check_database(settings),
                    check_clock(),
                )
                self._made_at = time.monotonic()
            return self._results
