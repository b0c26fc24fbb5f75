"""What a start makes of what the end before it left: durable, or gone, before anything relies on it.

A killed process leaves whole records that only the page cache has; a failed sync leaves pages that can be
read and are not on the disk. Rows that point to either would lead to nothing after the next power cut, and a
sender that sends such an instance again would be told that it is here. So whatever was not committed for
certain is synced, then read from the disk itself, before a record counts as found:

- the names in the folder, and the folder's own: what was removed may not come back with an epoch that was
  used again since;
- the log segments since the one in which the last commit ended when the newest was opened;
- runs that are not settled. Those that no link names were never acknowledged and are removed.
"""

from collections.abc import Iterable
from pathlib import Path

from db.records import Mark
from db.spool_files import SpoolFiles
from db.spool_records import (
    LOG,
    RECORDS_AT,
    RUN,
    SEGMENT_BYTES,
    SETTLED_AT,
    SegmentHeader,
    parse_segment_header,
    replay,
    segment_path,
    segments_of,
)
from db.spool_run import SETTLED, is_settled

_FOLDERS_ABOVE = 2  # the folder of all stores and the one it lies in


def recover(files: SpoolFiles, spool: Path, store: str) -> dict[int, SegmentHeader | None]:
    """Header of every segment by number, None for a blank one; all that they hold is durable.

    Raises OSError and `SpoolDamaged`.
    """
    folder = spool / store
    for each in (folder, *folder.parents[:_FOLDERS_ABOVE]):
        files.sync_folder(each)
    found = segments_of(files, folder)
    for number in _doubtful(files, folder, [header for header in found.values() if header]):
        fd = files.open(segment_path(folder, number))
        try:
            files.sync(fd)
            files.forget_cache(fd)
            found[number] = parse_segment_header(files.read(fd, SEGMENT_BYTES, 0), number)
        finally:
            files.close(fd)
    removed = _settle_runs(files, spool, store, [header for header in found.values() if header])
    if removed:
        files.sync_folder(folder)
    return {number: header for number, header in found.items() if number not in removed}


def _doubtful(files: SpoolFiles, folder: Path, headers: Iterable[SegmentHeader]) -> list[int]:
    """Segments with something that may not be durable."""
    logs = [header for header in headers if header.kind == LOG]
    since = max(logs, key=lambda header: header.epoch).log_epoch if logs else 0
    return [
        *(header.number for header in logs if header.epoch >= since),
        *(header.number for header in _unsettled(files, folder, headers)),
    ]


def _unsettled(files: SpoolFiles, folder: Path, headers: Iterable[SegmentHeader]) -> list[SegmentHeader]:
    found = []
    for header in headers:
        if header.kind == RUN:
            fd = files.open(segment_path(folder, header.number))
            try:
                if not is_settled(files, fd):
                    found.append(header)
            finally:
                files.close(fd)
    return found


def _settle_runs(files: SpoolFiles, spool: Path, store: str, headers: Iterable[SegmentHeader]) -> list[int]:
    """Remove the runs that no link names and settle the others; numbers of the removed ones."""
    unsettled = _unsettled(files, spool / store, headers)
    if not unsettled:
        return []
    start = Mark(store, 0, min(header.log_epoch for header in unsettled), RECORDS_AT)
    linked = {item.location.owner for item in replay(spool, store, start, files=files)}
    removed = []
    for header in unsettled:
        path = segment_path(spool / store, header.number)
        if (store, header.number, header.epoch) not in linked:
            files.remove(path)
            removed.append(header.number)
            continue
        fd = files.open(path)
        try:
            files.write(fd, [SETTLED], SETTLED_AT)
        finally:
            files.close(fd)
    return removed
