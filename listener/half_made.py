"""Connections whose association is not accepted yet, by address, the oldest first: who of them may be read.

A connection beyond the rate of its address is held: accepted and closed like any other, but its request is
not read before its turn. No sockets here; the loop acts.
"""

from listener.connection import Connection
from listener.guard import ConnectionRate


class HalfMade:
    """All half-made connections of one loop.

    Parameters
    ----------
    per_second : new connections of one address that are read per second
    """

    def __init__(self, per_second: float) -> None:
        self._rate = ConnectionRate(per_second)
        self._all: dict[str, dict[Connection, None]] = {}
        self._held: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection, now: float) -> bool:
        """Whether its request may be read at once; otherwise `due` has it later."""
        address = connection.address
        self._all.setdefault(address, {})[connection] = None
        # Who waits already comes first.
        if address not in self._held and self._rate.take(address, now):
            return True
        self._held.setdefault(address, {})[connection] = None
        return False

    def charge(self, connection: Connection, seconds: float, now: float) -> None:
        """It took so much processor time to answer; its address waits the longer for its next ones."""
        self._rate.charge(connection.address, seconds, now)

    def holds_back(self, connection: Connection, now: float) -> bool:
        """Whether its request must wait for what others of its address cost; it is held then."""
        if not self._rate.owes(connection.address, now):
            return False
        self._held.setdefault(connection.address, {})[connection] = None
        return True

    def remove(self, connection: Connection) -> None:
        """It is gone, or not half-made any more."""
        _remove(self._all, connection)
        if self.is_held(connection):
            _remove(self._held, connection)

    def due(self, now: float) -> list[Connection]:
        """The held ones whose turn has come; they are not held any more."""
        found = []
        for address, held in list(self._held.items()):
            for connection in list(held):
                if not self._rate.take(address, now):
                    break
                _remove(self._held, connection)
                found.append(connection)
        return found

    def is_held(self, connection: Connection) -> bool:
        """Whether its request may not be read yet."""
        return connection in self._held.get(connection.address, ())

    @property
    def are_held(self) -> bool:
        """Whether any waits for its turn."""
        return bool(self._held)

    def oldest(self, address: str | None) -> Connection | None:
        """The oldest one of an address; of None: of the address that has most."""
        if address is None and self._all:
            address = max(self._all, key=lambda each: len(self._all[each]))
        return next(iter(self._all.get(address, ())), None) if address is not None else None

    def forget(self, now: float) -> None:
        """Drop what is remembered of addresses that were quiet long enough."""
        self._rate.forget(now)


def _remove(by_address: dict[str, dict[Connection, None]], connection: Connection) -> None:
    connections = by_address[connection.address]
    del connections[connection]
    if not connections:
        del by_address[connection.address]
