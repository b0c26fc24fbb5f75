"""The tables as migrated, on both databases."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from db.engine import Database
from db.migrations.running import upgrade
from db.tables import METADATA

Opener = Callable[..., Database]


def _definitions(conn: sa.Connection) -> list[tuple[str, ...]]:
    """Everything the database says about its schema, in its own words."""
    queries = [
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default) "
        "FROM information_schema.columns WHERE table_schema = 'public'",
    ]
    if conn.dialect.name == "sqlite":
        queries = ["SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"]
    found = [tuple(map(str, row)) for query in queries for row in conn.exec_driver_sql(query)]
    return sorted((row[0], _normal(row[1])) for row in found if "alembic_version" not in row[0] + row[1])


def _normal(words: str) -> str:
    """Without quotes, and with the parts of a CREATE TABLE in one order."""
    parts = [" ".join(part.split()) for part in re.split(r", *\n", words.replace('"', ""))]
    return ", ".join(sorted(part.strip("() ") for part in parts))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server = request.getfixturevalue("postgres_server")
    return str(server.url(server.create()))


@pytest.fixture
def migrated(empty_url: str, request: pytest.FixtureRequest, open_database: Opener) -> Database:
    kind = "sqlite_url" if empty_url.startswith("sqlite") else "postgres_url"
    return open_database(request.getfixturevalue(kind))


def test_migrated_schema_equals_the_metadata(
    empty_url: str, open_database: Opener, migrated: Database
) -> None:
    made = open_database(empty_url)
    with made.write() as conn:
        METADATA.create_all(conn)
        expected = _definitions(conn)
    with migrated.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), METADATA) == []
        assert _definitions(conn) == expected


def test_schema_is_current_only_after_migrating(empty_url: str, open_database: Opener) -> None:
    database = open_database(empty_url)
    assert not database.schema_is_current()
    database.migrate()
    assert database.schema_is_current()
    database.migrate()
    assert database.schema_is_current()


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    code = f"from db.engine import Database; d = Database.open({empty_url!r}); d.migrate(); d.close()"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0, 0]


def test_migration_killed_inside_leaves_no_half_schema(empty_url: str, open_database: Opener) -> None:
    code = f"from db.engine import Database; Database.open({empty_url!r}).migrate()"
    killed = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PREREAD_KILL_POINT": "K14"}, check=False, timeout=60
    )
    assert killed.returncode == 137
    database = open_database(empty_url)
    with database.read() as conn:
        assert sa.inspect(conn).get_table_names() == []
    database.migrate()
    assert database.schema_is_current()


def test_notices_of_an_older_schema_are_kept_when_steps_may_be_pushed(
    empty_url: str, open_database: Opener
) -> None:
    database = open_database(empty_url)
    with database.write() as conn:
        upgrade(conn, "0004")
        conn.exec_driver_sql(
            "INSERT INTO notice "
            "(kind, source_ae, sop_uid, study_uid, state, named, address, received_at, told) "
            "VALUES ('mpps', 'CT', '1.7', '1.2', 'completed', '{}', '10.0.0.7', 1.5, false)"
        )
    database.migrate()
    with database.write() as conn:
        conn.exec_driver_sql("UPDATE notice SET state = 'input_ready', kind = 'ups'")
        (row,) = conn.exec_driver_sql("SELECT id, kind, source_ae, sop_uid, received_at FROM notice")
    assert tuple(row) == (1, "ups", "CT", "1.7", 1.5)


def test_results_and_deliveries_of_an_older_schema_are_kept_when_heat_maps_come(
    empty_url: str, open_database: Opener
) -> None:
    database = open_database(empty_url)
    with database.write() as conn:
        upgrade(conn, "0005")
        older = sa.MetaData()
        older.reflect(conn)
        study = _filled(conn, older.tables["study"], state="done")
        job = _filled(conn, older.tables["job"], study_id=study, kind="analyse", state="done")
        result = _filled(
            conn, older.tables["result"], study_id=study, job_id=job, kind="SEG", sop_uid="1.9", offset=77
        )
        delivery = older.tables["delivery"]
        _filled(conn, delivery, study_id=study, job_id=job, result_id=result, state="queued")
        before = conn.execute(sa.select(delivery)).one()
    database.migrate()
    with database.write() as conn:
        assert conn.execute(sa.select(delivery)).one() == before
        conn.exec_driver_sql("UPDATE result SET kind = 'HEAT'")
        (row,) = conn.exec_driver_sql('SELECT id, kind, sop_uid, "offset" FROM result')
        assert tuple(row) == (result, "HEAT", "1.9", 77)
    with pytest.raises(Exception, match="ck_result_kind"), database.write() as conn:
        conn.exec_driver_sql("UPDATE result SET kind = 'PM'")
    with pytest.raises(Exception, match=r"(?i)foreign key"), database.write() as conn:
        conn.exec_driver_sql("DELETE FROM result")


def _filled(conn: sa.Connection, table: sa.Table, **values: object) -> int:
    """A row with something in every column that needs it; returns its id."""
    for column in table.columns:
        is_free = column.nullable or column.primary_key or column.server_default is not None
        if column.name not in values and not is_free:
            is_json = isinstance(column.type, sa.JSON)
            kind = dict if is_json else column.type.python_type
            values[column.name] = "x" if kind is str else kind()
    return int(conn.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one())
