"""Putting a job into the queue, once."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from db import tables
from db.engine import Target, database_of, hint_on_commit, writing
from db.records import JobKind
from db.timeline import insert_once

JOB = tables.JOB


def enqueue(
    target: Target,
    kind: JobKind,
    study_id: int,
    revision: int,
    model: str | None,
    *,
    priority: int = 0,
    parameters: Mapping[str, Any] | None = None,
    run_after: float | None = None,
    attempts_max: int = 3,
) -> int:
    """Put a job into the queue, once: a repeat returns the id of the one that is there.

    `run_after` is in seconds since 1970 on the database's clock; None: now.
    """
    with writing(target) as conn:
        key = {"study_id": study_id, "revision": revision, "kind": kind, "model": model or ""}
        inserted = conn.execute(
            insert_once(conn, JOB)
            .values(
                **key,
                state="queued",
                priority=priority,
                run_after=run_after,
                attempts=0,
                attempts_max=attempts_max,
                fence=0,
                parameters=dict(parameters or {}),
                created_at=database_of(conn).clock(),
            )
            .on_conflict_do_nothing()
            .returning(JOB.c.id)
        ).scalar()
        if inserted is not None:
            hint_on_commit(conn, "jobs")
            return int(inserted)
        return int(conn.execute(sa.select(JOB.c.id).filter_by(**key)).scalar_one())
