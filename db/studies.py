"""What every transaction does to the study it concerns: lock it, move it on, find out how it ended.

All functions run inside a transaction of the caller, who holds the job or delivery first and the study second
(see `db.engine` on the order of locks).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from db import rows, tables
from db.claiming import Queue, release, release_parameters, release_statement
from db.engine import NOTIFY, Database, channel_name, database_of, hint_on_commit, now_in
from db.records import DeliveryRecord, JobSoFar
from db.states import next_state, states_before, study_outcome
from db.timeline import Line, lines_parameters, lines_statement, note

STUDY, JOB, DELIVERY = tables.STUDY, tables.JOB, tables.DELIVERY

# Plans are short and bring work for others, so a plan goes before analyses of its own priority; not before
# those of a higher one, so that an urgent analysis does not wait behind the plans of a morning's rush.
PLAN_AHEAD = 1

_EVENT_OF_OUTCOME = {"delivered": "done", "not_analysed": "not_analysed", "failed": "failed"}


# As few columns as do: the driver describes each of them anew for each result.
_LOCKED_COLUMNS = (
    *(STUDY.c.id, STUDY.c.revision, STUDY.c.state, STUDY.c.outcome, STUDY.c.reason_code, STUDY.c.reason),
    *(STUDY.c.priority, STUDY.c.partial, STUDY.c.whole_at),
)


def locked_study(conn: sa.Connection, study_id: int) -> rows.Row:
    """What decides about a study, locked until the transaction ends."""
    study = database_of(conn).prepared(_lock).first(conn, locked_id=study_id)
    assert study is not None, f"study {study_id} is gone under a job or delivery of its own"
    return study


def _lock(_: Database) -> sa.Select[Any]:
    return sa.select(*_LOCKED_COLUMNS).where(STUDY.c.id == sa.bindparam("locked_id")).with_for_update()


def end_claim(
    conn: sa.Connection,
    queue: Queue,
    row_id: int,
    fence: int | None,
    event: str,
    *,
    study_id: int,
    **values: Any,
) -> rows.Row | None:
    """`claiming.release` of a job or delivery, then `locked_study` of its study; None: the claim was lost.

    On Postgres in one round trip, and in this order: what the UPDATE returns is joined before it is locked.
    """
    if database_of(conn).dialect == "sqlite":
        is_released = release(conn, queue, row_id, fence, event, **values)
        return locked_study(conn, study_id) if is_released else None
    statement = database_of(conn).prepared(_release_and_lock, queue, event, tuple(values), fence is not None)
    return statement.first(conn, **release_parameters(row_id, fence, values))


def _release_and_lock(
    db: Database, queue: Queue, event: str, columns: tuple[str, ...], is_fenced: bool
) -> sa.Select[Any]:
    statement = release_statement(db, queue, event, columns, is_fenced)
    released = statement.returning(queue.table.c.study_id).cte("released")
    joined = sa.join(STUDY, released, STUDY.c.id == released.c.study_id)
    return sa.select(*_LOCKED_COLUMNS).select_from(joined).with_for_update(of=STUDY)


def locked_study_by_uid(conn: sa.Connection, study_uid: str) -> sa.RowMapping | None:
    """The same by Study Instance UID; None: it is not here."""
    query = sa.select(STUDY).where(STUDY.c.study_uid == study_uid).with_for_update()
    return conn.execute(query).mappings().first()


def move_study(conn: sa.Connection, study: rows.Row, event: str, **values: Any) -> None:
    """Let `event` happen to a locked study."""
    state = next_state("study", study["state"], event)
    conn.execute(sa.update(STUDY).where(STUDY.c.id == study["id"]).values(state=state, **values))


def open_revision(
    conn: sa.Connection,
    study: rows.Row,
    event: Literal["image", "asked_again"],
    **values: Any,
) -> int:
    """Begin the next revision of a locked study: what still waits of older ones will not run."""
    revision = int(study["revision"]) + 1
    fresh = {"outcome": None, "reason_code": None, "reason": None, "done_at": None, "partial": False}
    move_study(conn, study, event, revision=revision, **{**fresh, "whole_at": None, **values})
    supersede(conn, study["id"], revision)
    return revision


def supersede(conn: sa.Connection, study_id: int, revision: int) -> None:
    """Cancel the queued jobs of revisions before `revision`; running ones may finish and keep their results.

    A job that is being claimed at this moment is skipped, not waited for: its claimer waits for our study.
    """
    waiting = (
        sa.select(JOB.c.id)
        .where(JOB.c.study_id == study_id, JOB.c.revision < revision)
        .where(JOB.c.state.in_(states_before("job", "supersede")))
        .with_for_update(skip_locked=True)
    )
    ids = conn.execute(waiting).scalars().all()
    if ids:
        conn.execute(
            sa.update(JOB)
            .where(JOB.c.id.in_(ids))
            .values(
                state=next_state("job", "queued", "supersede"),
                reason_code="SUPERSEDED",
                reason=f"Revision {revision} of the study replaced this one before the job began.",
                done_at=now_in(conn),
            )
        )
        text = f"{len(ids)} waiting job{'s' if len(ids) > 1 else ''} of older revisions will not run"
        note(conn, study_id=study_id, kind="superseded", text=text, source="preread")


def resume_study(conn: sa.Connection, study: rows.Row) -> None:
    """A job or delivery of the current revision of a locked study was taken up again."""
    move_study(conn, study, "resumed", outcome=None, reason_code=None, reason=None, done_at=None)


def settle_study(conn: sa.Connection, study: rows.Row, revision: int, lines: Sequence[Line] = ()) -> None:
    """After something of `revision` ended: show its findings, and finish the study when nothing is open.

    The study is locked, so of two last jobs that end at once the second sees the first. A study that still
    receives shows what was started early and is not finished. `lines` go to the timeline before its own.
    """
    if study["revision"] != revision:
        _write(conn, study, {}, lines)
        return  # an older revision: its results remain, the study goes on with the new one
    jobs, deliveries = _of_revision(conn, study["id"], revision)
    shown = _summary(jobs)
    end = None if study["state"] == "receiving" else study_outcome(jobs, deliveries)
    if end is None:
        _write(conn, study, shown, lines)
        return
    ending = {"outcome": end.outcome, "reason_code": end.reason_code, "reason": end.sentence}
    repeated = study["state"] == "done" and all(study[name] == value for name, value in ending.items())
    if repeated:
        _write(conn, study, {}, lines)
        return
    state = next_state("study", study["state"], "finished")
    words = {"delivered": "done", "not_analysed": "not analysed", "failed": "failed"}[end.outcome]
    line = Line(_EVENT_OF_OUTCOME[end.outcome], f"{words}: {end.sentence}", "preread", study["id"])
    _write(conn, study, {"state": state, **ending, **shown}, [*lines, line], hint="studies")


_OF_REVISION = sa.and_(
    JOB.c.study_id == sa.bindparam("of_study"), JOB.c.revision == sa.bindparam("of_revision")
)


def _of_revision(
    conn: sa.Connection, study_id: int, revision: int
) -> tuple[list[JobSoFar], list[DeliveryRecord]]:
    """All jobs and deliveries of one revision, in the order they were made."""
    db, which = database_of(conn), {"of_study": study_id, "of_revision": revision}
    jobs = [JobSoFar(**row) for row in db.prepared(_select_jobs).all(conn, **which)]
    if not any(job.has_deliveries for job in jobs):
        return jobs, []
    return jobs, [rows.delivery(row) for row in db.prepared(_select_deliveries).all(conn, **which)]


def _select_jobs(_: Database) -> sa.Select[Any]:
    has_deliveries = sa.exists().where(DELIVERY.c.job_id == JOB.c.id).label("has_deliveries")
    columns = (JOB.c[name] for name in JobSoFar._fields if name != "has_deliveries")
    return sa.select(*columns, has_deliveries).where(_OF_REVISION).order_by(JOB.c.id)


def _select_deliveries(_: Database) -> sa.Select[Any]:
    return sa.select(DELIVERY).join_from(DELIVERY, JOB).where(_OF_REVISION).order_by(DELIVERY.c.id)


def _write(
    conn: sa.Connection,
    study: rows.Row,
    values: Mapping[str, Any],
    lines: Sequence[Line],
    *,
    hint: str | None = None,
) -> None:
    """Columns of a study, lines of the timeline and a hint on commit; on Postgres in one round trip."""
    db, told = database_of(conn), lines_parameters(lines)
    new = {"study_row": study["id"], **{f"new_{name}": value for name, value in values.items()}}
    if db.dialect == "postgresql" and values and lines:
        notice = {"channel": channel_name(hint)} if hint else {}
        statement = db.prepared(_write_all, tuple(values), len(lines), hint is not None)
        statement.changed(conn, **new, **told, **notice)
        return
    if values:
        db.prepared(_write_study, tuple(values)).changed(conn, **new)
    if lines:
        db.prepared(lines_statement, len(lines)).changed(conn, **told)
    if hint:
        hint_on_commit(conn, hint)


def _write_study(db: Database, columns: tuple[str, ...]) -> sa.Update:
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in columns}
    if "state" in columns:  # it is done
        values["done_at"] = db.clock()
    return sa.update(STUDY).where(STUDY.c.id == sa.bindparam("study_row")).values(values)


def _write_all(
    db: Database, columns: tuple[str, ...], lines: int, is_hint: bool
) -> sa.Select[Any] | sa.Insert:
    shown, told = _write_study(db, columns).cte("shown"), lines_statement(db, lines)
    return NOTIFY.add_cte(shown, told.cte("told")) if is_hint else told.add_cte(shown)


def has_findings(findings: Mapping[str, Any] | None) -> bool:
    """Whether a job has something to look at: a lesion, structures, or a class other than normal.

    A model of structures never says that there is no finding, also where it outlined none of them.
    """
    if not findings:
        return False
    outlined = findings.get("lesions") or findings.get("structures")
    return bool(outlined) or findings.get("class") not in (None, "normal")


def score_of(findings: Mapping[str, Any] | None) -> float | None:
    """The highest score of a lesion or of the class that was chosen, 0 to 1."""
    if not findings:
        return None
    scores = [lesion["score"] for lesion in findings.get("lesions") or () if lesion.get("score") is not None]
    chosen = (findings.get("scores") or {}).get(findings.get("class"))
    return max([*scores, *([chosen] if chosen is not None else [])], default=None)


def _summary(jobs: list[JobSoFar]) -> dict[str, Any]:
    """Columns of `study` that the worklist shows and sorts by, from the jobs that are done."""
    ranked = []
    for job in jobs:
        if job.kind == "analyse" and job.outcome == "analysed" and job.findings is not None:
            urgency = 2 if job.findings.get("urgent") else int(has_findings(job.findings))
            ranked.append((urgency, score_of(job.findings), str(job.findings.get("headline") or "")))
    if not ranked:
        return {"urgency": 0, "score": None, "headline": ""}
    ranked.sort(key=lambda entry: (entry[0], entry[1] or 0.0), reverse=True)
    headline = "; ".join(text for urgency, _, text in ranked if text and urgency == ranked[0][0])
    return {"urgency": ranked[0][0], "score": ranked[0][1], "headline": headline}
