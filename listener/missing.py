"""PURE: what is known to be missing of a study, so that it can be asked for; and when to ask."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from listener.completeness import Evidence, Patience

TRIES_MAX = 3  # of one study revision
AGAIN_SECONDS = (30.0, 120.0)  # after a try: first and longest


@dataclass(frozen=True, slots=True)
class Missing:
    """What is stated and not held.

    Parameters
    ----------
    named : SOP Instance UIDs by Series Instance UID, where they are known
    counted : instances that are missing by Series Instance UID, where only a count says so
    """

    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)

    @property
    def instances(self) -> int:
        """How many are missing, as far as known."""
        return sum(map(len, self.named.values())) + sum(self.counted.values())


def missing_of(evidence: Evidence, patience: Patience) -> Missing:
    """What believed notices name, and the archive counts, and is not held.

    A series is in one of both: by its instances when notices name all that the archive counts.
    """
    named: dict[str, frozenset[str]] = {}
    for notice in evidence.notices:
        if patience.believes(notice, of_study_from=evidence.source_ae):
            for series_uid, uids in notice.by_series.items():
                named[series_uid] = named.get(series_uid, frozenset()) | (uids - evidence.held)
    held = {series.series_uid: series.instances for series in evidence.series}
    by_count = {} if evidence.count is None else evidence.count.by_series
    counted = {
        series_uid: number - held.get(series_uid, 0)
        for series_uid, number in by_count.items()
        if number - held.get(series_uid, 0) > len(named.get(series_uid, ()))
    }
    known = {uid: absent for uid, absent in named.items() if absent and uid not in counted}
    return Missing(known, counted)


@dataclass(frozen=True, slots=True)
class Asked:
    """How often the missing instances of one study revision were asked for, and when that ended last."""

    tries: int = 0
    ended_at: float = 0.0
    is_waiting: bool = False

    def begun(self) -> "Asked":
        """After a question was put."""
        return replace(self, tries=self.tries + 1, is_waiting=True)

    def ended(self, now: float) -> "Asked":
        """After its answer, whatever that was: what came is seen by itself."""
        return replace(self, ended_at=now, is_waiting=False)


def ask_at(asked: Asked, quiet_at: float) -> float | None:
    """When to ask for what is missing; None: an answer is under way, or it was asked for often enough.

    Parameters
    ----------
    quiet_at : end of the quiet period after the last new instance: until then it may come by itself
    """
    if asked.is_waiting or asked.tries >= TRIES_MAX:
        return None
    if not asked.tries:
        return quiet_at
    wait = min(AGAIN_SECONDS[1], AGAIN_SECONDS[0] * 2.0 ** (asked.tries - 1))
    return max(quiet_at, asked.ended_at + wait)
