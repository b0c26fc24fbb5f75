"""PURE. The life of study, job and delivery as tables `(state, event) -> state`, and what a study ends as.

Nothing else in preread decides a state.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from config.errors import PrereadError
from db.records import DeliveryRecord, JobRecord, JobSoFar, Outcome

Table = Mapping[tuple[str, str], str]
Job = JobRecord | JobSoFar

STUDY: Table = {
    ("receiving", "image"): "receiving",
    ("receiving", "closed"): "whole",
    ("whole", "claimed"): "analysing",
    ("analysing", "claimed"): "analysing",
    ("whole", "finished"): "done",  # its plan was cancelled before anyone claimed it
    ("analysing", "finished"): "done",
    ("done", "finished"): "done",  # another outcome, e.g. a parked delivery that was sent after all
    ("whole", "image"): "receiving",  # a late image: the next revision
    ("analysing", "image"): "receiving",
    ("done", "image"): "receiving",
    ("whole", "asked_again"): "whole",  # the next revision, of the same images
    ("analysing", "asked_again"): "whole",
    ("done", "asked_again"): "whole",
    ("whole", "resumed"): "analysing",  # a job or delivery of this revision was taken up again
    ("analysing", "resumed"): "analysing",
    ("done", "resumed"): "analysing",
}

JOB: Table = {
    ("queued", "claim"): "running",
    ("running", "finish"): "done",
    ("running", "fail"): "failed",
    ("running", "back_off"): "queued",
    ("running", "give_back"): "queued",
    ("running", "expire"): "queued",
    ("running", "expire_last"): "failed",
    ("queued", "cancel"): "cancelled",
    ("running", "cancel"): "cancelled",
    ("queued", "supersede"): "cancelled",
    ("failed", "retry"): "queued",
    ("cancelled", "retry"): "queued",
}

DELIVERY: Table = {
    ("queued", "claim"): "sending",
    ("sending", "deliver"): "delivered",
    ("sending", "back_off"): "queued",
    ("sending", "give_back"): "queued",
    ("sending", "expire"): "queued",
    ("sending", "park"): "parked",
    ("parked", "retry"): "queued",
    ("dropped", "retry"): "queued",
    ("delivered", "retry"): "queued",  # "send again": the peer may have lost it
    ("queued", "drop"): "dropped",
    ("sending", "drop"): "dropped",
    ("parked", "drop"): "dropped",
}

TABLES: Mapping[str, Table] = {"study": STUDY, "job": JOB, "delivery": DELIVERY}


class IllegalTransition(PrereadError):
    """An event that the state does not allow."""


def next_state(table: Literal["study", "job", "delivery"], state: str, event: str) -> str:
    """The state after `event`.

    Raises
    ------
    IllegalTransition
        `state` does not allow `event`; names both.
    """
    try:
        return TABLES[table][state, event]
    except KeyError:
        allowed = sorted(known for at, known in TABLES[table] if at == state)
        raise IllegalTransition(
            f"a {table} that is {state} does not allow {event!r}",
            remedy=f"It allows: {', '.join(allowed)}." if allowed else f"{state!r} is no state of a {table}.",
        ) from None


def states_before(table: Literal["study", "job", "delivery"], event: str) -> tuple[str, ...]:
    """The states that allow `event`, for the condition of an update."""
    return tuple(state for state, known in TABLES[table] if known == event)


class StudyOutcome(NamedTuple):
    """How a study revision ended."""

    outcome: Outcome
    reason_code: str | None
    sentence: str


def study_outcome(jobs: Sequence[Job], deliveries: Sequence[DeliveryRecord]) -> StudyOutcome | None:
    """How a study revision ended, from all its jobs and deliveries in the order they were made.

    Returns None while anything is open, and where there is no job. The worst thing decides, so that no
    failure hides behind a success: failed before not delivered before delivered before not analysed. Plans of
    an early start decide nothing: the plan of the whole study comes after them.
    """
    jobs = [job for job in jobs if not job.is_early_plan]
    if not jobs or any(job.state in ("queued", "running") for job in jobs):
        return None
    if any(delivery.state in ("queued", "sending") for delivery in deliveries):
        return None
    for job in jobs:
        if job.state == "failed":
            return StudyOutcome("failed", "JOB-FAILED", _failure(job))
    for delivery in deliveries:
        if delivery.state == "parked":
            why = f": {delivery.last_error}" if delivery.last_error else ""
            return StudyOutcome(
                "failed", "DELIVERY-PARKED", f"Results could not be delivered to {delivery.destination}{why}."
            )
    destinations = sorted({delivery.destination for delivery in deliveries})
    reached = sorted({delivery.destination for delivery in deliveries if delivery.state == "delivered"})
    if destinations and not reached:
        sentence = f"A person dropped the delivery of the results to {', '.join(destinations)}."
        return StudyOutcome("failed", "DELIVERY-DROPPED", sentence)
    if any(job.state == "done" and job.outcome == "analysed" for job in jobs):
        if reached:
            return StudyOutcome("delivered", None, f"Results delivered to {', '.join(reached)}.")
        return StudyOutcome("delivered", None, "Results are kept here; no destination is configured.")
    return _why_not(jobs)


def _failure(job: Job) -> str:
    name = f"Analysis by {job.model}" if job.model else "Planning the analysis"
    error = (job.error or "no error was recorded").rstrip(".")
    return f"{name} failed: {error}." + (f" {job.remedy}" if job.remedy else "")


def _why_not(jobs: Sequence[Job]) -> StudyOutcome:
    """The reason of the first analysis that was refused; else the plan's; else a person cancelled all."""
    for kind in ("analyse", "plan"):
        for job in jobs:
            if job.kind == kind and job.state == "done" and job.reason_code is not None:
                return StudyOutcome("not_analysed", job.reason_code, job.reason or job.reason_code)
    sentence = "A person cancelled the analysis. Use 'Analyse again' to run it."
    return StudyOutcome("not_analysed", "CANCELLED", sentence)
