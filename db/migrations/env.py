"""Alembic runs this file for every command; the connection comes from `db.migrations.running`."""

from typing import Any

from alembic import context

from config import kill_points
from db.tables import METADATA


def _applied(*_: Any, **__: Any) -> None:
    kill_points.reached("K14")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # Both databases can change a schema inside a transaction; Alembic assumes SQLite cannot.
    transactional_ddl=True,
    on_version_apply=_applied,
)
context.run_migrations()
