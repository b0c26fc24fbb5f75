"""The claim of a job together with what follows from it: its study is being analysed, the timeline says so.

Postgres does all three in one statement (data-modifying CTEs), which is a transaction of its own: one round
trip. SQLite, which has neither round trips nor such statements, does them one after the other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from db import rows, tables
from db.claiming import JOBS, claim_statement, promote_due, something_due
from db.engine import Database
from db.records import Claim, JobKind
from db.states import next_state
from db.timeline import line_from

JOB, STUDY = tables.JOB, tables.STUDY

_WORKER = sa.bindparam("claimer", type_=tables.Text)
_LEASE_SECONDS = sa.bindparam("lease_seconds", type_=sa.Float)

_RETURNED = (
    *(JOB.c.id, JOB.c.kind, JOB.c.study_id, JOB.c.revision, JOB.c.model, JOB.c.attempts, JOB.c.attempts_max),
    *(JOB.c.fence, JOB.c.lease_until, JOB.c.priority, JOB.c.parameters, JOB.c.created_at),
    sa.select(STUDY.c.study_uid).where(STUDY.c.id == JOB.c.study_id).scalar_subquery().label("study_uid"),
)


def claim_job(db: Database, worker: str, kinds: Sequence[JobKind], lease_seconds: float) -> Claim | None:
    """Claim the first ready job of one of `kinds`; None: there is none."""
    wanted = tuple(sorted(set(kinds)))
    run_first, run_again = (_claiming(db, wanted, unless_due) for unless_due in (True, False))
    with db.write(in_one=True) as conn:
        row = run_first(conn, worker, lease_seconds)
    if row is None:  # nothing is ready, or the first one is not known before what is due was made ready
        with db.write() as conn:
            promote_due(conn, JOBS)
            row = run_again(conn, worker, lease_seconds)
    if row is None:
        return None
    return Claim(
        job_id=row["id"],
        kind=row["kind"],
        study_id=row["study_id"],
        study_uid=row["study_uid"],
        revision=row["revision"],
        model=rows.model_of(row),
        attempts=row["attempts"],
        attempts_max=row["attempts_max"],
        fence=row["fence"],
        lease_until=row["lease_until"],
        priority=row["priority"],
        parameters=row["parameters"],
        worker=worker,
        created_at=rows.aware(row["created_at"]),
    )


def _claiming(
    db: Database, kinds: tuple[JobKind, ...], unless_due: bool
) -> Callable[[sa.Connection, str, float], rows.Row | None]:
    """How to claim; prepared before the transaction, in which other writers wait for this one."""
    if db.dialect == "postgresql":
        in_one = db.prepared(_all_in_one, kinds, unless_due)
        return lambda conn, worker, seconds: in_one.first(conn, claimer=worker, lease_seconds=seconds)
    claim = db.prepared(_claim_alone, kinds, unless_due)
    moved, told = db.prepared(_study_of_claimed), db.prepared(_line_of_claimed)

    def one_after_the_other(conn: sa.Connection, worker: str, seconds: float) -> rows.Row | None:
        row = claim.first(conn, claimer=worker, lease_seconds=seconds)
        if row is not None:
            moved.changed(conn, claimed_id=row["id"])
            told.changed(conn, claimed_id=row["id"], claimer=worker)
        return row

    return one_after_the_other


def _claim_alone(db: Database, kinds: tuple[JobKind, ...], unless_due: bool) -> ReturningUpdate[Any]:
    now = db.clock()
    chosen = sa.or_(sa.false(), *(JOB.c.kind == tables.written_out(kind) for kind in kinds))
    return claim_statement(
        JOBS,
        worker=_WORKER,
        now=now,
        lease_seconds=_LEASE_SECONDS,
        only=[] if kinds == ("analyse", "plan") else [chosen],
        unless=something_due(JOBS, now=now) if unless_due else None,
        returning=_RETURNED,
    )


def _all_in_one(db: Database, kinds: tuple[JobKind, ...], unless_due: bool) -> sa.Select[Any]:
    claimed = _claim_alone(db, kinds, unless_due).cte("claimed")
    moved, told = _moves_study(claimed), _tells(db, claimed)
    return sa.select(claimed).add_cte(moved.cte("moved"), told.cte("told"))


_CLAIMED = sa.select(JOB).where(JOB.c.id == sa.bindparam("claimed_id")).subquery("claimed")


def _study_of_claimed(_: Database) -> sa.Update:
    return _moves_study(_CLAIMED)


def _line_of_claimed(db: Database) -> sa.Insert:
    return _tells(db, _CLAIMED)


def _moves_study(claimed: sa.FromClause) -> sa.Update:
    return (
        sa.update(STUDY)
        .where(STUDY.c.id == claimed.c.study_id, STUDY.c.revision == claimed.c.revision)
        .where(STUDY.c.state == tables.written_out("whole"))
        .values(state=tables.written_out(next_state("study", "whole", "claimed")))
    )


def _tells(db: Database, claimed: sa.FromClause) -> sa.Insert:
    again = tables.written_out(", attempt ") + sa.cast(claimed.c.attempts, sa.Text)
    again = again + tables.written_out(" of ") + sa.cast(claimed.c.attempts_max, sa.Text)
    text = rows.job_in_words(claimed) + tables.written_out(" claimed by ") + _WORKER
    text = text + sa.case((claimed.c.attempts > 1, again), else_=tables.NOTHING)
    return line_from(claimed, db, kind="claimed", text=text, said_by=_WORKER)
