"""A large record on its way into a segment of its own (a run), and what a crash may have left of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xxhash import xxh3_64

from db.records import Location, Mark
from db.spool_files import Bytes, SpoolFiles
from db.spool_records import (
    CHECKSUM,
    INSTANCE,
    LINKED,
    RECORD,
    RECORD_MAGIC,
    RECORDS_AT,
    SETTLED_AT,
    SegmentHeader,
    replay,
    segment_path,
)

if TYPE_CHECKING:
    from db.spool import SpoolWriter

WRITE_BACK_BYTES = 8 << 20
SETTLED = (1).to_bytes(8, "little")


@dataclass(slots=True)
class OpenSegment:
    """A segment being written: `offset` of the next record, `chain` the checksum it must name."""

    fd: int
    number: int
    epoch: int
    offset: int
    chain: int
    limit: int


class Run:
    """One large record on its way into a segment of its own; `finish` puts it into the log."""

    def __init__(self, writer: "SpoolWriter", at: OpenSegment, meta: bytes) -> None:
        self._writer, self._at, self._meta = writer, at, meta
        self._sum, self._written_back = xxh3_64(), RECORDS_AT
        self.size = 0

    def write(self, fragments: Sequence[Bytes]) -> None:
        """Append to the dataset; raises `SpoolFull` (then `discard` the run) or `SpoolFailed`."""
        at = self._at
        self._writer.check_reserve()
        for fragment in fragments:
            self._sum.update(fragment)
        size = self._writer.put(at.fd, fragments, at.offset)
        self.size, at.offset = self.size + size, at.offset + size
        if at.offset - self._written_back >= WRITE_BACK_BYTES:
            # Spread the disk's work over the transfer: the last sync is short, the page cache stays small.
            self._writer.files.start_writing_back(at.fd, self._written_back, at.offset - self._written_back)
            self._written_back = at.offset

    def finish(self) -> Location:
        """Complete the record and link it into the log; durable after the writer's next `commit`."""
        at = self._at
        head = RECORD.pack(RECORD_MAGIC, INSTANCE, at.epoch, at.chain, self.size, len(self._meta))
        self._sum.update(self._meta)
        self._sum.update(head)
        checksum = int(self._sum.intdigest())
        self._writer.put(at.fd, [CHECKSUM.pack(checksum)], at.offset)
        self._writer.put(at.fd, [head, self._meta], RECORDS_AT)
        self._writer.link(at, self._meta, LINKED.pack(at.number, at.epoch, self.size, checksum))
        return Location(self._writer.store, at.number, at.epoch, RECORDS_AT, self.size)

    def discard(self) -> None:
        """Forget the run and free its space; nothing of it was ever visible."""
        self._writer.drop(self._at)


def settle_runs(files: SpoolFiles, spool: Path, store: str, headers: Sequence[SegmentHeader]) -> None:
    """Remove runs that no link names: the process ended before they were acknowledged."""
    doubtful: dict[int, SegmentHeader] = {}
    for header in headers:
        fd = files.open(segment_path(spool / store, header.number))
        try:
            if not any(files.read(fd, len(SETTLED), SETTLED_AT)):
                doubtful[header.number] = header
        finally:
            files.close(fd)
    if not doubtful:
        return
    start = Mark(store, 0, min(header.log_epoch for header in doubtful.values()), RECORDS_AT)
    linked = {
        (item.location.segment, item.location.epoch) for item in replay(spool, store, start, files=files)
    }
    for number, header in doubtful.items():
        path = segment_path(spool / store, number)
        if (number, header.epoch) not in linked:
            files.remove(path)
            continue
        fd = files.open(path)
        try:
            files.sync(fd)
            files.write(fd, [SETTLED], SETTLED_AT)
        finally:
            files.close(fd)
