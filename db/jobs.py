"""The job table: claim, extend, finish, fail, give back.

How claims, leases and fences work is written in `db.claiming`, what the study does meanwhile in
`db.studies`. Finishing an analysis together with its results is in `db.results`, what a person may ask for
in `db.requests`, jobs of a study that still receives in `db.starting_early`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from db import claiming, rows, tables
from db.claiming import DELIVERIES, JOBS
from db.engine import Database, database_of, hint_on_commit, now_in
from db.enqueueing import enqueue
from db.job_claims import claim_job
from db.records import Claim, JobKind, JobRecord, JobState, NewDelivery, NewResult, SelectionRecord
from db.requests import cancel, retry, set_priority
from db.results import insert_results
from db.starting_early import is_begun_anew
from db.studies import end_claim, settle_study
from db.timeline import Line, note

__all__ = [
    "cancel",
    "claim_next",
    "enqueue",
    "extend",
    "fail",
    "finish_plan",
    "give_back",
    "list_jobs",
    "reap_expired",
    "retry",
    "set_priority",
    "set_stage",
    "show_job",
]

JOB, STUDY = tables.JOB, tables.STUDY

ERROR_LENGTH_MAX = 4000
_LOST = "the worker was lost while it ran: its lease ended without a word"
_LOST_REMEDY = "See the worker's log: out of memory or a crash. Then retry the job."


def claim_next(
    db: Database,
    *,
    worker: str,
    kinds: Sequence[JobKind] = ("plan", "analyse"),
    lease_seconds: float,
) -> Claim | None:
    """Claim the first ready job for `lease_seconds`; None: there is none.

    When nothing is ready it frees the jobs of lost workers, so that workers need no housekeeping to go on.
    """
    claim = claim_job(db, worker, kinds, lease_seconds)
    if claim is None and reap_expired(db):
        claim = claim_job(db, worker, kinds, lease_seconds)
    return claim


def _note(conn: sa.Connection, job: rows.Row, *, kind: str, text: str, source: str) -> None:
    note(conn, study_id=job["study_id"], job_id=job["id"], kind=kind, text=text, source=source)


def extend(db: Database, claim: Claim, lease_seconds: float) -> bool:
    """Prolong the lease from now; False: it was lost (reaped or cancelled), stop working."""
    with db.write() as conn:
        until = database_of(conn).clock() + lease_seconds
        return claiming.still_held(conn, JOBS, claim.job_id, claim.fence, lease_until=until)


def set_stage(db: Database, claim: Claim, stage: str) -> bool:
    """Say what the job is doing, for the page; False: the lease was lost."""
    with db.write() as conn:
        return claiming.still_held(conn, JOBS, claim.job_id, claim.fence, stage=stage)


def finish_plan(
    db: Database,
    claim: Claim,
    *,
    selections: Sequence[SelectionRecord],
    analyse: Sequence[tuple[str, Mapping[str, Any]]],
    reason_code: str | None = None,
    sentence: str | None = None,
    results: Sequence[NewResult] = (),
    deliveries: Sequence[NewDelivery] = (),
) -> bool:
    """Finish a plan: why each series was taken or not, and the analyses that follow, in one commit.

    Returns False when the lease was lost: then nothing was written.

    Parameters
    ----------
    analyse : (model, parameters) of each analysis; empty: the study ends as not analysed, with a code and a
        sentence (no silence)
    results, deliveries : the small report of a study that is not analysed, where the site wants one
    """
    if not analyse and not (reason_code and sentence):
        raise ValueError(f"plan {claim.job_id} leads to nothing without a code and a sentence that say why")
    with db.write() as conn:
        study = end_claim(
            conn,
            JOBS,
            claim.job_id,
            claim.fence,
            "finish",
            study_id=claim.study_id,
            outcome="planned" if analyse else "not_analysed",
            reason_code=reason_code,
            reason=sentence,
            stage=None,
            error=None,
            remedy=None,
        )
        if study is None:
            return False
        _replace_selections(conn, claim, selections)
        insert_results(conn, claim, results, deliveries, {})
        if study["revision"] != claim.revision:
            text = f"the plan of revision {claim.revision} came too late: the study is at {study['revision']}"
            note(
                conn,
                study_id=study["id"],
                job_id=claim.job_id,
                kind="superseded",
                text=text,
                source="preread",
            )
            return True
        if is_begun_anew(conn, study, claim, analyse):
            return True
        for model, parameters in analyse:
            enqueue(
                conn,
                "analyse",
                claim.study_id,
                claim.revision,
                model,
                priority=study["priority"],
                parameters=parameters,
                attempts_max=claim.attempts_max,
            )
        lines = []
        if analyse:
            text = f"queued for {', '.join(model for model, _ in analyse)}"
            lines.append(Line("queued", text, claim.worker, claim.study_id, claim.job_id))
        settle_study(conn, study, claim.revision, lines)
    return True


def _replace_selections(conn: sa.Connection, claim: Claim, selections: Sequence[SelectionRecord]) -> None:
    table = tables.SELECTION
    here = (table.c.study_id == claim.study_id, table.c.revision == claim.revision)
    conn.execute(sa.delete(table).where(*here))  # of an earlier run of this plan, before a person's retry
    if selections:
        conn.execute(
            sa.insert(table),
            [
                {
                    "study_id": claim.study_id,
                    "revision": claim.revision,
                    "model": selection.model,
                    "series_uid": selection.series_uid,
                    "taken": selection.taken,
                    "rank": selection.rank,
                    "code": selection.code,
                    "sentence": selection.sentence,
                }
                for selection in selections
            ],
        )


def fail(
    db: Database,
    claim: Claim,
    *,
    error: str,
    remedy: str,
    retry: bool = True,
    backoff_seconds: float | None = None,
) -> bool:
    """Record that an attempt failed; the job is tried again later, or failed after its last attempt.

    Returns False when the lease was lost: then nothing was written.

    Parameters
    ----------
    error, remedy : what went wrong and what a person can do, without names of patients
    retry : False: another attempt cannot help
    backoff_seconds : wait before the next attempt; None: 30 s, doubling to 10 min
    """
    error, remedy = error[:ERROR_LENGTH_MAX], remedy[:ERROR_LENGTH_MAX]
    attempt = f"attempt {claim.attempts} of {claim.attempts_max} failed"
    with db.write() as conn:
        job = {"id": claim.job_id, "study_id": claim.study_id}
        if retry and claim.attempts < claim.attempts_max:
            wait = claiming.wait_seconds(claim.attempts) if backoff_seconds is None else backoff_seconds
            is_released = claiming.release(
                conn,
                JOBS,
                claim.job_id,
                claim.fence,
                "back_off",
                run_after=now_in(conn) + wait,
                error=error,
                remedy=remedy,
                stage=None,
                worker=None,
            )
            if is_released:
                text = f"{attempt}: {error}; next in {wait:.0f} s"
                _note(conn, job, kind="attempt_failed", text=text, source=claim.worker)
            return is_released
        study = end_claim(
            conn,
            JOBS,
            claim.job_id,
            claim.fence,
            "fail",
            study_id=claim.study_id,
            error=error,
            remedy=remedy,
            stage=None,
        )
        if study is None:
            return False
        line = Line("attempt_failed", f"{attempt}: {error}", claim.worker, claim.study_id, claim.job_id)
        settle_study(conn, study, claim.revision, [line])
        return True


def give_back(db: Database, claim: Claim) -> bool:
    """Leave a job to others at once, when this worker is told to stop; the attempt is not counted.

    Returns False when the lease was lost.
    """
    with db.write() as conn:
        is_released = claiming.release(
            conn,
            JOBS,
            claim.job_id,
            claim.fence,
            "give_back",
            worker=None,
            stage=None,
        )
        if is_released:
            job = {"id": claim.job_id, "study_id": claim.study_id}
            _note(conn, job, kind="given_back", text=f"given back by {claim.worker}", source=claim.worker)
            hint_on_commit(conn, "jobs")
        return is_released


def reap_expired(db: Database) -> list[int]:
    """Free the jobs and deliveries whose lease ended; returns the ids of the jobs.

    A job that lost its worker on its last attempt is failed: what kills workers must not do so for ever. One
    transaction each, so that no two studies are locked at once.
    """
    reaped: list[int] = []
    while (job_id := _reap_job(db)) is not None:
        reaped.append(job_id)
    while _reap_delivery(db):
        pass
    return reaped


def _reap_job(db: Database) -> int | None:
    with db.write() as conn:
        job = claiming.first_lapsed(conn, JOBS)
        if job is None:
            return None
        attempt = f"attempt {job['attempts']} of {job['attempts_max']}"
        text = f"{attempt} of {job['worker']} lost: its lease ended"
        if job["attempts"] < job["attempts_max"]:
            # No wait on top: the lease was one.
            claiming.release(conn, JOBS, job["id"], None, "expire", stage=None, worker=None, error=_LOST)
            _note(conn, job, kind="expired", text=text, source="preread")
            hint_on_commit(conn, "jobs")
        else:
            ending = {"error": _LOST, "remedy": _LOST_REMEDY, "stage": None}
            study = end_claim(conn, JOBS, job["id"], None, "expire_last", study_id=job["study_id"], **ending)
            assert study is not None, "its row is locked"
            line = Line("expired", text, "preread", job["study_id"], job["id"])
            settle_study(conn, study, job["revision"], [line])
        return int(job["id"])


def _reap_delivery(db: Database) -> bool:
    with db.write() as conn:
        delivery = claiming.first_lapsed(conn, DELIVERIES)
        if delivery is None:
            return False
        claiming.release(conn, DELIVERIES, delivery["id"], None, "expire", worker=None)
        hint_on_commit(conn, "deliveries")
        return True


def list_jobs(
    db: Database,
    *,
    states: Sequence[JobState] | None = None,
    study_id: int | None = None,
    limit: int = 200,
) -> list[JobRecord]:
    """Jobs, newest first."""
    query = rows.JOBS.order_by(JOB.c.id.desc()).limit(limit)
    if states is not None:
        query = query.where(JOB.c.state.in_(states))
    if study_id is not None:
        query = query.where(JOB.c.study_id == study_id)
    with db.read() as conn:
        return [rows.job(row) for row in conn.execute(query).mappings()]


def show_job(db: Database, job_id: int) -> JobRecord | None:
    """One job; None: it is not here."""
    with db.read() as conn:
        row = conn.execute(rows.JOBS.where(JOB.c.id == job_id)).mappings().first()
    return None if row is None else rows.job(row)
