"""The timeline: append-only, one line for everything a person would ask about later, in plain words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from db import rows, tables
from db.engine import Database, Target, database_of, writing
from db.records import EventRecord

EVENT = tables.EVENT

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
    line = Line(kind, text, source, study_id=study_id, job_id=job_id)
    with writing(target) as conn:
        statement = database_of(conn).prepared(_one_line)
        statement.changed(conn, **lines_parameters([line]), once_0=once)


def _one_line(db: Database) -> sa.Insert:
    insert = postgresql.insert if db.dialect == "postgresql" else sqlite.insert
    values: dict[str, Any] = {name: sa.bindparam(f"{name}_0") for name in (*Line._fields, "once")}
    return insert(EVENT).values(at=db.clock(), **values).on_conflict_do_nothing()


class Line(NamedTuple):
    """A line as in `note`."""

    kind: str
    text: str
    source: str
    study_id: int | None = None
    job_id: int | None = None

    def columns(self) -> dict[str, Any]:
        """Its columns, but for the time."""
        return {**self._asdict(), "text": self.text[:TEXT_LENGTH_MAX]}


def lines_statement(db: Database, count: int) -> sa.Insert:
    """Adds `count` lines in their order; runs with `lines_parameters`."""
    names = Line._fields
    each = [
        sa.select(
            db.clock().label("at"),
            *(sa.bindparam(f"{name}_{number}", type_=EVENT.c[name].type).label(name) for name in names),
        )
        for number in range(count)
    ]
    return sa.insert(EVENT).from_select(["at", *names], sa.union_all(*each) if count > 1 else each[0])


def lines_parameters(lines: Sequence[Line]) -> dict[str, Any]:
    """What `lines_statement` runs with."""
    return {
        f"{name}_{number}": value
        for number, line in enumerate(lines)
        for name, value in line.columns().items()
    }


def line_from(
    source: sa.FromClause,
    db: Database,
    *,
    kind: str,
    text: sa.ColumnElement[str],
    said_by: sa.ColumnElement[str],
) -> sa.Insert:
    """Adds a line about the job that is the one row of `source` (with `id` and `study_id`)."""
    shortened = sa.func.substr(text, 1, TEXT_LENGTH_MAX)
    return sa.insert(EVENT).from_select(
        ["at", "study_id", "job_id", "kind", "text", "source"],
        sa.select(db.clock(), source.c.study_id, source.c.id, tables.written_out(kind), shortened, said_by),
    )


def events_of(db: Database, study_id: int) -> list[EventRecord]:
    """The timeline of a study, oldest first."""
    query = sa.select(EVENT).where(EVENT.c.study_id == study_id)
    with db.read() as conn:
        return [rows.event(row) for row in conn.execute(query.order_by(EVENT.c.id)).mappings()]


def recent_events(db: Database, *, limit: int = 200) -> list[EventRecord]:
    """The newest lines of the node and all studies, newest first."""
    query = sa.select(EVENT).order_by(EVENT.c.id.desc()).limit(limit)
    with db.read() as conn:
        return [rows.event(row) for row in conn.execute(query).mappings()]
