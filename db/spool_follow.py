"""Reading the log just behind its live writer: headers and heads of datasets, not their bytes.

A replay sums every byte again, which for images costs more than receiving them. Behind a writer that lives
that is not needed of what it committed itself: of segments it began, and of the one with the committed mark,
up to the mark. In segments of former lives a crash may have torn a record and left whole ones behind it, so
those are summed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from db.records import Location, Mark
from db.spool_files import SpoolFiles
from db.spool_records import (
    CHECKSUM,
    INSTANCE,
    LINKED,
    RECORD,
    RECORDS_AT,
    RUN,
    SEGMENT_BYTES,
    RecordHeader,
    Replayed,
    SegmentHeader,
    logs_between,
    parse_record_header,
    parse_segment_header,
    read_run,
    segment_path,
    segments_of,
    walk_segment,
)
from db.spool_run import is_settled

HEAD_BYTES = 16 << 10  # holds what most datasets have before their pixels, and all of a small one


class _Record(NamedTuple):
    """A record that was looked at: `head` is its dataset, or the beginning of it."""

    offset: int
    header: RecordHeader
    meta: bytes
    head: memoryview


def follow(
    folder: Path,
    store: str,
    mark: Mark | None,
    *,
    until: Mark,
    live_since: int,
    files: SpoolFiles | None = None,
) -> Iterator[Replayed]:
    """Records of a store's log between two marks, in the order they were committed.

    The same records as those of `db.spool_records.replay`, without their checksums being computed again.

    Parameters
    ----------
    mark : the end of a record, or None for the beginning of the log
    until : the committed mark of the writer that lives
    live_since : the last epoch before that writer's (`SpoolWriter.live_since`)
    """
    files = files or SpoolFiles()
    store_folder = folder / store
    for number, epoch, start in _segments(files, store_folder, mark, until):
        try:
            fd = files.open(segment_path(store_folder, number))
        except FileNotFoundError:
            continue
        try:
            segment = parse_segment_header(files.read(fd, SEGMENT_BYTES, 0), number)
            if segment is None or segment.epoch != epoch:
                continue
            is_live = epoch > live_since or epoch == until.epoch
            for record in (_walk if is_live else _walk_and_sum)(files, fd, segment, start, until):
                end = Mark(store, number, epoch, record.offset + record.header.total)
                if record.header.kind == INSTANCE:
                    location = Location(store, number, epoch, record.offset, record.header.dataset_bytes)
                    yield Replayed(record.meta, location, end, folder, record.head, files)
                    continue
                run = _run(files, store_folder, store, record.head)
                if run is not None:
                    yield Replayed(record.meta, run, end, folder, memoryview(b""), files)
        finally:
            files.close(fd)


def _segments(
    files: SpoolFiles, store_folder: Path, mark: Mark | None, until: Mark
) -> Iterator[tuple[int, int, int]]:
    """(number, epoch, offset to begin at) of the log segments between two marks, in order."""
    if mark is not None and mark.epoch == until.epoch:  # nearly always; then no folder need be listed
        yield until.segment, until.epoch, mark.offset
        return
    for header, start in logs_between(segments_of(files, store_folder), mark, until):
        yield header.number, header.epoch, start


def _walk(files: SpoolFiles, fd: int, segment: SegmentHeader, start: int, until: Mark) -> Iterator[_Record]:
    size = until.offset if segment.epoch == until.epoch else files.size(fd)
    record = _look(files, fd, segment, start, size)
    while record is not None:
        yield record
        record = _look(files, fd, segment, record.offset + record.header.total, size)


def _walk_and_sum(
    files: SpoolFiles, fd: int, segment: SegmentHeader, start: int, until: Mark
) -> Iterator[_Record]:
    del until  # it lies in a later segment
    for offset, whole in walk_segment(files, fd, segment, start=start, until=files.size(fd)):
        yield _Record(offset, whole.header, whole.meta, whole.dataset)


def _look(files: SpoolFiles, fd: int, segment: SegmentHeader, offset: int, until: int) -> _Record | None:
    """The record at `offset` when it goes on with the chain and ends before `until`."""
    if until - offset < RECORD.size + CHECKSUM.size:
        return None
    # One read: the checksum of the record before it, its own header, its meta and the head of its dataset.
    begin = offset - CHECKSUM.size
    raw = files.read(fd, min(CHECKSUM.size + HEAD_BYTES, until - begin), begin)
    header = parse_record_header(raw[CHECKSUM.size : CHECKSUM.size + RECORD.size])
    if header is None or header.epoch != segment.epoch or header.total > until - offset:
        return None
    (before,) = CHECKSUM.unpack_from(raw) if offset > RECORDS_AT else (segment.checksum,)
    if header.previous != before:
        return None
    meta_at = CHECKSUM.size + RECORD.size
    dataset_at = meta_at + header.meta_bytes
    if len(raw) < dataset_at:
        raw = files.read(fd, dataset_at, begin)
    return _Record(
        offset,
        header,
        raw[meta_at:dataset_at],
        memoryview(raw)[dataset_at : dataset_at + header.dataset_bytes],
    )


def _run(files: SpoolFiles, store_folder: Path, store: str, link: memoryview) -> Location | None:
    """Where the run lies that a link names; None when it was retired since, or torn before it was committed.

    A link may be whole and its run torn, or another one of the same epoch: then it was never acknowledged. A
    run that is settled is durable and whole; any other is summed.
    """
    if len(link) != LINKED.size:
        return None
    number, epoch, dataset_bytes, checksum = LINKED.unpack(link)
    try:
        fd = files.open(segment_path(store_folder, number))
    except FileNotFoundError:
        return None
    try:
        segment = parse_segment_header(files.read(fd, SEGMENT_BYTES, 0), number)
        header = parse_record_header(files.read(fd, RECORD.size, RECORDS_AT))
        if segment is None or segment.kind != RUN or segment.epoch != epoch or header is None:
            return None
        if header.epoch != epoch or header.dataset_bytes != dataset_bytes:
            return None
        stored = files.read(fd, CHECKSUM.size, RECORDS_AT + header.total - CHECKSUM.size)
        if stored != CHECKSUM.pack(checksum):
            return None
        settled = is_settled(files, fd)
    finally:
        files.close(fd)
    if settled:
        return Location(store, number, epoch, RECORDS_AT, dataset_bytes)
    return read_run(files, store_folder, store, link)
