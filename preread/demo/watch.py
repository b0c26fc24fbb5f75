"""Follow studies through the node by its rows until each has ended; never waits without a bound."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from db.engine import Database
from db.views import StudyView
from db.worklist import study as study_view
from preread.demo.outcomes import NO_OUTCOME, NOT_ACCEPTED, Ended, ended_study
from preread.demo.progress import Progress
from preread.demo.sender import Sending

LOOK_SECONDS = 0.25
# Rows follow the acknowledgement in batches: a study may look done before its last images are in the tables.
ROWS_SECONDS_MAX = 15.0


@dataclass
class Watched:
    """One study being followed; `sending` is set when all of it was offered to the node."""

    study_uid: str
    sending: Sending | None = None
    entries: list[Ended] | None = None
    fingerprint: object = None
    changed_at: float = field(default_factory=time.monotonic)


def watch(
    studies: list[Watched],
    database: Database,
    progress: Progress,
    *,
    check_alive: Callable[[], None],
    stall_seconds: float,
) -> None:
    """Fill in `entries` of every study; returns when all have them.

    Parameters
    ----------
    check_alive : raises when the services or the sender ended
    stall_seconds : a study with no change in its rows for so long is given up, as failed
    """
    while waiting := [study for study in studies if study.entries is None]:
        check_alive()
        for study in waiting:
            view = study_view(database, study.study_uid)
            study.entries = _look(study, view, stall_seconds)
            progress.seen(study.study_uid, view if study.sending is not None else None)
            if study.entries is not None:
                progress.ended(study.study_uid, study.entries)
        time.sleep(LOOK_SECONDS)


def _look(study: Watched, view: StudyView | None, stall_seconds: float) -> list[Ended] | None:
    sending = study.sending
    if sending is None:
        study.changed_at = time.monotonic()
        return None
    if not sending.acknowledged:
        why = sending.refused[0].reason if sending.refused else "it holds no object"
        message = f"The node took no object of this study, {len(sending.study.objects)} offered: {why}."
        return [Ended(study.study_uid, "not_analysed", NOT_ACCEPTED, message)]
    fingerprint = _fingerprint(view)
    if fingerprint != study.fingerprint:
        study.fingerprint, study.changed_at = fingerprint, time.monotonic()
    unchanged_seconds = time.monotonic() - study.changed_at
    entries = ended_study(view) if view is not None else None
    if view is not None and entries is not None:
        in_rows = sum(series.instances for series in view.series) + len(view.conflicts)
        if in_rows >= len(sending.acknowledged) or unchanged_seconds > ROWS_SECONDS_MAX:
            return entries
    if unchanged_seconds > stall_seconds:
        message = f"Nothing changed for {unchanged_seconds:.0f} s: see the log and the queue of the node."
        return [Ended(study.study_uid, "failed", NO_OUTCOME, message)]
    return None


def _fingerprint(view: StudyView | None) -> object:
    if view is None:
        return None
    jobs = tuple((job.id, job.state, job.stage, job.attempts) for job in view.jobs)
    deliveries = tuple((delivery.id, delivery.state, delivery.attempts) for delivery in view.deliveries)
    return view.study.state, view.study.revision, view.study.instances, jobs, deliveries
