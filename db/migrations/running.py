"""Run Alembic from the installed package, on a connection whose transaction is already open."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

# Any number, the same for all of preread: processes that migrate at once wait for one another.
_ADVISORY_LOCK = 7_733_236


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def upgrade(conn: sa.Connection, revision: str = "head") -> None:
    """Apply all missing revisions, up to one, within the open transaction: all or none."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, revision)


def current_revision(conn: sa.Connection) -> str | None:
    """The revision of the tables; None: there are none yet."""
    return MigrationContext.configure(conn).get_current_revision()


def newest_revision() -> str | None:
    """The revision this code was written for."""
    return ScriptDirectory.from_config(_config()).get_current_head()
