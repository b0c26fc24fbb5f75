"""A disk in memory that forgets what was not synced: whole, in part, in any order, as a power cut would.

What it assumes of a real one is little: a sector of 512 bytes is written whole or not at all; what a sync
reported as done stays. Beyond that a power cut keeps of each file's unsynced writes any set of sectors (of a
sector that was written several times: some state it had), of its growth any step, and of the names in a
folder any state since the folder was synced. A name is durable by a sync of its folder alone, not of its file
(POSIX; ext4 gives more). A killed process loses nothing that reached the page cache. After a failed sync the
pages may be lost and yet be read until the cache forgets them, and the next sync says that all is well.
"""

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from db.background_sync import BackgroundSync
from db.spool_files import Bytes, SpoolFiles

SECTOR_BYTES = 512
_FOLDER: Final = None


class Stopped(BaseException):
    """The process ends here: killed, or without power."""


class _File:
    """One file: what the page cache shows, what is durable, and the writes that are not."""

    def __init__(self) -> None:
        self.cache, self.durable = bytearray(), bytearray()
        self.unsynced: list[tuple[int, bytes]] = []
        self.written = 0  # writes so far

    def write(self, offset: int, content: bytes) -> None:
        self.written += 1
        _put(self.cache, offset, content)
        self.unsynced.append((offset, content))

    def settle(self) -> None:
        self.settle_until(self.written, len(self.cache))

    def settle_until(self, written: int, size: int) -> None:
        """Make durable what was there when so many writes had been made and the file had that size."""
        count = max(0, written - (self.written - len(self.unsynced)))
        for offset, content in self.unsynced[:count]:
            _put(self.durable, offset, content)
        del self.unsynced[:count]
        _grow(self.durable, size)

    def lose(self, chance: random.Random, kept: float) -> None:
        """Keep some of the unsynced writes, forget the others; `kept` is how likely a sector stays."""
        sizes = [len(self.durable), *(offset + len(content) for offset, content in self.unsynced)]
        size = max(len(self.durable), chance.choice(sizes))
        for states in _by_sector(self.unsynced).values():
            stays = len(states) if chance.random() < kept else chance.randrange(len(states))
            for offset, content in states[:stays]:
                _put(self.durable, offset, content)
        self.unsynced = []
        del self.durable[size:]
        _grow(self.durable, size)

    def forget_cache(self) -> None:
        """Clean pages are read from the disk again; the size is not a matter of pages."""
        size = len(self.cache)
        self.cache = bytearray(self.durable)
        for offset, content in self.unsynced:
            _put(self.cache, offset, content)
        _grow(self.cache, size)


class SimulatedDisk:
    """Files and folders that outlive processes, and what befalls them.

    Parameters
    ----------
    room : bytes of all files together, beyond which the disk is full; None: endless
    """

    def __init__(self, chance: random.Random, root: Path, *, room: int | None = None) -> None:
        self._chance, self._room = chance, room
        self._names: dict[Path, _File | None] = {}
        self._durable_names: dict[Path, _File | None] = {}
        self._unsynced_names: dict[Path, list[_File | str | None]] = {}
        self._root = root
        self.steps = 0
        self.stop_at: int | None = None
        self.fail_sync_at: int | None = None

    def cut_power(self) -> None:
        """Forget what a power cut forgets."""
        kept = self._chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        names = dict(self._durable_names)
        for path, states in self._unsynced_names.items():
            state = self._chance.choice((names.get(path, _GONE), *states))
            if isinstance(state, str):
                names.pop(path, None)
            else:
                names[path] = state
        self._names = {path: node for path, node in names.items() if self._is_reached(path, names)}
        self._durable_names, self._unsynced_names = dict(self._names), {}
        for file in self._names.values():
            if file is not None:
                file.lose(self._chance, kept)
                file.cache = bytearray(file.durable)

    def _is_reached(self, path: Path, names: dict[Path, _File | None]) -> bool:
        return all(
            folder in names
            for folder in path.parents
            if folder != self._root and self._root in folder.parents
        )

    def step(self) -> bool:
        """Count a step; whether the process ends inside it."""
        self.steps += 1
        return self.stop_at is not None and self.steps >= self.stop_at

    def coin(self) -> bool:
        return self._chance.random() < 0.5

    def part_of(self, size: int) -> int:
        return self._chance.randint(0, size)

    def name(self, path: Path, node: _File | str | None) -> None:
        """Give a name to a file or folder, or take it away."""
        if isinstance(node, str):
            self._names.pop(path, None)
        else:
            self._names[path] = node
        self._unsynced_names.setdefault(path, []).append(node)

    def sync_names(self, folder: Path) -> None:
        for path in [path for path in self._unsynced_names if path.parent == folder]:
            del self._unsynced_names[path]
            if path in self._names:
                self._durable_names[path] = self._names[path]
            else:
                self._durable_names.pop(path, None)

    def is_folder(self, path: Path) -> bool:
        return path == self._root or (path in self._names and self._names[path] is None)

    def file(self, path: Path) -> _File:
        found = self._names.get(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return found

    def exists(self, path: Path) -> bool:
        return path in self._names

    def listed(self, folder: Path) -> list[Path]:
        return [path for path in self._names if path.parent == folder]

    def free(self) -> int:
        if self._room is None:
            return 1 << 40
        return max(0, self._room - sum(len(file.cache) for file in self._names.values() if file is not None))

    def lose_pages(self, file: _File) -> None:
        """A sync fails: the pages count as clean, whether they reached the disk or not."""
        file.lose(self._chance, 0.5)


_GONE: Final = "gone"


class SimulatedBackground(BackgroundSync):
    """Syncs that end some turns later; what is written after they began is not theirs."""

    def __init__(self, files: "SimulatedFiles", disk: SimulatedDisk) -> None:
        self._files, self._disk = files, disk
        self._begun: list[tuple[_File, int, int]] = []
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = False

    def begin(self, fd: int) -> bool:
        """Begin; now and then the kernel takes none."""
        if self._disk.coin() and self._disk.coin():
            return False
        file = self._files.opened(fd)
        self._begun.append((file, file.written, len(file.cache)))
        os.eventfd_write(self.bell, 1)
        return True

    def ended(self) -> list[int]:
        """Let the oldest end, or none."""
        if not self._begun or self._disk.coin():
            return []
        file, written, size = self._begun.pop(0)
        return [self._files.end_sync(file, written, size)]

    def wait(self) -> list[int]:
        """Let the oldest end."""
        file, written, size = self._begun.pop(0)
        return [self._files.end_sync(file, written, size)]

    def close(self) -> None:
        """What is under way is lost with the process, or ends unseen."""
        if not self._is_closed:
            os.close(self.bell)
        self._is_closed = True


class SimulatedFiles(SpoolFiles):
    """The disk as one process sees it. When the process has ended, nothing reaches the disk any more."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._opened: dict[int, _File] = {}
        self._next_fd = 3
        self.is_over = False
        self._background: SimulatedBackground | None = None

    def end(self) -> None:
        """The process ends."""
        self.is_over = True
        if self._background is not None:
            self._background.close()

    def _stops(self) -> bool:
        """Count a step that changes something; True: the process ends inside it."""
        if self._disk.step():
            self.is_over = True
            return True
        return False

    def make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not self._disk.is_folder(path)]
        for path in reversed(missing):
            if self.is_over:
                return
            self._change_name(path, _FOLDER)

    def list_folder(self, folder: Path) -> list[Path]:
        return self._disk.listed(folder)

    def open(self, path: Path, *, create: bool = False) -> int:
        if create and not self.is_over:
            if self._disk.exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            self._change_name(path, _File())
        return self._handle(self._disk.file(path))

    def _handle(self, file: _File) -> int:
        self._next_fd += 1
        self._opened[self._next_fd] = file
        return self._next_fd

    def close(self, fd: int) -> None:
        if not self.is_over:
            del self._opened[fd]

    def remove(self, path: Path) -> None:
        if not self.is_over and self._disk.exists(path):
            self._change_name(path, _GONE)

    def _change_name(self, path: Path, node: _File | str | None) -> None:
        stops = self._stops()
        if not stops or self._disk.coin():
            self._disk.name(path, node)
        if stops:
            raise Stopped

    def fill(self, fd: int, size: int) -> None:
        zeros = bytes(1024)
        for offset in range(0, size, len(zeros)):
            self.write(fd, [zeros[: size - offset]], offset)
        self.sync(fd)

    def write(self, fd: int, parts: Sequence[Bytes], offset: int) -> int:
        content = b"".join(parts)
        if self.is_over:
            return len(content)
        file = self._opened[fd]
        growth = offset + len(content) - len(file.cache)
        missing = max(0, growth - self._disk.free()) if growth > 0 else 0
        stops = self._stops()
        written = max(0, len(content) - missing)
        if stops:
            written = self._disk.part_of(written)
        if written:
            file.write(offset, content[:written])
        if stops:
            raise Stopped
        if missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(content)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(memoryview(self._opened[fd].cache)[offset : offset + size])

    def size(self, fd: int) -> int:
        return len(self._opened[fd].cache)

    def sync(self, fd: int) -> None:
        file = self._opened[fd] if not self.is_over else _File()
        error = self.end_sync(file, file.written, len(file.cache))
        if error:
            raise OSError(error, os.strerror(error))

    def end_sync(self, file: _File, written: int, size: int) -> int:
        """A sync that began when the file was like this ends; its error number."""
        if self.is_over:
            return 0
        if self._stops():
            raise Stopped
        disk = self._disk
        if disk.fail_sync_at is not None and disk.steps >= disk.fail_sync_at:
            disk.fail_sync_at = None
            disk.lose_pages(file)
            return errno.EIO
        file.settle_until(written, size)
        return 0

    def opened(self, fd: int) -> _File:
        return self._opened[fd]

    def background(self) -> BackgroundSync | None:
        self._background = SimulatedBackground(self, self._disk)
        return self._background

    def start_writing_back(self, fd: int, offset: int, size: int) -> None:
        return  # a power cut may keep unsynced sectors anyway

    def forget_cache(self, fd: int) -> None:
        self._opened[fd].forget_cache()

    def sync_folder(self, folder: Path) -> None:
        if self.is_over:
            return
        if self._stops():
            raise Stopped
        self._disk.sync_names(folder)

    def free_bytes(self, folder: Path) -> int:
        return self._disk.free()

    def lock(self, path: Path) -> int:
        return self._handle(_File())  # one process at a time is the history's own doing


def _put(content: bytearray, offset: int, piece: bytes) -> None:
    _grow(content, offset)
    content[offset : offset + len(piece)] = piece


def _grow(content: bytearray, size: int) -> None:
    if size > len(content):
        content += bytes(size - len(content))


def _by_sector(writes: list[tuple[int, bytes]]) -> dict[int, list[tuple[int, bytes]]]:
    """The parts of writes by the sector they fall into, each in the order they were written."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    for offset, content in writes:
        at = 0
        while at < len(content):
            sector, inside = divmod(offset + at, SECTOR_BYTES)
            piece = content[at : at + SECTOR_BYTES - inside]
            found.setdefault(sector, []).append((offset + at, piece))
            at += len(piece)
    return found
