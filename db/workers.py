"""Who works: the last heartbeat of every process of ours."""

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database, now_in
from db.records import WorkerRecord
from db.timeline import insert_once

WORKER = tables.WORKER


def beat(db: Database, worker: WorkerRecord) -> None:
    """Record that a process is alive and what it does; `seen_at` is set here."""
    with db.write() as conn:
        values = {
            "pid": worker.pid,
            "host": worker.host,
            "device": worker.device,
            "stage": worker.stage,
            "job_id": worker.job_id,
            "memory_bytes": worker.memory_bytes,
            "models": list(worker.models),
            "seen_at": now_in(conn),
        }
        statement = insert_once(conn, WORKER).values(name=worker.name, **values)
        conn.execute(statement.on_conflict_do_update(index_elements=[WORKER.c.name], set_=values))


def list_workers(db: Database, *, seen_within_seconds: float | None = None) -> list[WorkerRecord]:
    """Processes by name; `seen_within_seconds` leaves out those that have been silent for longer."""
    with db.read() as conn:
        query = sa.select(WORKER).order_by(WORKER.c.name)
        if seen_within_seconds is not None:
            query = query.where(WORKER.c.seen_at >= now_in(conn) - seen_within_seconds)
        return [
            WorkerRecord(
                name=row["name"],
                pid=row["pid"],
                host=row["host"],
                device=row["device"],
                stage=row["stage"],
                job_id=row["job_id"],
                memory_bytes=row["memory_bytes"],
                models=tuple(row["models"]),
                seen_at=rows.aware(row["seen_at"]),
            )
            for row in conn.execute(query).mappings()
        ]


def forget_worker(db: Database, name: str) -> None:
    """A process said goodbye, or has been silent for long."""
    with db.write() as conn:
        conn.execute(sa.delete(WORKER).where(WORKER.c.name == name))
