"""Read-only queries for the page and the command line: one function per screen.

The worklist is sorted by the urgency of what was found, then by time. `study.urgency`, `score` and `headline`
are kept up to date by the transactions that end jobs (`db.studies`), so that this order is an index.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database, now_in
from db.migrations.running import current_revision, newest_revision
from db.records import WorkerRecord
from db.refusals import list_refused
from db.views import (
    NodeStatus,
    ParkedDelivery,
    PeerActivity,
    QueueView,
    StudyView,
    WorklistRow,
)
from db.workers import list_workers

STUDY, SERIES, JOB = tables.STUDY, tables.SERIES, tables.JOB
RESULT, DELIVERY, CONFLICT = tables.RESULT, tables.DELIVERY, tables.CONFLICT

Chip = Literal["attention", "findings", "none", "not_analysed", "failed", "running", "all"]
DAY_SECONDS = 86400.0
WORKER_SILENT_SECONDS = 600.0


def _chip(chip: Chip) -> sa.ColumnElement[bool]:
    """Which studies a filter chip of the worklist shows."""
    delivered = STUDY.c.outcome == "delivered"
    conditions: dict[str, sa.ColumnElement[bool]] = {
        "attention": sa.or_(STUDY.c.outcome == "failed", STUDY.c.urgency == 2),
        "findings": STUDY.c.urgency >= 1,
        "none": sa.and_(delivered, STUDY.c.urgency == 0),
        "not_analysed": STUDY.c.outcome == "not_analysed",
        "failed": STUDY.c.outcome == "failed",
        "running": STUDY.c.state != "done",
        "all": sa.true(),
    }
    return conditions[chip]


def _matching(search: str | None) -> sa.ColumnElement[bool]:
    """Accession, id or name contain the words, in any case; or it is the study's UID."""
    if search is None or not search.strip():
        return sa.true()
    words = search.strip()
    contains = [
        column.icontains(words, autoescape=True)
        for column in (STUDY.c.accession, STUDY.c.patient_id, STUDY.c.patient_name)
    ]
    return sa.or_(STUDY.c.study_uid == words, *contains)


def _since(since: float | None) -> sa.ColumnElement[bool]:
    return sa.true() if since is None else STUDY.c.last_received_at >= since


def studies(
    db: Database,
    *,
    chip: Chip = "all",
    search: str | None = None,
    since: float | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[WorklistRow]:
    """Lines of the worklist, the most urgent finding first, then the newest.

    Parameters
    ----------
    search : part of accession number, patient id or name, or a whole Study Instance UID
    since : only studies that received something since (seconds since 1970)
    """
    query = (
        sa.select(STUDY)
        .where(_chip(chip), _matching(search), _since(since))
        .order_by(STUDY.c.urgency.desc(), STUDY.c.last_received_at.desc(), STUDY.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    with db.read() as conn:
        return _lines(conn, conn.execute(query).mappings().all())


def _lines(conn: sa.Connection, found: Sequence[sa.RowMapping]) -> list[WorklistRow]:
    ids = [row["id"] for row in found]
    current = sa.and_(JOB.c.study_id == STUDY.c.id, JOB.c.revision == STUDY.c.revision)
    jobs = _by_study(
        conn,
        sa.select(JOB.c.study_id, JOB.c.kind, JOB.c.model, JOB.c.state, JOB.c.stage)
        .join(STUDY, current)
        .where(JOB.c.study_id.in_(ids))
        .order_by(JOB.c.id),
    )
    sends = _by_study(
        conn,
        sa.select(DELIVERY.c.study_id, DELIVERY.c.destination, DELIVERY.c.state, DELIVERY.c.delivered_at)
        .join(JOB, JOB.c.id == DELIVERY.c.job_id)
        .join(STUDY, current)
        .where(DELIVERY.c.study_id.in_(ids))
        .order_by(DELIVERY.c.id),
    )
    conflicts = _by_study(
        conn,
        sa.select(CONFLICT.c.study_id, sa.func.count().label("count"))
        .where(CONFLICT.c.study_id.in_(ids))
        .group_by(CONFLICT.c.study_id),
    )
    return [
        _line(row, jobs.get(row["id"], []), sends.get(row["id"], []), conflicts.get(row["id"], []))
        for row in found
    ]


def _by_study(conn: sa.Connection, query: sa.Select[Any]) -> dict[int, list[sa.RowMapping]]:
    grouped: dict[int, list[sa.RowMapping]] = {}
    for row in conn.execute(query).mappings():
        grouped.setdefault(row["study_id"], []).append(row)
    return grouped


def _line(
    row: sa.RowMapping,
    jobs: list[sa.RowMapping],
    sends: list[sa.RowMapping],
    conflicts: list[sa.RowMapping],
) -> WorklistRow:
    stage = next((job["stage"] or job["state"] for job in jobs if job["state"] == "running"), None)
    if stage is None and any(job["state"] == "queued" for job in jobs):
        stage = "queued"
    delivered = [send["delivered_at"] for send in sends if send["state"] == "delivered"]
    ended = max(delivered, default=row["done_at"])
    return WorklistRow(
        study=rows.study(row),
        headline=row["headline"],
        urgent=row["urgency"] == 2,
        has_findings=row["urgency"] >= 1,
        score=row["score"],
        models=tuple(job["model"] for job in jobs if job["kind"] == "analyse"),
        stage=stage,
        conflicts=conflicts[0]["count"] if conflicts else 0,
        delivered=len(delivered),
        deliveries=len(sends),
        destinations=tuple(dict.fromkeys(send["destination"] for send in sends)),
        seconds=ended - row["last_received_at"] if row["state"] == "done" and ended is not None else None,
    )


def counts(db: Database, *, since: float | None = None) -> dict[str, int]:
    """How many studies each chip of the worklist shows."""
    columns = [
        sa.func.coalesce(sa.func.sum(sa.case((_chip(chip), 1), else_=0)), 0).label(chip)
        for chip in get_args(Chip)
    ]
    with db.read() as conn:
        row = conn.execute(sa.select(*columns).select_from(STUDY).where(_since(since))).mappings().one()
    return {chip: int(count) for chip, count in row.items()}


def study(db: Database, study_uid: str) -> StudyView | None:
    """Everything the rows say about a study; None: it is not here."""
    with db.read() as conn:
        row = conn.execute(sa.select(STUDY).where(STUDY.c.study_uid == study_uid)).mappings().first()
        if row is None:
            return None

        def of(query: sa.Select[Any], table: sa.Table) -> Sequence[sa.RowMapping]:
            here = query.where(table.c.study_id == row["id"]).order_by(table.c.id)
            return conn.execute(here).mappings().all()

        return StudyView(
            study=rows.study(row),
            series=tuple(map(rows.series, of(sa.select(SERIES), SERIES))),
            selections=tuple(map(rows.selection, of(sa.select(tables.SELECTION), tables.SELECTION))),
            jobs=tuple(map(rows.job, of(rows.JOBS, JOB))),
            results=tuple(map(rows.result, of(rows.RESULTS, RESULT))),
            deliveries=tuple(map(rows.delivery, of(sa.select(DELIVERY), DELIVERY))),
            events=tuple(map(rows.event, of(sa.select(tables.EVENT), tables.EVENT))),
            conflicts=tuple(map(rows.conflict, of(sa.select(CONFLICT), CONFLICT))),
        )


def study_uid_of(db: Database, study_id: int) -> str | None:
    """The UID of a study by the number that stands in addresses of the page; None: it is not here."""
    with db.read() as conn:
        return conn.execute(sa.select(STUDY.c.study_uid).where(STUDY.c.id == study_id)).scalar()


def queue(db: Database, *, limit: int = 100) -> QueueView:
    """What runs, what waits and why, what failed or is parked, and who works."""
    workers = tuple(list_workers(db, seen_within_seconds=WORKER_SILENT_SECONDS))
    first = (JOB.c.priority.desc(), JOB.c.id)
    with db.read() as conn:

        def jobs(state: str, *order: sa.ColumnElement[Any]) -> tuple[Any, ...]:
            query = rows.JOBS.where(_is(JOB, state)).order_by(*order).limit(limit)
            return tuple(rows.job(row) for row in conn.execute(query).mappings())

        return QueueView(
            running=jobs("running", JOB.c.started_at),
            waiting=jobs("queued", *first),
            waiting_count=_count(conn, JOB, "queued"),
            failed=jobs("failed", JOB.c.id.desc()),
            parked=_deliveries(conn, "parked", limit),
            sending=(*_deliveries(conn, "sending", limit), *_deliveries(conn, "queued", limit)),
            sending_count=_count(conn, DELIVERY, "sending") + _count(conn, DELIVERY, "queued"),
            workers=workers,
        )


def _is(table: sa.Table, state: str) -> sa.ColumnElement[bool]:
    return table.c.state == sa.literal(state, literal_execute=True)


def _count(conn: sa.Connection, table: sa.Table, state: str) -> int:
    return conn.execute(sa.select(sa.func.count()).select_from(table).where(_is(table, state))).scalar_one()


def _deliveries(conn: sa.Connection, state: str, limit: int) -> tuple[ParkedDelivery, ...]:
    query = (
        sa.select(DELIVERY, STUDY.c.study_uid, RESULT.c.kind.label("result_kind"), JOB.c.model)
        .join_from(DELIVERY, STUDY, STUDY.c.id == DELIVERY.c.study_id)
        .join(RESULT, RESULT.c.id == DELIVERY.c.result_id)
        .join(JOB, JOB.c.id == DELIVERY.c.job_id)
        .where(_is(DELIVERY, state))
        .order_by(DELIVERY.c.id)
        .limit(limit)
    )
    return tuple(
        ParkedDelivery(rows.delivery(row), row["study_uid"], row["result_kind"], row["model"] or None)
        for row in conn.execute(query).mappings()
    )


def node_status(db: Database) -> NodeStatus:
    """What the database knows of this node: schema, peers, refusals, workers, counts."""
    refused = tuple(list_refused(db))
    workers: tuple[WorkerRecord, ...] = tuple(list_workers(db))
    with db.read() as conn:
        now = now_in(conn)
        version = "SHOW server_version" if db.dialect == "postgresql" else "SELECT sqlite_version()"
        recent = sa.case((STUDY.c.last_received_at >= now - DAY_SECONDS, STUDY.c.instances), else_=0)
        peers = conn.execute(
            sa.select(
                STUDY.c.source_ae,
                sa.func.count().label("studies"),
                sa.func.max(STUDY.c.last_received_at).label("last_received_at"),
                sa.func.sum(recent).label("received_last_day"),
            )
            .group_by(STUDY.c.source_ae)
            .order_by(STUDY.c.source_ae)
        )
        totals = conn.execute(
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(STUDY.c.instances), 0),
                sa.func.coalesce(sa.func.sum(STUDY.c.received_bytes), 0),
            ).select_from(STUDY)
        ).one()
        oldest = conn.execute(sa.select(sa.func.min(JOB.c.created_at)).where(_is(JOB, "queued"))).scalar()
        revision = current_revision(conn)
        return NodeStatus(
            dialect=db.dialect,
            database_version=str(conn.exec_driver_sql(version).scalar()),
            schema_revision=revision or "none",
            schema_is_current=revision == newest_revision(),
            peers=tuple(
                PeerActivity(
                    row.source_ae, row.studies, rows.aware(row.last_received_at), int(row.received_last_day)
                )
                for row in peers
            ),
            refused=refused,
            workers=workers,
            studies=int(totals[0]),
            instances=int(totals[1]),
            stored_bytes=int(totals[2]),
            queued=_count(conn, JOB, "queued"),
            running=_count(conn, JOB, "running"),
            failed=_count(conn, JOB, "failed"),
            deliveries_queued=_count(conn, DELIVERY, "queued"),
            deliveries_parked=_count(conn, DELIVERY, "parked"),
            oldest_queued_at=rows.aware_or_none(oldest),
        )
