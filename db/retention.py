"""Drop finished studies: the archive is the place for keeps. What becomes of their bytes: `db.segments`."""

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database
from db.records import FinishedStudy, Segment
from db.timeline import note

STUDY, JOB, DELIVERY, NOTICE = tables.STUDY, tables.JOB, tables.DELIVERY, tables.NOTICE
_OPEN_JOBS, _OPEN_DELIVERIES = ("queued", "running"), ("queued", "sending")

# Children before parents, for the foreign keys.
_TABLES_OF_A_STUDY = (
    tables.EVENT,
    tables.DELIVERY,
    tables.RESULT,
    tables.SELECTION,
    tables.JOB,
    tables.CONFLICT,
    tables.INSTANCE,
    tables.SERIES,
)
_TABLES_WITH_BYTES = (tables.INSTANCE, tables.CONFLICT, tables.RESULT)


def finished_studies(db: Database, older_than: float, *, limit: int = 1000) -> list[FinishedStudy]:
    """Studies that were done before `older_than` (seconds since 1970), oldest first."""
    stored = [
        sa.select(sa.func.coalesce(sa.func.sum(table.c.length), 0))
        .where(table.c.study_id == STUDY.c.id)
        .scalar_subquery()
        for table in _TABLES_WITH_BYTES
    ]
    query = (
        sa.select(STUDY.c.id, STUDY.c.study_uid, STUDY.c.done_at, sum(stored[1:], stored[0]).label("stored"))
        .where(STUDY.c.state == sa.literal("done", literal_execute=True), STUDY.c.done_at < older_than)
        .order_by(STUDY.c.done_at)
        .limit(limit)
    )
    with db.read() as conn:
        return [
            FinishedStudy(row.id, row.study_uid, rows.aware(row.done_at), int(row.stored))
            for row in conn.execute(query)
        ]


def forget_study(db: Database, study_id: int) -> list[Segment] | None:
    """Drop every row of a finished study; returns the segment lives its bytes lay in.

    Of its timeline one line without the study remains. None: it is not finished (any more), or something of
    an older revision still runs or is still being sent; nothing was changed.
    """
    with db.write() as conn:
        # Rows that others hold are not waited for: they hold a job and may wait for this study.
        query = sa.select(STUDY).where(STUDY.c.id == study_id).with_for_update(skip_locked=True)
        study = conn.execute(query).mappings().first()
        if study is None or study["state"] != "done" or _anything_open(conn, study_id):
            return None
        owners: set[Segment] = set()
        for table in _TABLES_WITH_BYTES:
            lives = sa.select(table.c.store, table.c.segment, table.c.epoch).distinct()
            found = conn.execute(lives.where(table.c.study_id == study_id))
            owners |= {(row.store, row.segment, row.epoch) for row in found}
        for table in _TABLES_OF_A_STUDY:
            conn.execute(sa.delete(table).where(table.c.study_id == study_id))
        conn.execute(sa.delete(NOTICE).where(NOTICE.c.study_uid == study["study_uid"]))
        conn.execute(sa.delete(STUDY).where(STUDY.c.id == study_id))
        count = study["instances"]
        text = f"a finished study of {count} image{'' if count == 1 else 's'} was dropped by retention"
        note(conn, kind="dropped", text=text, source="retention")
    return sorted(owners)


def _anything_open(conn: sa.Connection, study_id: int) -> bool:
    for table, states in ((JOB, _OPEN_JOBS), (DELIVERY, _OPEN_DELIVERIES)):
        rows_of_study = (
            conn.execute(sa.select(table.c.id).where(table.c.study_id == study_id)).scalars().all()
        )
        # Also locks them all, so that nobody retries one while the study goes.
        free = conn.execute(
            sa.select(table.c.state).where(table.c.study_id == study_id).with_for_update(skip_locked=True)
        ).scalars()
        locked = free.all()
        if len(locked) != len(rows_of_study) or any(state in states for state in locked):
            return True
    return False
