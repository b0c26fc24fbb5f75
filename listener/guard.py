"""PURE: how many connections there may be, how fast they may come, and how long each may take.

A connection is half-made until its association is accepted. Half-made ones never keep anybody out: when there
are too many, the oldest of them goes, so that a flood of silent peers costs a peer who speaks nothing. Who
connects too often waits for its turn and is not refused: a router that opens an association per image is only
slowed down. Associations are bounded by address and by AE title, and each AE title of the settings has places
that nobody else may take.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

PROGRESS_BYTES_PER_SECOND = 16 << 10
BURST_SECONDS = 2.0  # of connections at the full rate, for who was quiet before
COST_SECONDS = 0.001  # of processor time a connection may take; a usual one takes less
RESERVED_PER_AE = 2  # one association that stores and one that echoes


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener; spans in seconds."""

    connections_max: int
    per_address_max: int
    per_ae_max: int
    reserved_per_ae: int
    per_address_per_second: float
    request_seconds: float
    idle_seconds: float
    stall_seconds: float


@dataclass(slots=True)
class Pace:
    """The clock of one connection: what it waits for and since when. Times are monotonic."""

    accepted_at: float
    is_established: bool = False
    progressed_at: float = 0.0  # the last whole PDU
    message_at: float | None = None  # the message under way began
    message_bytes: int = 0
    unsent_at: float | None = None  # output waits since then
    closing_at: float | None = None  # we said our last word then

    def overdue(self, now: float, limits: Limits) -> str | None:
        """What took too long; None: nothing did. A byte alone never resets a deadline."""
        if self.closing_at is not None:
            return "closing" if now > self.closing_at + 1.0 else None
        if not self.is_established:
            return "association request" if now > self.accepted_at + limits.request_seconds else None
        if self.unsent_at is not None and now > self.unsent_at + limits.stall_seconds:
            return "reading our answer"
        if self.message_at is None:
            return "next message" if now > self.progressed_at + limits.idle_seconds else None
        # At least one PDU per stall period, and 16 KiB/s over the whole message.
        slowest = self.message_at + limits.stall_seconds + self.message_bytes / PROGRESS_BYTES_PER_SECOND
        return "message" if now > min(self.progressed_at + limits.stall_seconds, slowest) else None


Verdict = Literal["admit", "evict-own", "evict-any", "refuse"]


Shortage = Literal["of the address", "of the AE title", "in all"]


def reserved_per_ae(ae_titles: int, connections_max: int) -> int:
    """Places kept for each AE title: together at most half of all, so that there is something to share."""
    return min(RESERVED_PER_AE, connections_max // (2 * max(1, ae_titles)))


class Census:
    """Who is connected, by address and by AE title.

    Parameters
    ----------
    ae_titles : those of the settings, which have places of their own; no other ever associates
    """

    def __init__(self, ae_titles: Iterable[str]) -> None:
        self.half_made: Counter[str] = Counter()
        self.established: Counter[str] = Counter()
        self.by_ae: Counter[str] = Counter()
        self._ae_titles = frozenset(ae_titles)

    def arrival(self, address: str, limits: Limits) -> Verdict:
        """What to do with a new connection: admit it, after the oldest half-made one of its address or of
        anybody was closed if need be, or refuse it when all places are taken by associations.
        """
        if self.half_made[address] >= limits.per_address_max:
            return "evict-own"
        if self.half_made.total() + self.established.total() < limits.connections_max:
            return "admit"
        return "evict-any" if self.half_made.total() else "refuse"

    def shortage(self, address: str, ae_title: str, limits: Limits) -> Shortage | None:
        """Which places an association of this peer would exceed; None: it may be accepted."""
        if self.established[address] >= limits.per_address_max:
            return "of the address"
        if self.by_ae[ae_title] >= limits.per_ae_max:
            return "of the AE title"
        kept = 0
        if self.by_ae[ae_title] >= limits.reserved_per_ae:
            kept = sum(max(0, limits.reserved_per_ae - self.by_ae[ae]) for ae in self._ae_titles)
        return "in all" if self.established.total() + kept >= limits.connections_max else None

    def arrived(self, address: str) -> None:
        """A connection was admitted."""
        self.half_made[address] += 1

    def accepted(self, address: str, ae_title: str) -> None:
        """Its association was accepted."""
        _less(self.half_made, address)
        self.established[address] += 1
        self.by_ae[ae_title] += 1

    def left(self, address: str, ae_title: str | None) -> None:
        """A connection is gone; `ae_title` is None when it was half-made."""
        if ae_title is None:
            _less(self.half_made, address)
        else:
            _less(self.established, address)
            _less(self.by_ae, ae_title)


@dataclass(slots=True)
class ConnectionRate:
    """How often each address connected lately: a token bucket for each that did."""

    per_second: float
    _tokens: dict[str, tuple[float, float]] = field(default_factory=dict)  # how many, and when

    def take(self, address: str, now: float) -> bool:
        """Whether the address may have a connection served now; it is counted if so."""
        tokens = self._left(address, now)
        if tokens < 1.0:
            return False
        self._tokens[address] = (tokens - 1.0, now)
        return True

    def charge(self, address: str, seconds: float, now: float) -> None:
        """Count what a connection cost beyond the usual as so many more of them."""
        tokens = self._left(address, now) - seconds / COST_SECONDS
        self._tokens[address] = (max(-self._burst, tokens), now)

    def owes(self, address: str, now: float) -> bool:
        """Whether its connections cost more than it may ask for."""
        return self._left(address, now) < 0.0

    def forget(self, now: float) -> None:
        """Keep nothing of an address that was quiet long enough."""
        quiet = [address for address in self._tokens if self._left(address, now) >= self._burst]
        for address in quiet:
            del self._tokens[address]

    @property
    def _burst(self) -> float:
        return max(1.0, self.per_second * BURST_SECONDS)

    def _left(self, address: str, now: float) -> float:
        tokens, at = self._tokens.get(address, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self.per_second)


def _less(counter: Counter[str], address: str) -> None:
    counter[address] -= 1
    if counter[address] <= 0:
        del counter[address]
