"""A private Postgres for the session, and a fresh database of either kind for each test that asks for one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from postgres_server import PostgresServer, postgres_binaries

from db.engine import Database

# A deadline for each example would judge how busy the machine is.
settings.register_profile("preread", deadline=None)
settings.load_profile("preread")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that runs what is too long for CI."""
    parser.addoption("--long", action="store_true", help="attacks in full size, and tests marked long")
    parser.addoption("--seed", type=int, help="the one simulated history to run, as a failure named it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without that option the long ones are skipped."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="needs --long"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's Postgres."""
    binaries = postgres_binaries()
    if binaries is None:
        message = "postgresql is not installed (apt install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
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
