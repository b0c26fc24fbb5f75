"""Open SQLite or Postgres with the settings that make a commit durable; short transactions, one clock.

SQLite: WAL, synchronous FULL (a commit survives a power cut), foreign keys, and BEGIN IMMEDIATE behind a fair
queue (`db.locking`). Postgres (`db.postgres`): READ COMMITTED, synchronous_commit as the server has it (on).
Who needs two rows locked takes them in this order, so that no two transactions wait for each other: first a
job or a delivery, then its study; who holds a study touches jobs and deliveries only with SKIP LOCKED.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import event

from config.errors import PrereadError
from db import postgres
from db.hints import Listening, PostgresListening, SocketListening, send_to_sockets
from db.locking import WriterQueue
from db.prepared import Prepared, run_text

BUSY_MILLISECONDS = 5000

# Of one process; more threads wait for their turn.
CONNECTIONS_MAX = 10

NOTIFY = sa.select(sa.func.pg_notify(sa.bindparam("channel", type_=sa.Text), ""))


class DatabaseUnavailable(PrereadError):
    """The database cannot be reached, or was locked too long; nothing was changed, try again later."""


class Database:
    """One process's way to the tables; open one per process, threads may share it."""

    def __init__(
        self, engine: sa.Engine, *, clock: Callable[[], float] | None, run_folder: Path | None
    ) -> None:
        self._engine = engine
        self._prepared: dict[Hashable, Prepared] = {}
        self._is_connected = False
        self._clock = clock
        self._run_folder = run_folder
        self._pid = os.getpid()
        self._ears = threading.local()
        self._all_ears: list[Listening] = []
        path = engine.url.database
        self._queue = WriterQueue(Path(path)) if self.dialect == "sqlite" and path else None

    @staticmethod
    def open(
        url: str, *, clock: Callable[[], float] | None = None, run_folder: Path | None = None
    ) -> "Database":
        """Open the database; makes the file of SQLite, never tables (that is `migrate`).

        Parameters
        ----------
        url : SQLAlchemy URL, sqlite:///path or postgresql://user@host/name
        clock : seconds since 1970, instead of the database's own clock; for tests
        run_folder : where processes that share a SQLite file meet for hints; None: `run` beside the file

        Raises
        ------
        DatabaseUnavailable
            SQLite's file cannot be made or opened. Postgres is not contacted yet.
        """
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return Database(_open_sqlite(parsed), clock=clock, run_folder=_hint_folder(parsed, run_folder))
        if parsed.get_backend_name() != "postgresql":
            raise PrereadError(
                f"{parsed.get_backend_name()} is not a database preread knows",
                where="database.url",
                remedy="Use sqlite:///path or postgresql://user@host/name.",
            )
        engine = postgres.open_postgres(parsed, connections_max=CONNECTIONS_MAX)
        return Database(engine, clock=clock, run_folder=None)

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which of the two databases this is."""
        return "sqlite" if self._engine.dialect.name == "sqlite" else "postgresql"

    @contextmanager
    def write(self, *, in_one: bool = False) -> Iterator[sa.Connection]:
        """One short write transaction: committed at the end, rolled back on an exception.

        `in_one`: on Postgres the caller executes one statement that changes something, and it commits by
        itself: two round trips less. A hint cannot go with it.

        Raises
        ------
        DatabaseUnavailable
            The database is away or was locked for longer than the busy time-out; nothing was changed.
        """
        with (
            self._queue.place() if self._queue else nullcontext(),
            self._begun("BEGIN IMMEDIATE", in_one=in_one) as conn,
        ):
            conn.info["hints"] = hints = set[str]()
            yield conn
            if self.dialect == "postgresql":
                for channel in sorted(hints):  # sent by the commit, and only by it
                    conn.execute(NOTIFY, {"channel": channel_name(channel)})
        if self.dialect == "sqlite":
            for channel in sorted(hints):
                self.notify(channel)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One read transaction: all its queries see the same state on SQLite."""
        with self._begun("BEGIN") as conn:
            yield conn

    @contextmanager
    def _begun(self, sqlite_begin: str, *, in_one: bool = False) -> Iterator[sa.Connection]:
        if os.getpid() != self._pid:
            raise PrereadError(
                "the database was opened before this process was forked",
                where="db.engine",
                remedy="Open a Database in each process.",
            )
        try:
            with self._engine.connect() as conn, conn.begin():
                conn.info["database"] = self
                self._is_connected = True
                if self.dialect == "sqlite":
                    # One that reads first and then writes would fail, not wait, when another wrote between.
                    run_text(conn, sqlite_begin)
                else:
                    postgres.set_autocommit(conn, in_one)
                yield conn
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            raise DatabaseUnavailable(
                f"the database does not answer ({_first_line(error)})",
                where=self._engine.url.render_as_string(hide_password=True),
                remedy="It is tried again; if this stays, see that it runs, is reachable and has disk space.",
            ) from error

    def prepared(self, write: Callable[..., sa.Select[Any] | sa.UpdateBase], *choices: Hashable) -> Prepared:
        """The statement that `write(self, *choices)` returns, written and compiled by the first call only."""
        key = (write, choices)
        if key not in self._prepared:
            if not self._is_connected:  # compiling needs what is learnt from the server
                with self.read():
                    pass
            self._prepared[key] = Prepared(write(self, *choices), self._engine.dialect)
        return self._prepared[key]

    def now(self, conn: sa.Connection | None = None) -> float:
        """Seconds since 1970 on the database's clock; with `conn`, without a connection of its own."""
        if self._clock is not None:
            return self._clock()
        if self.dialect == "sqlite":  # the file is on this machine, and so is its clock
            return time.time()
        if conn is None:
            with self.read() as own:
                return self.now(own)
        return float(conn.execute(sa.select(self.clock())).scalar_one())

    def clock(self) -> sa.ColumnElement[float]:
        """The database's clock as an expression: no round trip of its own, read whenever a statement runs."""
        if self._clock is not None or self.dialect == "sqlite":
            return sa.bindparam("now", type_=sa.Float, callable_=self.now, unique=True)
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)

    def migrate(self) -> None:
        """Bring the tables to the newest schema; safe to call from several processes at once."""
        from db.migrations.running import upgrade  # migrations need this module

        with self.write() as conn:
            upgrade(conn)

    def schema_is_current(self) -> bool:
        """Whether the tables have the schema this code was written for."""
        from db.migrations.running import current_revision, newest_revision

        with self.read() as conn:
            return current_revision(conn) == newest_revision()

    def notify(self, channel: str) -> None:
        """Hint that there may be something to do; a database that is away makes it a no-op."""
        if self._run_folder is not None:
            send_to_sockets(self._run_folder, channel)
            return
        try:
            with self._begun("BEGIN") as conn:
                conn.execute(NOTIFY, {"channel": channel_name(channel)})
        except DatabaseUnavailable:
            return  # who waits, polls

    def subscribe(self, channel: str) -> None:
        """Keep hints on `channel` for this thread's `wait_for` from now on."""
        self._ear(channel)

    def wait_for(self, channel: str, timeout_seconds: float) -> bool:
        """Wait for a hint; whether one came since this thread subscribed or last waited."""
        return self._ear(channel).wait(timeout_seconds)

    def _ear(self, channel: str) -> Listening:
        ears: dict[str, Listening] = self._ears.__dict__.setdefault("by_channel", {})
        if channel not in ears:
            if self._run_folder is not None:
                ears[channel] = SocketListening(self._run_folder, channel)
            else:
                _, arguments = self._engine.dialect.create_connect_args(self._engine.url)
                ears[channel] = PostgresListening({**arguments, **postgres.OPTIONS}, channel_name(channel))
            self._all_ears.append(ears[channel])
        return ears[channel]

    def close(self) -> None:
        """Give back all connections and sockets."""
        for ear in self._all_ears:
            ear.close()
        self._all_ears.clear()
        self._ears = threading.local()
        self._engine.dispose()


Target = sa.Connection | Database


def database_of(conn: sa.Connection) -> Database:
    """The Database a transaction belongs to."""
    database = conn.info["database"]
    assert isinstance(database, Database)
    return database


def now_in(conn: sa.Connection) -> float:
    """Seconds since 1970 on the database's clock, within a transaction."""
    return database_of(conn).now(conn)


def hint_on_commit(conn: sa.Connection, channel: str) -> None:
    """Let the commit of this transaction hint on `channel`."""
    conn.info["hints"].add(channel)


@contextmanager
def writing(target: Target) -> Iterator[sa.Connection]:
    """The given transaction, or one of its own."""
    if isinstance(target, sa.Connection):
        yield target
    else:
        with target.write() as conn:
            yield conn


def channel_name(name: str) -> str:
    """A channel as Postgres knows it."""
    return f"preread_{name}"


def _first_line(error: Exception) -> str:
    # Only the driver's words: the statement and its parameters could hold a patient's name.
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0].strip()


def _hint_folder(url: sa.URL, run_folder: Path | None) -> Path:
    return (run_folder or Path(url.database or ".").parent / "run") / "hints"


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise PrereadError(
            "SQLite in memory keeps nothing", where="database.url", remedy="Name a file: sqlite:///path."
        )
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Patients' names are inside: nobody else may read it. A file that is there is never opened beside
        # SQLite: closing any descriptor of it drops the locks of every connection of this process (fcntl(2)),
        # and the next process to leave then takes itself for the last and deletes the log under them.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise DatabaseUnavailable(
            f"cannot open the database file ({error.strerror})",
            where=str(path),
            remedy="Give this user write access to the folder, or set state_folder or database.url.",
        ) from error
    engine = sa.create_engine(url, hide_parameters=True, pool_size=CONNECTIONS_MAX, max_overflow=0)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, see Database._begun
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    return engine
