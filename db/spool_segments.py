"""The supply of blank log segments: a helper thread prepares them ahead of time; a roll-over is cheap then.

While segments are taken it keeps `ahead` of them ready; at rest it lays in a `stock`, since to write a fresh
segment costs as much as to receive what goes into it, and a study should find both done.

Blank means: of full size, written once (a sync then has no metadata to commit), header block zero, durable.
Retired segments are blanked and used again; what is not needed for that is removed, so space comes back.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from config import kill_points
from config.errors import PrereadError
from config.logs import logger
from db.spool_files import SpoolFiles, SpoolFull, trouble
from db.spool_records import (
    LOG,
    RECORDS_AT,
    RUN,
    SEGMENT_BYTES,
    SETTLED_AT,
    SegmentHeader,
    parse_segment_header,
    runs_named,
    segment_path,
)
from db.spool_run import SETTLED, is_settled

RETRY_SECONDS = 0.5
LOOK_SECONDS = 30.0
WAIT_SECONDS = 60.0
REST_SECONDS = 2.0  # after the last segment was taken
PACE_SECONDS = 0.2  # between two segments of the stock

Prepared = tuple[int, int]  # descriptor, number


def gone_for_good(files: SpoolFiles, folder: Path, lives: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of these (segment, epoch) those whose file is removed, and durably so: they may be forgotten.

    Asked by another process than the one that removes: what is only gone from the page cache comes back with
    a power cut, and nobody would know it any more. Raises OSError.
    """
    names = set(files.list_folder(folder))
    gone = [life for life in lives if segment_path(folder, life[0]) not in names]
    if gone:
        files.sync_folder(folder)
    return gone


class SegmentSupply:
    """Blank segments, ready to be taken by the one writer of a store."""

    def __init__(
        self,
        folder: Path,
        *,
        files: SpoolFiles,
        segment_bytes: int,
        ahead: int,
        stock: int,
        reserve_bytes: int,
        take_retired: Callable[[], Sequence[tuple[int, int]]],
        blank: Iterable[int],
        numbers: Iterator[int],
    ) -> None:
        self._folder, self._files = folder, files
        self._segment_bytes, self._ahead = segment_bytes, max(1, ahead)
        self._stock, self._taken_at = max(self._ahead, stock), time.monotonic()
        self._reserve_bytes, self._take_retired = reserve_bytes, take_retired
        self._blank, self._numbers = deque(sorted(blank)), numbers
        self._ready: deque[Prepared] = deque()
        self._failure: PrereadError | None = None
        self._closing = self._has_removed = False
        self._changed = threading.Condition()
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="segment-supply", daemon=True)
        self._thread.start()

    def take(self) -> Prepared:
        """The next blank segment; waits for the disk if need be, raises `SpoolFull` when there is no room."""
        with self._changed:
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._ready or self._failure, WAIT_SECONDS):
                raise SpoolFull(
                    f"no segment could be prepared in {WAIT_SECONDS:.0f} s",
                    where=str(self._folder),
                    remedy="Look at the disk: it is very slow or hangs.",
                )
            if self._ready:
                prepared = self._ready.popleft()
                self._taken_at = time.monotonic()
                self._changed.notify_all()
                return prepared
            assert self._failure is not None
            raise self._failure

    def close(self) -> None:
        """Stop the thread; prepared segments stay blank files for the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._join()
        for fd, _ in self._ready:
            self._files.close(fd)

    def _join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        while not self._closing:
            self._step()

    def _step(self) -> None:
        """Prepare a segment if one is wanted, else remove what is not; then wait for what comes."""
        with self._changed:
            wanted = len(self._ready) < self._wanted()
        try:
            prepared = self._prepare() if wanted else None
            if prepared is None:
                if len(self._ready) >= self._stock:
                    self._release_retired()
                self._sync_removals()
                self._pause(LOOK_SECONDS)
                return
            self._sync_removals()
            with self._changed:
                self._ready.append(prepared)
                self._failure = None
                self._changed.notify_all()
            if len(self._ready) > self._ahead:
                self._pause(PACE_SECONDS)
        except OSError as error:
            self._fail(trouble(error, where=str(self._folder)))
        except PrereadError as error:
            self._fail(error)

    def _wanted(self) -> int:
        """How many segments are to be ready now."""
        return self._stock if time.monotonic() - self._taken_at >= REST_SECONDS else self._ahead

    def _has_room(self) -> bool:
        """Whether a segment may be made: up to `ahead`, `_create` judges; a stock on a roomy disk."""
        if len(self._ready) < self._ahead:
            return True
        room = self._files.free_bytes(self._folder) - self._reserve_bytes
        return room > 2 * self._stock * self._segment_bytes

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if len(self._ready) < self._stock:
                until_rest = self._taken_at + REST_SECONDS - time.monotonic()
                seconds = min(seconds, until_rest) if until_rest > 0 else seconds
            self._changed.wait_for(
                lambda: self._closing or (len(self._ready) < self._ahead and not self._failure), seconds
            )

    def _fail(self, error: PrereadError) -> None:
        with self._changed:
            first = self._failure is None
            self._failure = error
            self._changed.notify_all()
        if first:
            logger("spool").warning("no_segment_prepared", reason=error.what)
        # The failure is what `take` raises until a later try succeeds.
        self._pause(RETRY_SECONDS)

    def _prepare(self) -> Prepared | None:
        while self._blank:
            fd, number = self._open(self._blank.popleft())
            if self._files.size(fd) == self._segment_bytes:
                return fd, number
            self._discard(fd, number)
        for fd, number, kind in self._retired():
            if kind == LOG and self._files.size(fd) == self._segment_bytes:
                kill_points.reached("K10")
                # Blank before it is offered again: from now on its old life cannot be retired twice.
                self._files.write(fd, [bytes(RECORDS_AT)], 0)
                self._files.sync(fd)
                kill_points.reached("K10")
                return fd, number
            self._discard(fd, number)
        return self._create() if self._has_room() else None

    def _release_retired(self) -> None:
        for fd, number, _ in self._retired():
            self._discard(fd, number)

    def _retired(self) -> Iterator[tuple[int, int, int]]:
        """Segments whose present life is over: (descriptor, number, kind)."""
        for number, epoch in self._take_retired():
            try:
                fd, number = self._open(number)
            except FileNotFoundError:
                continue
            header = parse_segment_header(self._files.read(fd, SEGMENT_BYTES, 0), number)
            if header is None or header.epoch != epoch:
                self._files.close(fd)
            elif header.kind == LOG:
                self._settle_runs_of(fd, header)
                yield fd, number, LOG
            elif is_settled(self._files, fd):
                yield fd, number, header.kind
            else:
                self._files.close(fd)

    def _settle_runs_of(self, log: int, header: SegmentHeader) -> None:
        """With this log go its links: that the runs they name were committed must not hang on them alone."""
        for number, epoch in runs_named(self._files, log, header):
            try:
                fd, _ = self._open(number)
            except FileNotFoundError:
                continue
            try:
                run = parse_segment_header(self._files.read(fd, SEGMENT_BYTES, 0), number)
                if run is not None and run.epoch == epoch and run.kind == RUN:
                    # Written once more: after a failed sync, one of a clean page proves nothing.
                    self._files.write(fd, [SETTLED], SETTLED_AT)
                    self._files.sync(fd)
            finally:
                self._files.close(fd)

    def _create(self) -> Prepared:
        if self._files.free_bytes(self._folder) < self._reserve_bytes + self._segment_bytes:
            raise SpoolFull(
                "less disk space is free than listener.reserve_gib",
                where=str(self._folder),
                remedy="Free space or lower retention.days.",
            )
        number = next(self._numbers)
        path = segment_path(self._folder, number)
        fd = self._files.open(path, create=True)
        try:
            self._files.fill(fd, self._segment_bytes)
            kill_points.reached("K9")
            self._files.sync_folder(self._folder)
            kill_points.reached("K9")
        except BaseException:
            self._discard(fd, number)
            raise
        return fd, number

    def _open(self, number: int) -> Prepared:
        return self._files.open(segment_path(self._folder, number)), number

    def _discard(self, fd: int, number: int) -> None:
        self._files.close(fd)
        self._files.remove(segment_path(self._folder, number))
        self._has_removed = True

    def _sync_removals(self) -> None:
        """Once for many: a file that the rows have forgotten must not come back."""
        if self._has_removed:
            self._files.sync_folder(self._folder)
            self._has_removed = False
