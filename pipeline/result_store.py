"""The byte store of one worker: result objects are durable here before a row points to them.

A worker takes the first store `results-<n>` that no other process writes to, so a restarted worker goes on in
the store of its former life and stores do not multiply.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from db.engine import Database
from db.instances import ByteStore
from db.records import KeptRecord, Location, NewResult
from db.segments import relocate, take_retired
from db.spool import SpoolWriter
from db.spool_files import SpoolLocked
from pipeline.assignment import WrittenObject

SEGMENT_BYTES: Final = 16 << 20  # a result set has 0.2 to 2 MB


class ResultStore:
    """One writer of result bytes, shared by the threads of a worker.

    Raises
    ------
    PrereadError
        The disk is full or damaged (see `db.spool.SpoolWriter`).
    """

    def __init__(self, spool_folder: Path, database: Database) -> None:
        self._spool, self._database = spool_folder, database
        self._one_batch = threading.Lock()
        self._writer = self._first_free()

    @property
    def name(self) -> str:
        """Of the store, such as results-0."""
        return self._writer.store

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Append, commit and record in rows as one: nobody else's batch may come between.

        Recording a batch moves the store's mark up to it, and what lies before the mark without a row is
        recycled.
        """
        with self._one_batch:
            yield Batch(self._writer)

    def move_here(self, records: Sequence[KeptRecord]) -> int:
        """Copy bytes of rows forward, so that the segment they lay in can be used again; how many moved."""
        stored = ByteStore(self._spool)
        moves: list[tuple[KeptRecord, Location]] = []
        with self.batch():
            for record in records:
                meta, dataset = stored.read_with_meta(record.location)
                moves.append((record, self._writer.append(meta, [dataset], len(dataset))))
            self._writer.commit()
            return relocate(self._database, moves)

    def close(self) -> None:
        """Give the store back."""
        self._writer.close()

    def _first_free(self) -> SpoolWriter:
        for number in count():
            store = f"results-{number}"
            try:
                return SpoolWriter(
                    self._spool,
                    store=store,
                    segment_bytes=SEGMENT_BYTES,
                    take_retired=lambda name=store: take_retired(self._database, name),  # type: ignore[misc]
                )
            except SpoolLocked:
                continue
        raise AssertionError("unreachable")


class Batch:
    """Objects that become durable together."""

    def __init__(self, writer: SpoolWriter) -> None:
        self._writer = writer

    def write(self, objects: Sequence[WrittenObject]) -> list[NewResult]:
        """Make the objects durable; rows may point to them afterwards."""
        results = [self._append(item) for item in objects]
        self._writer.commit()
        return results

    def _append(self, item: WrittenObject) -> NewResult:
        meta = {"kind": item.kind, "sop_uid": item.sop_uid, "sop_class": item.sop_class}
        location = self._writer.append(json.dumps(meta).encode(), [item.part10], len(item.part10))
        return NewResult(
            kind=item.kind,
            sop_uid=item.sop_uid,
            sop_class=item.sop_class,
            series_uid=item.series_uid,
            location=location,
            sha256=hashlib.sha256(item.part10).hexdigest(),
            bytes=len(item.part10),
        )
