"""The timeline: append-only, one line for everything a person would ask about later, in plain words."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from db import rows, tables
from db.engine import Database, Target, database_of, writing
from db.records import EventRecord

TEXT_LENGTH_MAX = 2000


def insert_once(conn: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of either database that can say ON CONFLICT."""
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def note(
    target: Target,
    *,
    study_id: int | None = None,
    job_id: int | None = None,
    kind: str,
    text: str,
    source: str,
    once: str | None = None,
) -> None:
    """Add a line.

    Parameters
    ----------
    kind : one word for filters and icons, for example "received", "whole", "claimed", "delivered"
    text : a sentence for people; of patients only what the study page shows anyway
    source : who did it: a peer's AE title, a worker's name, "listener", "person"
    once : a name under which the study gets this line only once, for records that may be replayed
    """
    with writing(target) as conn:
        values = {
            "at": database_of(conn).clock(),
            "study_id": study_id,
            "job_id": job_id,
            "kind": kind,
            "text": text[:TEXT_LENGTH_MAX],
            "source": source,
            "once": once,
        }
        conn.execute(insert_once(conn, tables.EVENT).values(values).on_conflict_do_nothing())


def events_of(db: Database, study_id: int) -> list[EventRecord]:
    """The timeline of a study, oldest first."""
    query = sa.select(tables.EVENT).where(tables.EVENT.c.study_id == study_id)
    with db.read() as conn:
        return [rows.event(row) for row in conn.execute(query.order_by(tables.EVENT.c.id)).mappings()]


def recent_events(db: Database, *, limit: int = 200) -> list[EventRecord]:
    """The newest lines of the node and all studies, newest first."""
    query = sa.select(tables.EVENT).order_by(tables.EVENT.c.id.desc()).limit(limit)
    with db.read() as conn:
        return [rows.event(row) for row in conn.execute(query).mappings()]
