"""What a study holds: series, instances, conflicts; and the bytes of any object."""

from pathlib import Path

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database
from db.records import ConflictRecord, InstanceRecord, Location, SeriesRecord
from db.spool_records import BytesMissing, read_record

__all__ = ["ByteStore", "BytesMissing", "conflicts_of", "instance_by_uid", "instances_of", "series_of"]

SERIES, INSTANCE, CONFLICT = tables.SERIES, tables.INSTANCE, tables.CONFLICT


def instances_of(
    db: Database, study_id: int, *, revision: int | None = None, own: bool = False
) -> list[InstanceRecord]:
    """Instances of a study up to a revision (None: all), by series and in the order they came.

    `own`: with our results that came back, which are never a model's input.
    """
    query = rows.INSTANCES.where(INSTANCE.c.study_id == study_id)
    if revision is not None:
        query = query.where(INSTANCE.c.revision <= revision)
    if not own:
        query = query.where(~INSTANCE.c.own)
    with db.read() as conn:
        found = conn.execute(query.order_by(INSTANCE.c.series_id, INSTANCE.c.id)).mappings()
        return [rows.instance(row) for row in found]


def instance_by_uid(db: Database, sop_uid: str) -> list[InstanceRecord]:
    """Instances with a SOP Instance UID: one, unless a peer gave the UID to instances of several studies."""
    query = rows.INSTANCES.where(INSTANCE.c.sop_uid == sop_uid).order_by(INSTANCE.c.id)
    with db.read() as conn:
        return [rows.instance(row) for row in conn.execute(query).mappings()]


def series_of(db: Database, study_id: int) -> list[SeriesRecord]:
    """Series of a study in the order they came, those with our own results too."""
    query = sa.select(SERIES).where(SERIES.c.study_id == study_id).order_by(SERIES.c.id)
    with db.read() as conn:
        return [rows.series(row) for row in conn.execute(query).mappings()]


def conflicts_of(db: Database, study_id: int) -> list[ConflictRecord]:
    """Other bytes that came under UIDs of this study, in the order they came."""
    query = sa.select(CONFLICT).where(CONFLICT.c.study_id == study_id).order_by(CONFLICT.c.id)
    with db.read() as conn:
        return [rows.conflict(row) for row in conn.execute(query).mappings()]


class ByteStore:
    """The bytes that rows point to, read beside live writers and verified each time.

    Parameters
    ----------
    spool_folder : the folder of all stores
    """

    def __init__(self, spool_folder: Path) -> None:
        self._folder = spool_folder

    def read(self, location: Location) -> bytes:
        """The dataset (of an instance) or the Part 10 file (of a result) as it was stored.

        Raises
        ------
        BytesMissing
            The bytes were moved, dropped or damaged. After a move a fresh look at the row finds them.
        """
        return read_record(self._folder, location)[1]

    def read_with_meta(self, location: Location) -> tuple[bytes, bytes]:
        """The record's meta as its writer appended it, and the dataset; raises as `read`."""
        return read_record(self._folder, location)
