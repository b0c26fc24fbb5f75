"""A private Postgres for the session, and a fresh database of either kind for each test that asks for one."""

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from db.engine import Database
from db.tables import METADATA

_START_SECONDS = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that runs what is too long for CI."""
    parser.addoption("--long", action="store_true", help="attacks in full size, and tests marked long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without that option the long ones are skipped."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="needs --long"))


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).resolve().parent
    message = "postgresql is not installed (apt install postgresql)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class PostgresServer:
    """A cluster of our own in a temporary folder, reached by a Unix socket only."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        # initdb refuses to run as root; the Debian package brings this user along.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder, self._numbers = folder, itertools.count(1)
        if self._user:
            shutil.chown(folder, self._user)
        initdb = [binaries / "initdb", "-D", folder / "cluster", "-U", "preread", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, user=self._user, cwd=folder)
        settings = {
            "unix_socket_directories": folder,
            "listen_addresses": "",
            "fsync": "off",  # for tests only: nothing here has to survive a power cut
            "full_page_writes": "off",
            "max_connections": 200,
        }
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # The signal ends the server also when the test process is killed.
                ["setpriv", "--pdeathsig", "INT", binaries / "postgres", "-D", folder / "cluster", *options],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=folder,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > ends:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def dsn(self, name: str) -> str:
        """libpq's words for a database of the cluster."""
        return f"host={self._folder} user=preread dbname={name}"

    def url(self, name: str) -> str:
        """SQLAlchemy's URL for a database of the cluster."""
        return f"postgresql+psycopg://preread@/{name}?host={self._folder}"

    def create(self) -> str:
        """A new, empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def empty(self, name: str) -> None:
        """Delete all rows of a database, quicker than making another one."""
        everything = sql.SQL(", ").join(sql.Identifier(table.name) for table in METADATA.sorted_tables)
        with psycopg.connect(self.dsn(name), options="-c lock_timeout=20s") as connection:
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(everything))

    def stop(self) -> None:
        """Fast shutdown."""
        self._process.send_signal(2)
        self._process.wait(timeout=30)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's Postgres."""
    binaries = _postgres_binaries()
    # Not pytest's folder: a socket's path may have 107 bytes only, and the user postgres must reach it.
    with tempfile.TemporaryDirectory(prefix="preread-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(binaries, Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: PostgresServer) -> str:
    name = postgres_server.create()
    database = Database.open(postgres_server.url(name))
    database.migrate()
    database.close()
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, _migrated_postgres: str) -> str:
    """A Postgres database with all tables and no rows."""
    postgres_server.empty(_migrated_postgres)
    return postgres_server.url(_migrated_postgres)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database.open(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A fresh SQLite database with all tables."""
    path = tmp_path / "state" / "preread.db"
    path.parent.mkdir()
    shutil.copy(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database with all tables, once on SQLite and once on Postgres."""
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture
def open_database() -> Iterator[Callable[..., Database]]:
    """`Database.open`, closed at the end of the test."""
    opened: list[Database] = []

    def _open(url: str, **options: object) -> Database:
        opened.append(Database.open(url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield _open
    for database in opened:
        database.close()


@pytest.fixture
def database(database_url: str, open_database: Callable[..., Database]) -> Database:
    """A fresh Database of each kind on its own clock."""
    return open_database(database_url)
