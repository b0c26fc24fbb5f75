"""Connections to Postgres: what each is opened with, and how one that died is noticed before it is used.

A connection that waits in the pool is never written to, so a server that was stopped, restarted or that ended
this session has left something to read on its socket: the end of the stream, or its last words. Looking costs
a system call where asking costs a round trip of each transaction. A server that vanished without a word
leaves nothing, so a connection that was not used for a while is asked all the same.
"""

import select
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

# A server that vanished is noticed in seconds; a process of ours that hangs inside a transaction must not
# hold a study for ever.
OPTIONS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "application_name": "preread",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c lock_timeout=30s -c idle_in_transaction_session_timeout=60s",
}

# Shorter than any server needs to come back on another machine under the same address.
ASKED_AFTER_SECONDS = 2.0


def open_postgres(url: sa.URL, *, connections_max: int) -> sa.Engine:
    """The engine of a Postgres; it is not contacted yet."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,  # an error's text must not show a patient
        pool_size=connections_max,
        max_overflow=0,
        isolation_level="READ COMMITTED",
        connect_args=dict(OPTIONS),
    )

    @event.listens_for(engine, "checkin")
    def _note_use(_: Any, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _replace_the_dead(connection: Any, record: sa.pool.ConnectionPoolEntry, _: Any) -> None:
        # A server that was restarted must not cost an attempt: the pool connects anew.
        used_at = record.info.get("used_at")
        if used_at is None or (time.monotonic() - used_at < ASKED_AFTER_SECONDS and _is_silent(connection)):
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError from error

    return engine


def set_autocommit(conn: sa.Connection, is_on: bool) -> None:
    """Have the driver leave out BEGIN and COMMIT, or not, in the transaction that begins; no round trip."""
    connection: Any = conn.connection.dbapi_connection
    if connection.autocommit != is_on:
        connection.autocommit = is_on


def _is_silent(connection: Any) -> bool:
    """Whether there is nothing to read on an idle connection, not even its end."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
