"""PURE: which series of a study that still receives are provably whole. Evidence and a time in; proofs out.

Silence proves nothing here, only statements do, and all that is stated of the series must agree with what is
held of it, instance by instance. A series is whole

- at once, when a believed procedure step that ended lists it, and no step that is in progress does;
- `SETTLE_SECONDS` after its last instance, when a believed availability notice names it, or a believed UPS
  whose input is ready lists it, and nothing is open: an archive may notify of what it has before it has the
  rest;
- when the sending archive counted exactly what is held, twice, both times after the last instance of the
  series, and nothing is open.

Open is a step that is in progress, and a UPS whose input is incomplete.

What is not whole is not begun: the study's own end (`listener.completeness`) decides about the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from listener.completeness import (
    NOTICE_NAMES,
    SETTLE_SECONDS,
    Evidence,
    Notice,
    Patience,
    SeriesEvidence,
    Whole,
)


@dataclass(frozen=True, slots=True)
class WholeSeries:
    """Proofs by Series Instance UID, and when to look again; None: only something new can prove more."""

    proofs: Mapping[str, Whole]
    look_at: float | None = None


def whole_series(evidence: Evidence, now: float, patience: Patience) -> WholeSeries:
    """The series that are whole at a time, by the rules at the top; a clock that stepped back only delays."""
    if not evidence.is_applied:
        return WholeSeries({})
    believed = [
        notice for notice in evidence.notices if patience.believes(notice, of_study_from=evidence.source_ae)
    ]
    settle_seconds = min(SETTLE_SECONDS, patience.quiet_for(evidence))
    proofs: dict[str, Whole] = {}
    looks: list[float] = []
    for series in evidence.series:
        proof = _proof(series, evidence, believed)
        if proof is None:
            continue
        settled_at = series.last_received_at + (settle_seconds if proof.how in ("ian", "ups") else 0.0)
        if now >= settled_at:
            proofs[series.series_uid] = proof
        else:
            looks.append(settled_at)
    return WholeSeries(proofs, min(looks, default=None))


def _proof(series: SeriesEvidence, evidence: Evidence, believed: list[Notice]) -> Whole | None:
    if not series.instances or _is_short(series, evidence, believed):
        return None
    stating = [notice for notice in believed if notice.by_series.get(series.series_uid)]
    proving = [notice for notice in stating if notice.proves]
    named = frozenset[str]().union(*(notice.by_series[series.series_uid] for notice in proving))
    names_all = bool(named) and named == series.held
    for how in ("mpps", "ian", "ups"):
        sources = sorted({notice.source_ae for notice in proving if notice.how == how and not notice.is_open})
        others_open = any(notice.is_open for notice in (stating if how == "mpps" else believed))
        if names_all and sources and not others_open:
            words = f"{NOTICE_NAMES[how]} of {', '.join(sources)} names its {_counted(series.instances)}"
            return Whole(how, words)
    if series.counted == series.instances and not any(notice.is_open for notice in believed):
        words = f"{evidence.source_ae} counts its {_counted(series.instances)}, asked twice"
        return Whole("find", words)
    return None


def _is_short(series: SeriesEvidence, evidence: Evidence, believed: list[Notice]) -> bool:
    """Whether anybody stated instances of the series that are not here."""
    if any(notice.by_series.get(series.series_uid, frozenset()) - series.held for notice in believed):
        return True
    counted = {} if evidence.count is None else evidence.count.by_series
    return counted.get(series.series_uid, 0) > series.instances


def _counted(number: int) -> str:
    return f"{number} instance{'' if number == 1 else 's'}"
