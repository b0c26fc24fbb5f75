"""A gate that really stops pynetdicom's reactor while we wait for an answer.

An association has a thread of its own, the reactor, that takes whatever message comes. Before it sends, each
`send_*` clears an event and looks at a flag to know that the reactor stands still. pynetdicom 3.0.4 sets that
flag before it asks the event: a reactor that was let through and is preempted there looks as if it stood
still, takes our answer ("Received unexpected C-STORE service message") and the sender waits until it times
out. It was seen on a machine under load, once in a few hundred objects. Here `clear` itself waits until the
reactor is inside `wait`.
"""

from __future__ import annotations

import threading
from typing import Final

from pynetdicom.association import Association

_LOOK_SECONDS: Final = 0.05


class ReactorGate(threading.Event):
    """The event that the reactor of `association` passes on each of its turns, open at first.

    One lock holds both facts, so that a reactor that was woken and finds the gate closed again still stands.
    """

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._reactor = association
        self._changed = threading.Condition()
        self._is_open = True
        self._is_standing = False

    def is_set(self) -> bool:
        """Whether the gate is open."""
        return self._is_open

    def set(self) -> None:
        """Open the gate."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Close the gate and return when the reactor stands in front of it, or has ended."""
        with self._changed:
            self._is_open = False
            if threading.current_thread() is self._reactor:
                return  # it releases the association itself, and cannot take the answer from itself
            while not (self._is_standing or self._is_open) and self._reactor.is_alive():
                self._changed.wait(_LOOK_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Stand in front of the gate until it is open; for the reactor alone, which never sets a timeout."""
        with self._changed:
            while not self._is_open:
                self._is_standing = True
                self._changed.notify_all()
                self._changed.wait()
            self._is_standing = False
        return True


def keep_answers(association: Association) -> None:
    """Put the gate in place of pynetdicom's event; call once, right after the association was asked for."""
    association._reactor_checkpoint = ReactorGate(association)
