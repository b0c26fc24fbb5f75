"""Claims, leases and fences, the same for jobs and deliveries.

A claim takes the first ready row by priority, then age, in one statement that walks an ordered partial
index (`db.tables`), so that its cost does not grow with the queue. It raises the row's fence; whoever holds
an older fence changes nothing. The attempt is counted by the claim, so that a job that kills its worker
counts too. A lease that ended frees the row only when it is reaped; until then its holder may still extend
or finish.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from db import tables
from db.engine import Database, database_of
from db.states import next_state
from db.tables import written_out

FIRST_WAIT_SECONDS = 30.0
WAIT_SECONDS_MAX = 600.0
DUE_PER_CLAIM = 100  # bounds the work of one claim after a long pause


@dataclass(frozen=True)
class Queue:
    """A table that is claimed from; `due` is NULL for what is ready."""

    name: Literal["job", "delivery"]
    table: sa.Table
    due: sa.Column[Any]
    claimed: str


JOBS = Queue("job", tables.JOB, tables.JOB.c.run_after, "running")
DELIVERIES = Queue("delivery", tables.DELIVERY, tables.DELIVERY.c.next_at, "sending")


def _is(queue: Queue, state: str) -> sa.ColumnElement[bool]:
    # Written out, not a parameter: a plan made for any value could not use a partial index.
    return queue.table.c.state == written_out(state)


def claim_statement(
    queue: Queue,
    *,
    worker: str | sa.BindParameter[str],
    now: sa.ColumnElement[float],
    lease_seconds: float | sa.BindParameter[float],
    only: Sequence[sa.ColumnElement[bool]] = (),
    unless: sa.Exists | None = None,
    returning: Sequence[sa.ColumnElement[Any]] = (),
) -> ReturningUpdate[Any]:
    """The claim; returns all columns unless told which.

    `only`: conditions that step over rows, so they are flat only where those are few. `unless`: when nothing
    shall be claimed.
    """
    table = queue.table
    first = (
        sa.select(table.c.id)
        .where(_is(queue, "queued"), queue.due.is_(None), *only)
        .order_by(table.c.priority.desc(), table.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    values: dict[str, Any] = {
        "state": written_out(next_state(queue.name, "queued", "claim")),
        "attempts": table.c.attempts + 1,
        "fence": table.c.fence + 1,
        "lease_until": now + lease_seconds,
        "worker": worker,
    }
    if queue.name == "job":
        values |= {"started_at": now, "stage": sa.null()}
    statement = sa.update(table).where(table.c.id == first).values(values)
    if unless is not None:
        statement = statement.where(~unless)
    return statement.returning(*returning) if returning else statement.returning(table)


def _due(queue: Queue, now: sa.ColumnElement[float]) -> sa.Select[tuple[int]]:
    return sa.select(queue.table.c.id).where(_is(queue, "queued"), queue.due.is_not(None), queue.due <= now)


def something_due(queue: Queue, *, now: sa.ColumnElement[float]) -> sa.Exists:
    """Whether rows have to be made ready before the first one is claimed: one of them may come before it."""
    return sa.exists(_due(queue, now).correlate(None))


def due_statement(queue: Queue, *, now: sa.ColumnElement[float]) -> sa.Update:
    """Make ready what is due."""
    table = queue.table
    due = _due(queue, now).order_by(queue.due).limit(DUE_PER_CLAIM).with_for_update(skip_locked=True)
    return sa.update(table).where(table.c.id.in_(due)).values({queue.due: None})


def lapsed_statement(queue: Queue, *, now: sa.ColumnElement[float]) -> sa.Select[Any]:
    """The row whose lease ended longest ago."""
    table = queue.table
    return (
        sa.select(table)
        .where(_is(queue, queue.claimed), table.c.lease_until < now)
        .order_by(table.c.lease_until)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def promote_due(conn: sa.Connection, queue: Queue) -> int:
    """Make rows ready whose time has come; an indexed probe when there is none."""
    return conn.execute(due_statement(queue, now=database_of(conn).clock())).rowcount


def claim_first(
    conn: sa.Connection,
    queue: Queue,
    *,
    worker: str,
    lease_seconds: float,
    only: Sequence[sa.ColumnElement[bool]] = (),
) -> sa.RowMapping | None:
    """Claim the first ready row; None: nothing is ready."""
    promote_due(conn, queue)
    statement = claim_statement(
        queue, worker=worker, now=database_of(conn).clock(), lease_seconds=lease_seconds, only=only
    )
    return conn.execute(statement).mappings().first()


def release_statement(
    db: Database, queue: Queue, event: str, columns: Sequence[str], is_fenced: bool
) -> sa.Update:
    """Let `event` end the claim of a row; runs with `release_parameters`."""
    table, state = queue.table, next_state(queue.name, queue.claimed, event)
    statement = sa.update(table).where(table.c.id == sa.bindparam("row_id"), _is(queue, queue.claimed))
    if is_fenced:
        statement = statement.where(table.c.fence == sa.bindparam("held_fence"))
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in columns}
    if queue.name == "job" and state in ("done", "failed"):
        values["done_at"] = db.clock()
    if event == "give_back":  # the attempt is not counted
        values["attempts"] = table.c.attempts - 1
    return statement.values({"state": written_out(state), "lease_until": sa.null(), **values})


def release_parameters(row_id: int, fence: int | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """What `release_statement` runs with: which row, with which fence it is held, and `values`."""
    held = {"row_id": row_id} if fence is None else {"row_id": row_id, "held_fence": fence}
    return {**held, **{f"new_{name}": value for name, value in values.items()}}


def release(
    conn: sa.Connection, queue: Queue, row_id: int, fence: int | None, event: str, **values: Any
) -> bool:
    """Let `event` end a claim; False: the claim was lost, and nothing was changed. A job that ends is dated.

    `fence` None: whoever holds it (reaped, or cancelled by a person).
    """
    statement = database_of(conn).prepared(release_statement, queue, event, tuple(values), fence is not None)
    return statement.changed(conn, **release_parameters(row_id, fence, values)) == 1


def still_held(conn: sa.Connection, queue: Queue, row_id: int, fence: int, **values: Any) -> bool:
    """Change columns of a row whose claim is still held; False: it was lost."""
    table = queue.table
    statement = sa.update(table).where(
        table.c.id == row_id, table.c.fence == fence, _is(queue, queue.claimed)
    )
    return conn.execute(statement.values(values)).rowcount == 1


def first_lapsed(conn: sa.Connection, queue: Queue) -> sa.RowMapping | None:
    """The row whose lease ended longest ago, locked; None: all leases live."""
    return conn.execute(lapsed_statement(queue, now=database_of(conn).clock())).mappings().first()


def wait_seconds(
    attempts: int, *, first_seconds: float = FIRST_WAIT_SECONDS, longest_seconds: float = WAIT_SECONDS_MAX
) -> float:
    """PURE. Wait after the given number of attempts (1 or more): doubles up to the longest."""
    doublings = min(attempts - 1, 32)  # beyond that a float would not care and an integer would only grow
    return min(first_seconds * 2.0**doublings, longest_seconds)
