"""Faults of the node, one at a time, that the simulation must find.

Each leaves out one thing that the promise rests on, in the product's own code or in what the disk does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import history
import pytest
from simulated_disk import SimulatedFiles

import db.spool_follow
import db.spool_records
import db.spool_recovery
from db.spool import SpoolWriter
from db.spool_commit import GroupCommit
from db.spool_records import RecordHeader, segment_path
from db.spool_segments import SegmentSupply

Patch = pytest.MonkeyPatch


class _Anything(int):
    """Equal to everything."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def _nothing(*_: Any, **__: Any) -> None:
    return


def no_sync(patch: Patch) -> None:
    """The bytes of a file are not made durable."""
    patch.setattr(SimulatedFiles, "sync", _nothing)
    patch.setattr(SimulatedFiles, "end_sync", lambda *_: 0)


def sync_under_way_trusted(patch: Patch) -> None:
    """A commit counts as ended when it was begun."""

    def begun(writer: SpoolWriter, errors: Sequence[int]) -> None:
        commit = writer._under_way
        if commit is not None:
            writer._under_way, writer.committed = None, commit.end

    patch.setattr(SpoolWriter, "_take_ended", begun)


def later_records_trusted(patch: Patch) -> None:
    """A commit that ended counts for what was appended while it was under way."""
    finish = SpoolWriter.finish_commit

    def finished(writer: SpoolWriter) -> bool:
        if not finish(writer):
            return False
        writer._is_dirty = False
        writer.committed = writer._end()
        return True

    patch.setattr(SpoolWriter, "finish_commit", finished)


def no_sync_of_names(patch: Patch) -> None:
    """The names in a folder are not made durable."""
    patch.setattr(SimulatedFiles, "sync_folder", _nothing)


def full_segment_not_synced(patch: Patch) -> None:
    """A commit forgets the segment that became full since the last one."""
    _before_commit(patch, lambda writer: writer._rolled.clear())


def run_not_synced(patch: Patch) -> None:
    """A commit forgets the file of a large instance."""
    _before_commit(patch, lambda writer: writer._linked.clear())


def _before_commit(patch: Patch, act: Callable[[SpoolWriter], None]) -> None:
    begin = SpoolWriter._next_commit

    def begun(writer: SpoolWriter) -> GroupCommit:
        act(writer)
        return begin(writer)

    patch.setattr(SpoolWriter, "_next_commit", begun)


def record_checksum_ignored(patch: Patch) -> None:
    """A record counts as whole whatever its checksum."""
    patch.setattr(db.spool_records, "checksum_of", lambda head, meta, dataset: _Anything())


def run_checksum_ignored(patch: Patch) -> None:
    """A large instance counts as whole whatever its checksum."""
    patch.setattr(db.spool_records, "_streamed_checksum", lambda *_: _Anything())


def generation_ignored(patch: Patch) -> None:
    """Neither the epoch nor the chain keeps a former life of a segment out."""
    parse = db.spool_records.parse_record_header

    def parsed(raw: bytes) -> RecordHeader | None:
        found = parse(raw)
        if found is None:
            return None
        return replace(found, epoch=_Anything(found.epoch), previous=_Anything(found.previous))

    patch.setattr(db.spool_records, "parse_record_header", parsed)


def former_lives_followed_unsummed(patch: Patch) -> None:
    """Who follows the log takes segments of former lives for whole, too."""
    patch.setattr(db.spool_follow, "_walk_and_sum", db.spool_follow._walk)


def page_cache_trusted(patch: Patch) -> None:
    """A start takes what a killed process left in memory for durable."""
    patch.setattr(db.spool_recovery, "_doubtful", lambda *_: [])


def failed_sync_trusted(patch: Patch) -> None:
    """A start after a failed sync reads what memory still shows."""
    patch.setattr(SimulatedFiles, "forget_cache", _nothing)


def links_recycled(patch: Patch) -> None:
    """A log segment is used again while a large instance hangs on the link in it."""
    patch.setattr(SegmentSupply, "_settle_runs_of", _nothing)


def runs_kept(patch: Patch) -> None:
    """What was streamed and never acknowledged stays on the disk."""
    patch.setattr(db.spool_recovery, "_settle_runs", lambda *_: [])


def removals_trusted(patch: Patch) -> None:
    """A file that another process removed is forgotten before its removal is durable."""

    def gone(files: SimulatedFiles, folder: Path, lives: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        names = files.list_folder(folder)
        return [life for life in lives if segment_path(folder, life[0]) not in names]

    patch.setattr(history, "gone_for_good", gone)


FAULTS = (
    no_sync,
    sync_under_way_trusted,
    later_records_trusted,
    no_sync_of_names,
    full_segment_not_synced,
    run_not_synced,
    record_checksum_ignored,
    run_checksum_ignored,
    generation_ignored,
    former_lives_followed_unsummed,
    page_cache_trusted,
    failed_sync_trusted,
    links_recycled,
    runs_kept,
    removals_trusted,
)
