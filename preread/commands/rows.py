"""The node's database for commands that read or change rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import PrereadError
from preread.commands.options import settings_and_logs

if TYPE_CHECKING:
    from db.engine import Database


@contextmanager
def opened(config: Path | None) -> "Iterator[Database]":
    """The database of the settings, closed at the end.

    Raises
    ------
    PrereadError
        It was never made, or has another schema: nothing was served from it yet.
    """
    from db.engine import Database

    settings = settings_and_logs(config)
    database = Database.open(settings.database_url)
    try:
        if not database.schema_is_current():
            raise PrereadError(
                "the database has no tables, or those of another version",
                where=settings.database.url or str(settings.state_folder),
                remedy="Start `preread serve` once with these settings; it brings the tables up to date.",
            )
        yield database
    finally:
        database.close()
