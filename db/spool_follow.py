"""Reading the log just behind its live writer: headers and heads of datasets, not their bytes.

A replay sums every byte again, which for images costs more than receiving them. Behind a writer that lives
that is not needed: what it committed it wrote, or verified when it started. So a record is taken as whole

- in the segment of the committed mark, when it ends before the mark;
- in an older segment, when the next record of the chain follows it, since a writer goes on only behind a
  record it verified; the last one of a segment is summed, because a crash may have torn it.
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
    LOG,
    RECORD,
    RECORDS_AT,
    RUN,
    SEGMENT_BYTES,
    RecordHeader,
    Replayed,
    SegmentHeader,
    parse_record_header,
    parse_segment_header,
    read_whole,
    segment_path,
    segments_of,
)

HEAD_BYTES = 16 << 10  # holds what most datasets have before their pixels, and all of a small one


class _Record(NamedTuple):
    """A record that was looked at: `head` is its dataset, or the beginning of it."""

    offset: int
    header: RecordHeader
    meta: bytes
    head: memoryview

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.header.total


def follow(
    folder: Path, store: str, mark: Mark | None, *, until: Mark, files: SpoolFiles | None = None
) -> Iterator[Replayed]:
    """Records of a store's log between two marks, in the order they were committed.

    The same records as those of `db.spool_records.replay`, without their checksums being computed again.

    Parameters
    ----------
    mark : the end of a record, or None for the beginning of the log
    until : the committed mark of the writer that lives
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
            for record in _walk(files, fd, segment, start, until):
                end = Mark(store, number, epoch, record.end)
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
    found = (header for header in segments_of(files, store_folder).values() if header and header.kind == LOG)
    for header in sorted(found, key=lambda header: header.epoch):
        if mark is not None and header.epoch < mark.epoch:
            continue
        if header.epoch > until.epoch:
            return
        start = mark.offset if mark is not None and header.epoch == mark.epoch else RECORDS_AT
        yield header.number, header.epoch, start


def _walk(files: SpoolFiles, fd: int, segment: SegmentHeader, start: int, until: Mark) -> Iterator[_Record]:
    is_committed = segment.epoch == until.epoch
    size = until.offset if is_committed else files.size(fd)
    record = _look(files, fd, segment, start, size)
    while record is not None:
        following = _look(files, fd, segment, record.end, size)
        if following is None and not is_committed:
            room = size - record.offset
            if read_whole(files, fd, record.offset, segment.epoch, room) is None:
                return
        yield record
        record = following


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
    """Where the run lies that a committed link names; None when it was retired since."""
    if len(link) != LINKED.size:
        return None
    number, epoch, dataset_bytes, expected = LINKED.unpack(link)
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
        return (
            Location(store, number, epoch, RECORDS_AT, dataset_bytes)
            if stored == CHECKSUM.pack(expected)
            else None
        )
    finally:
        files.close(fd)
