"""A large record on its way into a segment of its own (a run)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xxhash import xxh3_64

from db.records import Location
from db.spool_files import Bytes, SpoolFiles
from db.spool_records import (
    CHECKSUM,
    INSTANCE,
    LINKED,
    RECORD,
    RECORD_MAGIC,
    RECORDS_AT,
    SETTLED_AT,
)

if TYPE_CHECKING:
    from db.spool import SpoolWriter

WRITE_BACK_BYTES = 8 << 20
SETTLED = (1).to_bytes(8, "little")


def is_settled(files: SpoolFiles, fd: int) -> bool:
    """Whether the link to a run was committed."""
    return any(files.read(fd, len(SETTLED), SETTLED_AT))


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
