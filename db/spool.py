"""The spool: preallocated, recycled segments of records; what is committed here survives a power cut.

A store is a folder (`instances`, `results-0`) with one writer, held by flock on `lock`. Files are
`NNNNNNNN.seg`; the number is ours alone. All integers are little-endian.

Segment, at byte
     0   8  "PREADSEG"
     8   2  version 1
    10   2  kind: 1 log (fixed size, zero-written ahead of use, recycled), 2 run (one large record)
    12   4  number of the file
    16   8  epoch: counts the openings of segments of the store, each value used once
    24   8  salt: random, so that no peer can forge what would pass for a record after recycling
    32   8  of a run: epoch of the log segment in use when it was opened; of a log segment: epoch of the one
            in which the last commit ended when it was opened, so that a start knows what may not be durable
    40   8  XXH3-64 of bytes 0 to 39
    64   8  of a run: 1 once the link to it was committed ("settled"); written lazily, outside the checksum
  4096      the first record
Record, at byte
     0   4  "PRr1"
     4   2  kind: 1 instance, 2 link
     6   2  zero
     8   8  epoch of its segment
    16   8  checksum of the record before it; of the segment header for the first one: records form a chain
    24   8  dataset bytes D
    32   4  meta bytes M (at most 65536)
    36   4  zero
    40      meta, JSON; then D bytes of dataset
40+M+D   8  XXH3-64 of dataset, meta and the 40 bytes above, in this order
The next record begins at the next byte. A link has the meta of an instance and, as dataset, where its run is:
     0   4  number, 4 zero, 8 epoch, 8 dataset bytes, 8 checksum of the run's record

A record is valid when magic, epoch, chain and checksum are right (for a link: its run is valid, too). What
lies behind the last valid one is a torn write or a former life of the segment: the first cannot have been
acknowledged, since one fdatasync makes all records before it durable; the second has another epoch and salt.

Recovery reads the log segments in epoch order, each up to its first invalid record; a link to a run that is
not there is passed over. The writer goes on behind the last valid record; the chain keeps out what a crash
left further on. What a killed process left in the page cache is made durable first (`db.spool_recovery`). A
run that no link names was never acknowledged and is removed; before a log segment is used again, the runs it
names are settled durably. A roll-over takes a segment
that a helper thread prepared (zero-written, synced, its folder synced: K9) and writes its header; header and
records become durable with the same group commit.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Self

from xxhash import xxh3_64

from config import kill_points
from config.errors import PrereadError
from db.records import Location, Mark
from db.spool_commit import GroupCommit
from db.spool_files import (
    Bytes,
    SpoolDamaged,
    SpoolFailed,
    SpoolFiles,
    SpoolFull,
    SpoolLocked,
    trouble,
)
from db.spool_records import (
    CHECKSUM,
    INSTANCE,
    LINK,
    LINKED,
    LOG,
    META_BYTES_MAX,
    RECORD,
    RECORD_MAGIC,
    RECORDS_AT,
    RUN,
    BytesMissing,
    Replayed,
    SegmentHeader,
    encode_segment_header,
    read_record,
    replay,
    segment_path,
    walk_segment,
)
from db.spool_recovery import recover
from db.spool_run import OpenSegment, Run
from db.spool_segments import SegmentSupply

__all__ = [
    "BytesMissing",
    "Replayed",
    "Run",
    "SpoolDamaged",
    "SpoolFailed",
    "SpoolFull",
    "SpoolLocked",
    "SpoolWriter",
    "read_record",
    "replay",
]

SEGMENT_BYTES_DEFAULT = 64 << 20
INLINE_BYTES_MAX = 4 << 20
FREE_CHECK_SECONDS = 0.25


def no_retired_segments() -> Sequence[tuple[int, int]]:
    """A store that recycles nothing."""
    return ()


class SpoolWriter:
    """The one writer of a store: append, then commit; only what was committed may be acknowledged.

    Parameters
    ----------
    folder : the spool folder; the store is a folder in it
    store : "instances" or "results-<n>"
    segment_bytes : size of a log segment
    durable : False skips the syncs, for measurements only
    take_retired : (segment, epoch) of segment lives that no row points to any more; may repeat itself
    ahead : log segments kept prepared, so that a roll-over does not wait for the disk
    stock : log segments prepared while nothing is received
    reserve_bytes : free disk space below which `append` raises `SpoolFull`
    files : the disk; a simulated one in tests
    supply : what prepares segments; in a simulation it takes its steps when told to

    Raises
    ------
    SpoolLocked, SpoolDamaged, SpoolFull, SpoolFailed
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: str,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        durable: bool = True,
        take_retired: Callable[[], Sequence[tuple[int, int]]] = no_retired_segments,
        ahead: int = 1,
        stock: int = 0,
        reserve_bytes: int = 0,
        files: SpoolFiles | None = None,
        supply: Callable[..., SegmentSupply] = SegmentSupply,
    ) -> None:
        self.store, self.files = store, files or SpoolFiles()
        self.inline_bytes_max = min(INLINE_BYTES_MAX, (segment_bytes - RECORDS_AT) // 4)
        self._folder, self._durable = folder / store, durable
        self._reserve_bytes, self._free_checked_at, self._has_room = reserve_bytes, 0.0, True
        self._failure: SpoolFailed | None = None
        self._rolled: list[OpenSegment] = []
        self._linked: list[OpenSegment] = []
        self._is_dirty = False
        self._under_way: GroupCommit | None = None
        with ExitStack() as opened, self._typed_errors():
            self.files.make_folder(self._folder)
            opened.callback(self.files.close, self.files.lock(self._folder / "lock"))
            self._background = self.files.background() if durable else None
            if self._background is not None:
                opened.callback(self._background.close)
            found = recover(self.files, folder, store)
            self._epoch = max((header.epoch for header in found.values() if header), default=0)
            numbers = count(max(found, default=0) + 1)
            self._numbers = numbers
            self._supply = supply(
                self._folder,
                files=self.files,
                segment_bytes=segment_bytes,
                ahead=ahead,
                stock=stock,
                reserve_bytes=reserve_bytes,
                take_retired=take_retired,
                blank=[number for number, header in found.items() if header is None],
                numbers=numbers,
            )
            opened.callback(self._supply.close)
            logs = [header for header in found.values() if header and header.kind == LOG]
            self._current: OpenSegment | None = None
            self.committed = self._end()
            opened.callback(self._close_current)
            if logs:
                self._current = self._reopen(max(logs, key=lambda header: header.epoch))
            # Segments of later epochs are this writer's own.
            self.live_since = self._epoch
            if not logs:
                with suppress(SpoolFull):  # a full disk must not keep the process from starting
                    self._current = self._begin()
            self.committed = self._end()
            self._opened = opened.pop_all()

    def append(self, meta: bytes, fragments: Sequence[Bytes], size: int) -> Location:
        """Write one record behind the last one; it is durable after the next `commit`.

        Parameters
        ----------
        meta : JSON, at most 65536 bytes
        fragments : the dataset in pieces, in order; gathered in one write
        size : bytes of all fragments

        Raises
        ------
        SpoolFull : nothing was written; try again when there is room
        SpoolFailed : the process must end
        """
        if size > self.inline_bytes_max:
            run = self.open_run(meta)
            try:
                run.write(fragments)
                return run.finish()
            except SpoolFull:
                run.discard()
                raise
        self.check_reserve()
        return self._append(INSTANCE, meta, fragments, size)

    def open_run(self, meta: bytes) -> Run:
        """Begin a record whose length is not known yet, in a file of its own."""
        self.check_reserve()
        log_epoch = self._with_room_for(0).epoch
        number = next(self._numbers)
        self._epoch += 1
        with self._typed_errors():
            fd = self.files.open(segment_path(self._folder, number), create=True)
            header, chain = encode_segment_header(RUN, number, self._epoch, secrets.randbits(64), log_epoch)
            at = OpenSegment(fd, number, self._epoch, RECORDS_AT + RECORD.size + len(meta), chain, 1 << 62)
            try:
                self.put(fd, [header], 0)
                self.files.sync_folder(self._folder)
            except SpoolFull:
                self.drop(at)
                raise
        return Run(self, at, meta)

    def commit(self) -> None:
        """Make everything appended so far durable: one sync per file that was written to.

        A failure is final (`SpoolFailed`): every later call raises it again.
        """
        if self._failure:
            raise self._failure
        while self._under_way is not None:
            assert self._background is not None
            self._take_ended(self._background.wait())
        if not self._is_dirty:
            return
        commit = self._next_commit()
        with self._sync_errors():
            if self._durable:
                for fd in commit.fds:
                    self.files.sync(fd)
            commit.settle(self.files)
        self.committed = commit.end

    @property
    def commit_bell(self) -> int | None:
        """Readable when a commit that was begun may have ended; None where commits always wait."""
        return self._background.bell if self._background else None

    def begin_commit(self) -> bool:
        """Begin what `commit` does beside other work; False: nothing is under way, all of it is durable.

        What is appended meanwhile belongs to the next commit. One at a time; raises as `commit`.
        """
        assert self._under_way is None, "a commit is under way"
        if self._background is None or not self._is_dirty or not self._durable:
            self.commit()
            return False
        if self._failure:
            raise self._failure
        commit = self._next_commit()
        with self._sync_errors():
            for fd in commit.fds:
                if self._background.begin(fd):
                    commit.under_way += 1
                else:
                    self.files.sync(fd)
        self._under_way = commit
        self._take_ended([])
        return self._under_way is not None

    def finish_commit(self) -> bool:
        """Whether the commit that was begun has ended; `committed` is moved by that. Raises as `commit`."""
        if self._failure:
            raise self._failure
        if self._under_way is not None and self._background is not None:
            self._take_ended(self._background.ended())
        return self._under_way is None

    def _next_commit(self) -> GroupCommit:
        kill_points.reached("K3")
        commit = GroupCommit(self._linked, self._rolled, self._current, self._end())
        self._linked, self._rolled, self._is_dirty = [], [], False
        return commit

    def _take_ended(self, errors: Sequence[int]) -> None:
        commit = self._under_way
        assert commit is not None
        with self._sync_errors():
            for error in errors:
                commit.under_way -= 1
                if error:
                    raise OSError(error, os.strerror(error))
            if commit.under_way == 0:
                commit.settle(self.files)
                self._under_way, self.committed = None, commit.end

    @contextmanager
    def _sync_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = SpoolFailed(
                f"a sync failed ({error.strerror})",
                where=str(self._folder),
                remedy="Check the disk and the kernel's log, then start again.",
            )
            raise self._failure from error

    def check_reserve(self) -> None:
        """Raise `SpoolFull` below the reserve and `SpoolFailed` after a failure."""
        if self._failure:
            raise self._failure
        now = time.monotonic()
        if self._reserve_bytes and now - self._free_checked_at >= FREE_CHECK_SECONDS:
            self._free_checked_at = now
            with self._typed_errors():
                self._has_room = self.files.free_bytes(self._folder) >= self._reserve_bytes
        if not self._has_room:
            raise SpoolFull(
                "less disk space is free than listener.reserve_gib",
                where=str(self._folder),
                remedy="Free space or lower retention.days.",
            )

    def close(self) -> None:
        """Commit what is there, stop the helper thread and give the lock back."""
        try:
            if not self._failure:
                self.commit()
        finally:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def put(self, fd: int, parts: Sequence[Bytes], offset: int) -> int:
        """Gather `parts` to `offset` of an open segment; for `Run`."""
        try:
            return self.files.write(fd, parts, offset)
        except OSError as error:
            raise self._trouble(error) from error

    def link(self, run: OpenSegment, meta: bytes, link: bytes) -> None:
        """Name a finished run in the log; for `Run`."""
        self._append(LINK, meta, [link], len(link))
        self._linked.append(run)

    def drop(self, run: OpenSegment) -> None:
        """Remove the file of a run; for `Run`."""
        with self._typed_errors():
            self.files.close(run.fd)
            self.files.remove(segment_path(self._folder, run.number))

    def _append(self, kind: int, meta: bytes, fragments: Sequence[Bytes], size: int) -> Location:
        if len(meta) > META_BYTES_MAX:
            raise ValueError(f"meta of {len(meta)} bytes; {META_BYTES_MAX} is the most")
        total = RECORD.size + len(meta) + size + CHECKSUM.size
        at = self._with_room_for(total)
        head = RECORD.pack(RECORD_MAGIC, kind, at.epoch, at.chain, size, len(meta))
        state = xxh3_64()
        for fragment in fragments:
            state.update(fragment)
        state.update(meta)
        state.update(head)
        checksum = int(state.intdigest())
        parts = [head + meta, *fragments, CHECKSUM.pack(checksum)]
        self._tear_if_asked(at, parts)
        written = self.put(at.fd, parts, at.offset)
        assert written == total, "size is not the sum of the fragments"
        location = Location(self.store, at.number, at.epoch, at.offset, size)
        at.offset, at.chain, self._is_dirty = at.offset + total, checksum, True
        return location

    def _tear_if_asked(self, at: OpenSegment, parts: Sequence[Bytes]) -> None:
        """For crash tests: leave a torn record behind, as a kill inside the gather write would."""
        if kill_points.armed("K1"):
            self.put(at.fd, [parts[0][: RECORD.size]], at.offset)
            kill_points.reached("K1")
        if kill_points.armed("K2"):
            whole = b"".join(parts)
            self.put(at.fd, [whole[: len(whole) // 2]], at.offset)
            kill_points.reached("K2")

    def _with_room_for(self, total: int) -> OpenSegment:
        """The current segment, rolled over first when `total` more bytes do not fit."""
        full = self._current
        if full is not None and full.offset + total <= full.limit:
            return full
        self._current = self._begin()
        if full is not None:
            self._rolled.append(full)
        return self._current

    def _close_current(self) -> None:
        if self._current is not None:
            self.files.close(self._current.fd)

    def _end(self) -> Mark:
        at = self._current
        return Mark(self.store, at.number, at.epoch, at.offset) if at else Mark(self.store, 0, 0, RECORDS_AT)

    def _begin(self) -> OpenSegment:
        """Open a blank segment under a new epoch; its header is synced with its first records."""
        fd, number = self._supply.take()
        self._epoch += 1
        header, chain = encode_segment_header(
            LOG, number, self._epoch, secrets.randbits(64), self.committed.epoch
        )
        self.put(fd, [header], 0)
        return OpenSegment(fd, number, self._epoch, RECORDS_AT, chain, self.files.size(fd))

    def _reopen(self, header: SegmentHeader) -> OpenSegment:
        """Go on behind the last valid record of the newest log segment."""
        fd = self.files.open(segment_path(self._folder, header.number))
        at = OpenSegment(fd, header.number, header.epoch, RECORDS_AT, header.checksum, self.files.size(fd))
        for offset, whole in walk_segment(self.files, fd, header, start=RECORDS_AT, until=at.limit):
            at.offset, at.chain = offset + whole.header.total, whole.checksum
            if whole.header.kind == LINK:
                # That run may be lost, and its epoch with it: no other of its number may take the link.
                self._epoch = max(self._epoch, LINKED.unpack(whole.dataset)[1])
        return at

    def _trouble(self, error: OSError) -> PrereadError:
        typed = trouble(error, where=str(self._folder))
        if isinstance(typed, SpoolFailed):
            self._failure = typed
        return typed

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._trouble(error) from error
