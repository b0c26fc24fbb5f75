"""HTTP connections within bounds, on uvicorn's protocol: a peer that is silent costs a silent peer.

A connection without a request under way has `request_seconds` to send the head of one. When there are too
many connections, the oldest of those goes; when all are at work, the new one.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """One connection; `bounded` makes the class with its bounds."""

    request_seconds = 10.0
    connections_max = 64
    crowd: dict["BoundedProtocol", None]

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A peer connected: make room for it, and give it its time."""
        super().connection_made(transport)
        if len(self.crowd) >= self.connections_max:
            idle = next((other for other in self.crowd if other.is_idle), None)
            if idle is None:
                transport.abort()
                return
            del self.crowd[idle]
            idle.transport.abort()
        self.crowd[self] = None
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.crowd.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """A request is answered: the next one has its own time."""
        super().on_response_complete()
        self._begin_waiting()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete or self.transport.is_closing()

    def _begin_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        # uvicorn's own timer ends with the first byte of a head; this one does not.
        self._deadline = self.loop.call_later(self.request_seconds, self._too_late)

    def _too_late(self) -> None:
        if self.is_idle:
            self.transport.abort()  # not close: what a peer does not read would keep it open


def bounded(*, request_seconds: float, connections_max: int) -> type[BoundedProtocol]:
    """The class of the connections of one server."""
    bounds: dict[str, Any] = {
        "request_seconds": request_seconds,
        "connections_max": connections_max,
        "crowd": {},
    }
    return type("Connection", (BoundedProtocol,), bounds)
