"""Act in the thread of a pynetdicom association: only there do messages not cross.

An association's reactor takes whatever message comes and sends the answers to requests. Whoever sends from
another thread may mix fragments with it or lose an answer to it (pynetdicom 3.0.4 sets the flag that senders
look at before it asks the event that holds it). So senders hand in what is to be done, and the reactor does
it on its next turn, where it asks that event; this class is put in the event's place.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from pynetdicom.association import Association

LOOK_SECONDS = 0.05


class ReactorTurns(threading.Event):
    """In place of an association's `_reactor_checkpoint`, set at first."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self._due: deque[Callable[[], None]] = deque()

    def soon(self, act: Callable[[], None]) -> None:
        """Act in the reactor's thread; never, if the association ends before its next turn."""
        self._due.append(act)

    def wait(self, timeout: float | None = None) -> bool:
        """Do what is due, then what the event does; for the reactor alone."""
        while self.is_set() and self._due:
            self._due.popleft()()
        return super().wait(timeout)


def act_in_reactor(association: Association, act: Callable[[], object], *, ends_at: float) -> bool:
    """Let the reactor of an association that we asked for act, and wait; False: it ended or time is over.

    Parameters
    ----------
    ends_at : on the monotonic clock
    """
    turns, done = ReactorTurns(), threading.Event()

    def once() -> None:
        try:
            act()
        finally:
            done.set()

    turns.soon(once)
    association._reactor_checkpoint = turns
    while not done.wait(LOOK_SECONDS):
        if not association.is_alive() or time.monotonic() > ends_at:
            return done.is_set()
    return True
