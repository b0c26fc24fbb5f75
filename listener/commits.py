"""Which answers wait for which commit of the spool, and whether it runs beside receiving.

An answer leaves after the commit that covers its instance (law 1). While a commit is under way, who waits for
it is not read, and what completes on other connections waits for the next one.
"""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from config import kill_points
from db.records import Mark
from db.spool import SpoolWriter
from listener.connection import Connection
from listener.submissions import Submissions

BESIDE_SECONDS = 0.00025  # of a sync; below, waiting for it costs less than hearing of its end
LOOK_AGAIN = 64  # commits; one of so many is waited for, to measure it


class Pace(Protocol):
    """Decides whether a commit runs beside receiving, from what earlier ones took."""

    def runs_beside(self, waiting: int, lively: int) -> bool:
        """Whether the next one shall; `waiting` of `lively` connections wait for it."""

    def took(self, seconds: float) -> None:
        """A commit that was waited for took so long."""


class MeasuredPace:
    """Beside receiving when others may send meanwhile and the disk is slow enough to gain by it."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._beside = 0

    def runs_beside(self, waiting: int, lively: int) -> bool:
        """Whether the next one shall."""
        if lively <= waiting or self._seconds < BESIDE_SECONDS:
            return False
        self._beside = (self._beside + 1) % LOOK_AGAIN
        return self._beside != 0

    def took(self, seconds: float) -> None:
        """Remember, as a moving average."""
        self._seconds += (seconds - self._seconds) / 8 if self._seconds else seconds


class Commits:
    """The commits of one spool; for the loop's thread alone.

    `publish` is told the spool's committed mark after each, before anybody is answered.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        submissions: Submissions,
        pace: Pace,
        publish: Callable[[Mark], None],
    ) -> None:
        self._spool, self._submissions, self._pace, self._publish = spool, submissions, pace, publish
        self._covered: dict[Connection, None] = {}  # by the commit under way
        self._waiting: dict[Connection, None] = {}  # for the next one
        self._is_under_way = False

    def holds(self, connection: Connection) -> bool:
        """Whether it waits for a commit: then it is neither read nor answered."""
        return connection in self._covered or connection in self._waiting

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._covered.pop(connection, None)
        self._waiting.pop(connection, None)

    def clear(self) -> None:
        """The disk failed: nothing will be committed any more."""
        self._covered, self._waiting = {}, {}

    def add(self, connections: Iterable[Connection]) -> None:
        """These wait for the next commit."""
        for connection in connections:
            self._waiting[connection] = None

    def step(self, lively: int) -> Iterable[Connection]:
        """Finish a commit that ended and begin the next; whom it covered. Raises `SpoolFailed`.

        Parameters
        ----------
        lively : connections that sent something lately
        """
        freed: dict[Connection, None] = {}
        if self._is_under_way:
            if not self._spool.finish_commit():
                return freed
            freed = self._ended()
        waits = bool(self._waiting) or self._submissions.await_commit
        self._covered, self._waiting = self._waiting, {}
        self._submissions.seal()
        if waits and self._pace.runs_beside(len(self._covered), lively):
            self._is_under_way = self._spool.begin_commit()
            return freed if self._is_under_way else freed | self._ended()
        began = time.perf_counter()
        self._spool.commit()
        if waits:
            self._pace.took(time.perf_counter() - began)
            return freed | self._ended()
        self._publish(self._spool.committed)
        return freed

    def _ended(self) -> dict[Connection, None]:
        kill_points.reached("K4")
        self._is_under_way = False
        self._publish(self._spool.committed)
        self._submissions.committed()
        freed, self._covered = self._covered, {}
        return freed
