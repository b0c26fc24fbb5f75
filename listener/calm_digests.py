"""Sums what was stored while nothing else is to do, a bounded piece at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from db.digests import keep_digests, without_digest
from db.engine import Database
from db.records import Location
from db.spool_records import BytesMissing, stored_chunks

STEP_BYTES = 32 << 20  # some 20 ms: a study that becomes whole meanwhile does not wait longer
ROWS = 200  # written in one transaction


class CalmDigests:
    """Makes the SHA-256 of instances whose rows have none."""

    def __init__(self, spool_folder: Path, db: Database) -> None:
        self._spool_folder, self._db = spool_folder, db
        self._after_id = 0  # rows up to here were tried; what could not be read then is tried after a restart
        self._made: dict[int, str] = {}
        self._work: Iterator[int] | None = None
        self.may_be_wanted = True

    def step(self) -> None:
        """Go on for `STEP_BYTES`; raises `DatabaseUnavailable`, after which it may be called again."""
        left = STEP_BYTES
        while left > 0 and self.may_be_wanted:
            if self._work is None:
                rows = without_digest(self._db, after_id=self._after_id, limit=ROWS)
                self.may_be_wanted = bool(rows)
                self._work = self._sum(rows)
            done = next(self._work, None)
            if done is None:
                keep_digests(self._db, self._made)
                self._work, self._made = None, {}
            else:
                left -= done

    def _sum(self, rows: Sequence[tuple[int, Location]]) -> Iterator[int]:
        """Sum what rows point to; the bytes of each piece."""
        for row, location in rows:
            digest = hashlib.sha256()
            try:
                for chunk in stored_chunks(self._spool_folder, location):
                    digest.update(chunk)
                    yield len(chunk)
                self._made[row] = digest.hexdigest()
            except BytesMissing:  # moved or dropped by retention since
                pass
            self._after_id = row
