"""SHA-256 of stored datasets, made in calm moments: summing an image costs as much as receiving it.

A row begins without one (empty text). It is needed earlier only when an instance is sent again; then it is
made from the bytes in the spool.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database
from db.records import Location
from db.spool_records import BytesMissing, stored_chunks

INSTANCE = tables.INSTANCE


def stored_digest(spool_folder: Path, location: Location) -> str | None:
    """SHA-256 of the dataset at `location`, in hex; None: its bytes are not there."""
    digest = hashlib.sha256()
    try:
        for chunk in stored_chunks(spool_folder, location):
            digest.update(chunk)
    except BytesMissing:
        return None
    return digest.hexdigest()


def without_digest(db: Database, *, after_id: int, limit: int) -> Sequence[tuple[int, Location]]:
    """Instances that have no digest yet, the oldest first: id and where the bytes lie."""
    query = (
        sa.select(INSTANCE)
        .where(INSTANCE.c.sha256 == sa.literal("", literal_execute=True), INSTANCE.c.id > after_id)
        .order_by(INSTANCE.c.id)
        .limit(limit)
    )
    with db.read() as conn:
        return [(row["id"], rows.location(row)) for row in conn.execute(query).mappings()]


def keep_digests(db: Database, digests: Mapping[int, str]) -> None:
    """Write digests by the id of the instance; what was removed since is passed over."""
    if not digests:
        return
    statement = (
        sa.update(INSTANCE).where(INSTANCE.c.id == sa.bindparam("row")).values(sha256=sa.bindparam("made"))
    )
    with db.write() as conn:
        conn.execute(statement, [{"row": row, "made": digest} for row, digest in digests.items()])
