"""PURE: is a study whole? Evidence and a time in; whole, wait until, or close as partial out.

Today's evidence is silence: no new instance for a quiet period that fits the peer and the modality.
Statements (an archive's counts, MPPS, instance availability) have their place in `Evidence` and outrank
silence; they come with their services. Nothing is ever discarded: a late image opens a new revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from config.settings import Settings


@dataclass(frozen=True, slots=True)
class SeriesEvidence:
    """What is known of one series; `expected` is somebody's statement of its instances, with its source."""

    series_uid: str
    modality: str
    instances: int
    last_received_at: float
    expected: int | None = None
    expected_by: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a study that still receives; times in seconds, on the clock of `now`.

    `is_applied` is False while acknowledged instances wait to be recorded: silence means nothing then.
    """

    source_ae: str
    first_received_at: float
    last_received_at: float
    series: tuple[SeriesEvidence, ...]
    is_applied: bool = True

    @property
    def instances(self) -> int:
        """Instances held, all series together."""
        return sum(series.instances for series in self.series)

    @property
    def missing(self) -> int:
        """Instances that somebody stated and that are not here."""
        return sum(max(0, (series.expected or 0) - series.instances) for series in self.series)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long silence must last, by peer and modality; seconds."""

    quiet_seconds: float
    by_peer: Mapping[str, float]
    by_modality: Mapping[str, float]
    open_seconds_max: float

    @staticmethod
    def of(settings: Settings) -> "Patience":
        """The patience that a site set."""
        return Patience(
            quiet_seconds=settings.listener.quiet_seconds,
            by_peer={
                peer.ae_title: peer.quiet_seconds for peer in settings.peers if peer.quiet_seconds is not None
            },
            by_modality=dict(settings.listener.quiet_seconds_by_modality),
            open_seconds_max=settings.listener.open_hours_max * 3600,
        )

    def quiet_for(self, evidence: Evidence) -> float:
        """The quiet period of one study: its peer's; else the longest of its modalities; else the node's."""
        if evidence.source_ae in self.by_peer:
            return self.by_peer[evidence.source_ae]
        modalities = {series.modality for series in evidence.series}
        return max(
            (self.by_modality.get(modality, self.quiet_seconds) for modality in modalities),
            default=self.quiet_seconds,
        )


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything is here, as far as anybody knows."""

    how: str
    because: str


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Not yet; look again then."""

    at: float


@dataclass(frozen=True, slots=True)
class Partial:
    """Waited long enough: analyse what is here and say so."""

    because: str


Decision = Whole | WaitUntil | Partial


def decide(evidence: Evidence, now: float, patience: Patience) -> Decision:
    """Judge a study at a time.

    Never `Whole` while instances that somebody stated are missing; never later than `open_seconds_max` after
    the first instance, except that a clock that stepped back only delays.
    """
    quiet_seconds = patience.quiet_for(evidence)
    quiet_at = evidence.last_received_at + quiet_seconds
    closes_at = evidence.first_received_at + patience.open_seconds_max
    if not evidence.is_applied:
        return WaitUntil(now + min(1.0, quiet_seconds))
    if now >= quiet_at and evidence.missing == 0:
        count = f"{evidence.instances} instance{'' if evidence.instances == 1 else 's'}"
        return Whole("quiet", f"no new instance for {quiet_seconds:g} s, {count}")
    if now >= closes_at:
        hours = patience.open_seconds_max / 3600
        lacks = f", {evidence.missing} instances are missing" if evidence.missing else ""
        return Partial(f"still receiving {hours:g} h after the first instance{lacks}")
    return WaitUntil(closes_at if now >= quiet_at else min(quiet_at, closes_at))
