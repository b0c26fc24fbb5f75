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
    remedy = "Start `preread serve` once with these settings; it brings the tables up to date."
    if settings.database.url is None and not (settings.state_folder / "preread.db").exists():
        # Opening it would make an empty one.
        raise PrereadError("there is no database yet", where=str(settings.state_folder), remedy=remedy)
    database = Database.open(settings.database_url)
    try:
        if not database.schema_is_current():
            raise PrereadError("the database has another schema", where="database.url", remedy=remedy)
        yield database
    finally:
        database.close()
