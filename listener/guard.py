"""PURE: how many connections there may be, and how long each may take.

A connection is half-made until its association is accepted. Half-made ones never keep anybody out: when there
are too many, the oldest of them goes, so that a flood of silent peers costs a peer who speaks nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

PROGRESS_BYTES_PER_SECOND = 16 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener; spans in seconds."""

    connections_max: int
    per_address_max: int
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


@dataclass(slots=True)
class Census:
    """Who is connected, by address."""

    half_made: Counter[str] = field(default_factory=Counter)
    established: Counter[str] = field(default_factory=Counter)

    def arrival(self, address: str, limits: Limits) -> Verdict:
        """What to do with a new connection: admit it, after the oldest half-made one of its address or of
        anybody was closed if need be, or refuse it when all places are taken by associations.
        """
        if self.half_made[address] >= limits.per_address_max:
            return "evict-own"
        if self.half_made.total() + self.established.total() < limits.connections_max:
            return "admit"
        return "evict-any" if self.half_made.total() else "refuse"

    def may_establish(self, address: str, limits: Limits) -> bool:
        """Whether an association of this address may be accepted."""
        return self.established[address] < limits.per_address_max

    def arrived(self, address: str) -> None:
        """A connection was admitted."""
        self.half_made[address] += 1

    def accepted(self, address: str) -> None:
        """Its association was accepted."""
        _less(self.half_made, address)
        self.established[address] += 1

    def left(self, address: str, *, was_established: bool) -> None:
        """A connection is gone."""
        _less(self.established if was_established else self.half_made, address)


def _less(counter: Counter[str], address: str) -> None:
    counter[address] -= 1
    if counter[address] <= 0:
        del counter[address]
