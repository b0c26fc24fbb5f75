"""One writer at a time on a SQLite file, waiters served in the order they came, across processes.

SQLite's own busy handler sleeps and retries, so that among four or more processes one starves for 0.2 to 2 s
(docs/decisions/0004-job-table.md). Here a writer first waits for the turnstile, then, holding that, for the
writer's place, and frees the turnstile when it has it. The one in the turnstile is alone in waiting for the
place, so a process that has just written and wants to write again cannot overtake it; behind the turnstile
the kernel keeps the queue. A process that dies frees both. The lock only orders writers: SQLite's
BEGIN IMMEDIATE still guards the file, also against programs that know nothing of this lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriterQueue:
    """The queue of the writers of one database file.

    Parameters
    ----------
    path : lock files are made as `<path>.turnstile` and `<path>.writer`
    """

    def __init__(self, path: Path) -> None:
        self._turnstile = path.with_name(path.name + ".turnstile")
        self._writer = path.with_name(path.name + ".writer")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold the writer's place; waits without a limit for those who came before."""
        writer = _open(self._writer)
        try:
            turnstile = _open(self._turnstile)
            try:
                fcntl.flock(turnstile, fcntl.LOCK_EX)
                fcntl.flock(writer, fcntl.LOCK_EX)
            finally:
                os.close(turnstile)
            yield
        finally:
            os.close(writer)


def _open(path: Path) -> int:
    # A description of its own for each wait: flock belongs to it, so threads queue like processes do.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
