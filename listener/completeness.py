"""PURE: is a study whole? Evidence and a time in; whole, wait until, or close as partial out.

Evidence by strength: notices (instance availability, MPPS, UPS; believed as the settings say), the count of
the sending archive (asked twice, the same answer), silence. The rules, with `last` the last new instance:

- Whole at once, `SETTLE_SECONDS` after `last`: a believed notice names every instance held, or the archive
  counted exactly those twice; and nothing that anybody stated is missing, and nothing is open: no procedure
  step in progress, no UPS whose input is incomplete.
- Whole after the quiet period: nothing stated is missing, nothing is open. Statements that say less than is
  here prove nothing and delay nothing.
- While stated instances are missing or something is open the study waits, but not beyond
  `missing_seconds_max` (or the quiet period, if longer) after `last`, and never beyond `open_seconds_max`
  after the first instance: then it is closed as partial. So evidence can only bring the end forward or
  delay it that far.

Nothing is ever discarded: a late image opens a new revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from config.settings import Settings
from listener.rhythm import Rhythm

SETTLE_SECONDS = 2.0  # an archive that notifies of each series lets the next one begin

NoticeKind = Literal["ian", "mpps", "ups"]
NOTICE_NAMES: Mapping[NoticeKind, str] = {
    "ian": "availability notice",
    "mpps": "procedure step",
    "ups": "unified procedure step",
}


@dataclass(frozen=True, slots=True)
class SeriesEvidence:
    """What is held of one series.

    `held` are its SOP Instance UIDs, needed only where there are notices; `counted` is what the archive
    counted twice since its last instance, None: nothing. Both serve `listener.whole_series`.
    """

    series_uid: str
    modality: str
    instances: int
    last_received_at: float
    held: frozenset[str] = frozenset()
    counted: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What a peer stated of the study by itself.

    `is_open`: more will come, by a procedure step that may still make images or a UPS whose input is
    incomplete. `proves` is False where the list is known not to say all: what it names is waited for, and
    proves nothing. `named` are SOP Instance UIDs, without classes this node does not take and without our own
    results; `by_series` are the same by Series Instance UID.
    """

    how: NoticeKind
    source_ae: str
    named: frozenset[str]
    is_open: bool = False
    by_series: Mapping[str, frozenset[str]] = field(default_factory=dict)
    proves: bool = True


@dataclass(frozen=True, slots=True)
class Count:
    """What an archive counted when asked: instances by Series Instance UID, without our own results.

    `is_stable`: it said the same twice, and both times after the last new instance.
    """

    source_ae: str
    by_series: Mapping[str, int]
    is_stable: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a study that still receives; times in seconds, on the clock of `now`.

    `held` are the SOP Instance UIDs behind `series`; needed only where there are notices. `is_applied` is
    False while acknowledged instances wait to be recorded: silence means nothing then.
    """

    source_ae: str
    first_received_at: float
    last_received_at: float
    series: tuple[SeriesEvidence, ...]
    is_applied: bool = True
    held: frozenset[str] = frozenset()
    notices: tuple[Notice, ...] = ()
    count: Count | None = None

    @property
    def instances(self) -> int:
        """Instances held, all series together."""
        return sum(series.instances for series in self.series)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long silence must last, by peer and modality, and whose notices count; seconds."""

    quiet_seconds: float
    by_peer: Mapping[str, float]
    by_modality: Mapping[str, float]
    open_seconds_max: float
    missing_seconds_max: float
    notices_about: Mapping[str, str] = field(default_factory=dict)
    # By AE title and modality. The recorder renews it in place, for everybody who holds this patience.
    rhythms: Mapping[tuple[str, str], Rhythm] = field(default_factory=dict)

    @staticmethod
    def of(settings: Settings, rhythms: Mapping[tuple[str, str], Rhythm] | None = None) -> "Patience":
        """The patience that a site set, with what was learnt."""
        return Patience(
            quiet_seconds=settings.listener.quiet_seconds,
            by_peer={
                peer.ae_title: peer.quiet_seconds for peer in settings.peers if peer.quiet_seconds is not None
            },
            by_modality=dict(settings.listener.quiet_seconds_by_modality),
            open_seconds_max=settings.listener.open_hours_max * 3600,
            missing_seconds_max=settings.listener.missing_minutes_max * 60,
            notices_about={peer.ae_title: peer.notices_about for peer in settings.peers},
            rhythms={} if rhythms is None else rhythms,
        )

    def quiet_for(self, evidence: Evidence) -> float:
        """The quiet period of one study: its peer's; else the longest of its modalities; else the node's.

        That of a modality is the one learnt of the peer, else the one set for the modality.
        """
        if evidence.source_ae in self.by_peer:
            return self.by_peer[evidence.source_ae]
        modalities = {series.modality for series in evidence.series}
        return max(
            (self._quiet_of(evidence.source_ae, modality) for modality in modalities),
            default=self.quiet_seconds,
        )

    def learnt_for(self, evidence: Evidence) -> Rhythm | None:
        """The rhythm that decides the quiet period of a study; None: it was set, not learnt."""
        if evidence.source_ae in self.by_peer:
            return None
        quiet_seconds = self.quiet_for(evidence)
        found = (self.rhythms.get((evidence.source_ae, series.modality)) for series in evidence.series)
        return next((one for one in found if one and one.quiet_seconds == quiet_seconds), None)

    def _quiet_of(self, source_ae: str, modality: str) -> float:
        rhythm = self.rhythms.get((source_ae, modality))
        if rhythm is not None:
            return rhythm.quiet_seconds
        return self.by_modality.get(modality, self.quiet_seconds)

    def believes(self, notice: Notice, *, of_study_from: str) -> bool:
        """Whether a notice counts for a study of this sender."""
        about = self.notices_about.get(notice.source_ae, "none")
        return about == "any" or (about == "own" and notice.source_ae == of_study_from)


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


@dataclass(frozen=True, slots=True)
class Stated:
    """What all statements come to: what is missing, why more is expected, and who says that all is here."""

    missing: int
    lacks: tuple[str, ...]
    whole: Whole | None


def decide(evidence: Evidence, now: float, patience: Patience) -> Decision:
    """Judge a study at a time, by the rules at the top; a clock that stepped back only delays."""
    quiet_seconds = patience.quiet_for(evidence)
    quiet_at = evidence.last_received_at + quiet_seconds
    closes_at = evidence.first_received_at + patience.open_seconds_max
    if not evidence.is_applied:
        return WaitUntil(now + min(1.0, quiet_seconds))
    stated = weigh(evidence, patience)
    if stated.lacks:
        patience_seconds = max(quiet_seconds, patience.missing_seconds_max)
        gives_up_at = min(closes_at, evidence.last_received_at + patience_seconds)
        if now < gives_up_at:
            return WaitUntil(gives_up_at)
        if now < closes_at:
            return Partial(f"nothing new for {patience_seconds / 60:g} min: {'; '.join(stated.lacks)}")
        return Partial(f"{_too_long(patience)}: {'; '.join(stated.lacks)}")
    settled_at = evidence.last_received_at + min(SETTLE_SECONDS, quiet_seconds)
    if stated.whole is not None and now >= settled_at:
        return stated.whole
    if now >= quiet_at:
        words = f"no new instance for {quiet_seconds:.4g} s"
        rhythm = patience.learnt_for(evidence)
        if rhythm is not None:
            words += f" (learnt from {rhythm.studies} studies of {evidence.source_ae})"
        return Whole("quiet", f"{words}, {_counted(evidence.instances)}")
    if now >= closes_at:
        return Partial(_too_long(patience))
    return WaitUntil(min(quiet_at if stated.whole is None else settled_at, closes_at))


def weigh(evidence: Evidence, patience: Patience) -> Stated:
    """Put all statements together; each alone may name one series only."""
    believed = [
        notice for notice in evidence.notices if patience.believes(notice, of_study_from=evidence.source_ae)
    ]
    named = frozenset[str]().union(*(notice.named for notice in believed))
    lacks = []
    absent = len(named - evidence.held)
    if absent:
        sources = sorted({notice.source_ae for notice in believed if notice.named - evidence.held})
        lacks.append(f"{_counted(absent)} stated by {', '.join(sources)} missing")
    uncounted = _uncounted(evidence)
    if evidence.count is not None and uncounted:
        lacks.append(f"{_counted(uncounted)} counted by {evidence.count.source_ae} missing")
    lacks.extend(_opened(believed))
    whole = None if lacks else _whole_by_notice(evidence, believed) or _whole_by_count(evidence)
    return Stated(max(absent, uncounted), tuple(lacks), whole)


def _opened(believed: list[Notice]) -> list[str]:
    """Who says that more will come."""
    steps = sorted({notice.source_ae for notice in believed if notice.is_open and notice.how != "ups"})
    inputs = sorted({notice.source_ae for notice in believed if notice.is_open and notice.how == "ups"})
    words = []
    if steps:
        words.append(f"a procedure step of {', '.join(steps)} is still in progress")
    if inputs:
        words.append(f"the input that {', '.join(inputs)} listed is incomplete")
    return words


def _whole_by_notice(evidence: Evidence, believed: list[Notice]) -> Whole | None:
    stating = [notice for notice in believed if notice.named and notice.proves]
    named = frozenset[str]().union(*(notice.named for notice in stating))
    if not evidence.held or not evidence.held <= named:
        return None
    kinds = {notice.how for notice in stating}
    how = next(kind for kind in NOTICE_NAMES if kind in kinds)
    sources = sorted({notice.source_ae for notice in stating if notice.how == how})
    names = f"{NOTICE_NAMES[how]} of {', '.join(sources)}"
    return Whole(how, f"{names}: all {_counted(len(named))} named are here")


def _whole_by_count(evidence: Evidence) -> Whole | None:
    count = evidence.count
    if count is None or not count.is_stable or not evidence.instances:
        return None
    if any(count.by_series.get(series.series_uid, 0) < series.instances for series in evidence.series):
        return None
    words = f"{count.source_ae} counts {_counted(evidence.instances)}, asked twice; all are here"
    return Whole("find", words)


def _uncounted(evidence: Evidence) -> int:
    """Instances that the archive counted and that are not here."""
    if evidence.count is None:
        return 0
    held = {series.series_uid: series.instances for series in evidence.series}
    return sum(max(0, number - held.get(uid, 0)) for uid, number in evidence.count.by_series.items())


def _too_long(patience: Patience) -> str:
    return f"still receiving {patience.open_seconds_max / 3600:g} h after the first instance"


def _counted(number: int) -> str:
    return f"{number} instance{'' if number == 1 else 's'}"
