"""Reading the spool: headers, records, random access and replay. The format is described in `db.spool`.

Everything here works beside a live writer: bytes before its committed mark never change while rows point to
them, and a segment that was recycled since shows another epoch.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xxhash import xxh3_64, xxh3_64_intdigest

from db.records import Location, Mark
from db.spool_files import Bytes, SpoolDamaged, SpoolFiles

SEGMENT = struct.Struct("<8sHHLQQQ")  # magic, version, kind, number, epoch, salt, log epoch
SEGMENT_BYTES = SEGMENT.size + 8  # and its checksum
SETTLED_AT = 64  # of a run: 8 bytes outside the header's checksum
RECORDS_AT = 4096
SEGMENT_MAGIC, VERSION = b"PREADSEG", 1
LOG, RUN = 1, 2

RECORD = struct.Struct("<4sHxxQQQL4x")  # magic, kind, epoch, previous checksum, dataset bytes, meta bytes
RECORD_MAGIC = b"PRr1"
INSTANCE, LINK = 1, 2
LINKED = struct.Struct("<L4xQQQ")  # run's segment, epoch, dataset bytes, checksum
CHECKSUM = struct.Struct("<Q")
META_BYTES_MAX = 1 << 16
CHUNK_BYTES = 64 << 10  # stays in the processor's cache while it is summed
_RESTORE = "Restore the spool folder from a backup, or ask the sender to send the study again."


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the first block of a segment says; `checksum` seeds the chain of its records."""

    kind: int
    number: int
    epoch: int
    salt: int
    log_epoch: int
    checksum: int


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The fixed part of a record."""

    kind: int
    epoch: int
    previous: int
    dataset_bytes: int
    meta_bytes: int

    @property
    def total(self) -> int:
        """Bytes of the whole record, checksum included."""
        return RECORD.size + self.meta_bytes + self.dataset_bytes + CHECKSUM.size


@dataclass(frozen=True, slots=True)
class Replayed:
    """One whole record of the log: its meta, where its bytes lie, and where the next record begins.

    `head` is its payload or the beginning of it, as far as it was read already.
    """

    meta: bytes
    location: Location
    end: Mark
    folder: Path
    head: memoryview
    files: SpoolFiles

    @property
    def dataset(self) -> bytes | memoryview:
        """The payload in one piece; `chunks` keeps memory flat for large ones."""
        if len(self.head) == self.location.length:
            return self.head
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The payload in order, in pieces of at most 64 KiB or what was read already."""
        read = len(self.head)
        if read:
            yield self.head
        if read < self.location.length:
            yield from _chunks(
                self.files,
                segment_path(self.folder / self.location.store, self.location.segment),
                self.location.offset + RECORD.size + len(self.meta) + read,
                self.location.length - read,
            )


def _chunks(files: SpoolFiles, path: Path, offset: int, size: int) -> Iterator[bytes]:
    fd = files.open(path)
    try:
        while size > 0:
            chunk = files.read(fd, min(size, CHUNK_BYTES), offset)
            if not chunk:
                raise SpoolDamaged("the file ends inside a record", where=path.name, remedy=_RESTORE)
            yield chunk
            size, offset = size - len(chunk), offset + len(chunk)
    finally:
        files.close(fd)


class BytesMissing(SpoolDamaged):
    """The bytes a row points to are not there: recycled, removed or damaged."""


def segment_path(store_folder: Path, number: int) -> Path:
    """The file of a segment; nothing a peer sent is part of the name."""
    return store_folder / f"{number:08d}.seg"


def encode_segment_header(kind: int, number: int, epoch: int, salt: int, log_epoch: int) -> tuple[bytes, int]:
    """The header of a segment, and its checksum."""
    head = SEGMENT.pack(SEGMENT_MAGIC, VERSION, kind, number, epoch, salt, log_epoch)
    checksum = xxh3_64_intdigest(head)
    return head + CHECKSUM.pack(checksum), checksum


def parse_segment_header(raw: bytes, number: int) -> SegmentHeader | None:
    """The header, or None when it is blank, torn, of another version, or of another file."""
    if len(raw) < SEGMENT_BYTES:
        return None
    magic, version, kind, named, epoch, salt, log_epoch = SEGMENT.unpack_from(raw)
    (checksum,) = CHECKSUM.unpack_from(raw, SEGMENT.size)
    if magic != SEGMENT_MAGIC or version != VERSION or kind not in (LOG, RUN) or named != number:
        return None
    if xxh3_64_intdigest(raw[: SEGMENT.size]) != checksum:
        return None
    return SegmentHeader(kind, number, epoch, salt, log_epoch, checksum)


def parse_record_header(raw: bytes) -> RecordHeader | None:
    """The fixed part of a record, or None when these bytes are none."""
    if len(raw) < RECORD.size:
        return None
    magic, kind, epoch, previous, dataset_bytes, meta_bytes = RECORD.unpack_from(raw)
    if magic != RECORD_MAGIC or kind not in (INSTANCE, LINK) or meta_bytes > META_BYTES_MAX:
        return None
    return RecordHeader(kind, epoch, previous, dataset_bytes, meta_bytes)


def checksum_of(head: bytes, meta: bytes, dataset: Bytes) -> int:
    """Checksum of a record: dataset first, so that a stream can be summed before its length is known."""
    state = xxh3_64(dataset)
    state.update(meta)
    state.update(head)
    return int(state.intdigest())


def segments_of(files: SpoolFiles, store_folder: Path) -> dict[int, SegmentHeader | None]:
    """Header of every segment file by number; None for a blank one. Reads one block per file."""
    found: dict[int, SegmentHeader | None] = {}
    for path in files.list_folder(store_folder):
        if path.suffix != ".seg" or not path.stem.isdecimal():
            continue
        number = int(path.stem)
        try:
            fd = files.open(path)
        except FileNotFoundError:  # the writer removed a retired one between the listing and now
            continue
        try:
            found[number] = parse_segment_header(files.read(fd, SEGMENT_BYTES, 0), number)
        finally:
            files.close(fd)
    epochs = [header.epoch for header in found.values() if header]
    if len(set(epochs)) != len(epochs):
        raise SpoolDamaged("two segments have the same epoch", where=str(store_folder), remedy=_RESTORE)
    return found


@dataclass(frozen=True, slots=True)
class Whole:
    """A record with all its bytes, whose checksum is right."""

    header: RecordHeader
    meta: bytes
    dataset: memoryview
    checksum: int


def read_whole(files: SpoolFiles, fd: int, offset: int, epoch: int, room: int) -> Whole | None:
    """The record at `offset` if it is whole and of this epoch; never reads beyond `room` bytes."""
    head = files.read(fd, RECORD.size, offset)
    header = parse_record_header(head)
    if header is None or header.epoch != epoch or header.total > room:
        return None
    body = files.read(fd, header.total - RECORD.size, offset + RECORD.size)
    if len(body) != header.total - RECORD.size:
        return None
    meta = body[: header.meta_bytes]
    dataset = memoryview(body)[header.meta_bytes : -CHECKSUM.size]
    (checksum,) = CHECKSUM.unpack_from(body, len(body) - CHECKSUM.size)
    if checksum_of(head, meta, dataset) != checksum:
        return None
    return Whole(header, meta, dataset, checksum)


def walk_segment(
    files: SpoolFiles, fd: int, header: SegmentHeader, *, start: int, until: int
) -> Iterator[tuple[int, Whole]]:
    """Whole records from `start`, in order, to the first that is not: (offset, record).

    `start` must be `RECORDS_AT` or the end of a record that was whole.
    """
    if start <= RECORDS_AT:
        offset, previous = RECORDS_AT, header.checksum
    else:
        offset = start
        before = files.read(fd, CHECKSUM.size, start - CHECKSUM.size)
        if len(before) != CHECKSUM.size:
            raise SpoolDamaged(
                "the mark lies behind the end of its segment", where=str(start), remedy=_RESTORE
            )
        (previous,) = CHECKSUM.unpack(before)
    while True:
        whole = read_whole(files, fd, offset, header.epoch, until - offset)
        if whole is None or whole.header.previous != previous:
            return
        yield offset, whole
        offset, previous = offset + whole.header.total, whole.checksum


def runs_named(files: SpoolFiles, fd: int, header: SegmentHeader) -> Iterator[tuple[int, int]]:
    """(number, epoch) of the runs that the links of a log segment name.

    Looks at headers only, so it may name one too many: what a crash left behind the last valid record.
    """
    offset = RECORDS_AT
    while True:
        record = parse_record_header(files.read(fd, RECORD.size, offset))
        if record is None or record.epoch != header.epoch:
            return
        if record.kind == LINK and record.dataset_bytes == LINKED.size:
            link = files.read(fd, LINKED.size, offset + RECORD.size + record.meta_bytes)
            if len(link) == LINKED.size:
                yield LINKED.unpack(link)[:2]
        offset += record.total


def read_run(files: SpoolFiles, store_folder: Path, store: str, link: Bytes) -> Location | None:
    """Where the run a link names lies, if it is there and its checksum is right; memory stays flat."""
    if len(link) != LINKED.size:
        return None
    number, epoch, dataset_bytes, expected = LINKED.unpack(link)
    try:
        fd = files.open(segment_path(store_folder, number))
    except FileNotFoundError:
        return None
    try:
        segment = parse_segment_header(files.read(fd, SEGMENT_BYTES, 0), number)
        head = files.read(fd, RECORD.size, RECORDS_AT)
        header = parse_record_header(head)
        if segment is None or segment.kind != RUN or segment.epoch != epoch or header is None:
            return None
        if header.epoch != epoch or header.dataset_bytes != dataset_bytes:
            return None
        if _streamed_checksum(files, fd, RECORDS_AT, head, header) != expected:
            return None
    finally:
        files.close(fd)
    return Location(store, number, epoch, RECORDS_AT, dataset_bytes)


def _streamed_checksum(
    files: SpoolFiles, fd: int, offset: int, head: bytes, header: RecordHeader
) -> int | None:
    """The checksum of a record as computed from its bytes; None when it is not the one written behind it."""
    meta = files.read(fd, header.meta_bytes, offset + RECORD.size)
    at, left, state = offset + RECORD.size + header.meta_bytes, header.dataset_bytes, xxh3_64()
    while left > 0:
        chunk = files.read(fd, min(left, CHUNK_BYTES), at)
        if not chunk:
            return None
        state.update(chunk)
        at, left = at + len(chunk), left - len(chunk)
    state.update(meta)
    state.update(head)
    stored = files.read(fd, CHECKSUM.size, at)
    computed = int(state.intdigest())
    return computed if stored == CHECKSUM.pack(computed) else None


def logs_between(
    found: Mapping[int, SegmentHeader | None], mark: Mark | None, until: Mark | None
) -> Iterator[tuple[SegmentHeader, int]]:
    """Log segments in epoch order with the offset to begin at, from the one of `mark` to that of `until`."""
    logs = (header for header in found.values() if header and header.kind == LOG)
    for header in sorted(logs, key=lambda header: header.epoch):
        if mark is not None and header.epoch < mark.epoch:
            continue
        if until is not None and header.epoch > until.epoch:
            return
        yield header, mark.offset if mark is not None and header.epoch == mark.epoch else RECORDS_AT


def replay(
    folder: Path,
    store: str,
    mark: Mark | None = None,
    *,
    until: Mark | None = None,
    files: SpoolFiles | None = None,
) -> Iterator[Replayed]:
    """Whole records of a store's log from `mark` on, in the order they were committed.

    In each segment reading stops at the first record whose epoch, chain or checksum is wrong and goes on with
    the next segment in epoch order; a link whose run was retired since, or is torn, is passed over. `until`
    is a writer's committed mark: beyond it nothing is read.
    """
    files = files or SpoolFiles()
    store_folder = folder / store
    for header, start in logs_between(segments_of(files, store_folder), mark, until):
        try:
            fd = files.open(segment_path(store_folder, header.number))
        except FileNotFoundError:
            continue
        try:
            # A damaged length may claim anything: never more than the file has.
            size = until.offset if until and header.epoch == until.epoch else files.size(fd)
            for offset, whole in walk_segment(files, fd, header, start=start, until=size):
                end = Mark(store, header.number, header.epoch, offset + whole.header.total)
                if whole.header.kind == INSTANCE:
                    location = Location(store, header.number, header.epoch, offset, len(whole.dataset))
                    yield Replayed(whole.meta, location, end, folder, whole.dataset, files)
                    continue
                run = read_run(files, store_folder, store, whole.dataset)
                if run is not None:
                    yield Replayed(whole.meta, run, end, folder, memoryview(b""), files)
        finally:
            files.close(fd)


def stored_chunks(
    folder: Path, location: Location, *, files: SpoolFiles | None = None
) -> Iterator[bytes | memoryview]:
    """The dataset at `location` in pieces, not verified; raises `BytesMissing` when it is not there."""
    files = files or SpoolFiles()
    path = segment_path(folder / location.store, location.segment)
    where = f"{location.store} segment {location.segment} offset {location.offset}"
    try:
        fd = files.open(path)
    except FileNotFoundError:
        raise BytesMissing("the segment is gone", where=where, remedy=_RESTORE) from None
    try:
        header = parse_record_header(files.read(fd, RECORD.size, location.offset))
    finally:
        files.close(fd)
    if header is None or header.epoch != location.epoch or header.dataset_bytes != location.length:
        raise BytesMissing("the record is not there any more", where=where, remedy=_RESTORE)
    yield from _chunks(files, path, location.offset + RECORD.size + header.meta_bytes, location.length)


def read_record(folder: Path, location: Location, *, files: SpoolFiles | None = None) -> tuple[bytes, bytes]:
    """Meta and dataset at `location`, verified; raises `BytesMissing` when they are not there any more."""
    files = files or SpoolFiles()
    where = f"{location.store} segment {location.segment} offset {location.offset}"
    try:
        fd = files.open(segment_path(folder / location.store, location.segment))
    except FileNotFoundError:
        raise BytesMissing("the segment is gone", where=where, remedy=_RESTORE) from None
    try:
        room = RECORD.size + META_BYTES_MAX + location.length + CHECKSUM.size
        whole = read_whole(files, fd, location.offset, location.epoch, room)
    finally:
        files.close(fd)
    if whole is None or len(whole.dataset) != location.length:
        raise BytesMissing("the record is not there any more", where=where, remedy=_RESTORE)
    return whole.meta, bytes(whole.dataset)
