"""Every system call the spool makes, in one place, so that a simulated disk can take its place.

Errors that mean "no room" become `SpoolFull`, which passes; every other one becomes `SpoolFailed`, which does
not: after a failed write or sync the kernel may have dropped the pages, so a retry that succeeds proves
nothing.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from config.errors import PrereadError
from db.background_sync import BackgroundSync

Bytes = bytes | bytearray | memoryview

IOV_MAX = os.sysconf("SC_IOV_MAX")
ZEROS_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SpoolFull(PrereadError):
    """There is no room for this record now; nothing was written and the spool goes on."""


class SpoolFailed(PrereadError):
    """The disk failed: what was not yet committed must be taken for lost, and the process must end."""


class SpoolLocked(PrereadError):
    """Another process writes to this store."""


class SpoolDamaged(PrereadError):
    """The folder holds something the format does not allow."""


def trouble(error: OSError, *, where: str) -> PrereadError:
    """The typed error for a failed system call on `where`."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return SpoolFull(
            f"no room on disk ({reason})", where=where, remedy="Free space or lower retention.days."
        )
    return SpoolFailed(
        f"the disk failed ({reason})",
        where=where,
        remedy="Check the disk and the kernel's log, then start again.",
    )


class SpoolFiles:
    """The disk as the spool sees it: descriptors, positions and syncs."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, if they are missing."""
        folder.mkdir(parents=True, exist_ok=True)

    def list_folder(self, folder: Path) -> list[Path]:
        """What is in a folder; nothing when it is not there."""
        return list(folder.iterdir()) if folder.is_dir() else []

    def open(self, path: Path, *, create: bool = False) -> int:
        """A descriptor for reading and writing; `create` demands that the file is new."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, 0o600)

    def close(self, fd: int) -> None:
        """Give a descriptor back."""
        os.close(fd)

    def remove(self, path: Path) -> None:
        """Unlink a file; that it is gone already is no error."""
        path.unlink(missing_ok=True)

    def fill(self, fd: int, size: int) -> None:
        """Reserve and zero-write `size` bytes, so that a later sync has no metadata to commit."""
        os.posix_fallocate(fd, 0, size)
        zeros = bytes(min(ZEROS_BYTES, size))
        for offset in range(0, size, len(zeros)):
            self.write(fd, [zeros[: size - offset]], offset)
        os.fsync(fd)

    def write(self, fd: int, parts: Sequence[Bytes], offset: int) -> int:
        """Gather `parts` to `offset`; the number of bytes written, always all of them."""
        total = sum(len(part) for part in parts)
        if len(parts) <= IOV_MAX:
            written = os.pwritev(fd, parts, offset)
            if written == total:
                return total
        else:
            written = 0
        queue = [memoryview(part) for part in parts if len(part)]
        # A short write is legal (a signal, 2 GiB); go on after what arrived.
        skip, done = written, written
        while queue:
            if skip >= len(queue[0]):
                skip -= len(queue.pop(0))
                continue
            queue[0], skip = queue[0][skip:], 0
            skip = os.pwritev(fd, queue[:IOV_MAX], offset + done)
            done += skip
        return total

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes at `offset`; fewer only at the end of the file."""
        parts = []
        while size > 0:
            part = os.pread(fd, size, offset)
            if not part:
                break
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self, fd: int) -> int:
        """Length of a file."""
        return os.fstat(fd).st_size

    def sync(self, fd: int) -> None:
        """Make the bytes of a file durable."""
        os.fdatasync(fd)

    def background(self) -> BackgroundSync | None:
        """A way to sync beside other work, where there is one."""
        return BackgroundSync.open()

    def start_writing_back(self, fd: int, offset: int, size: int) -> None:
        """Hint that these bytes are not needed soon: the kernel writes them and frees the clean pages."""
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)

    def forget_cache(self, fd: int) -> None:
        """Read the bytes of a synced file from the disk again: after a failed sync, memory may lie."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, folder: Path) -> int:
        """Room left for us on the file system of `folder`."""
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize

    def lock(self, path: Path) -> int:
        """Hold the exclusive lock of a store until the descriptor is closed or the process ends."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise SpoolLocked(
                f"process {holder} writes to this store already",
                where=str(path.parent),
                remedy="Stop the other listener or worker, or give this one a state_folder of its own.",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd
