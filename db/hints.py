"""Hints between processes that there may be something to do; losing one costs a poll, nothing else.

Postgres: LISTEN and NOTIFY on a connection of its own. SQLite: all processes are on one machine, so each
listener has a Unix datagram socket in a shared folder, named `<channel>.<pid>.<thread>`, and a notifier sends
one byte to each.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

_HINT = b"\x01"


class Listening(Protocol):
    """One thread's ear on one channel."""

    def wait(self, timeout_seconds: float) -> bool:
        """Whether a hint came in time; swallows all that came."""

    def close(self) -> None:
        """Stop listening."""


@contextmanager
def _short_path(folder: Path, name: str) -> Iterator[str]:
    """A path to `name` that fits into the 107 bytes of a socket address, however deep `folder` lies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


class SocketListening:
    """A datagram socket in the hint folder."""

    def __init__(self, folder: Path, channel: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{channel}.{os.getpid()}.{threading.get_native_id()}"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with _short_path(folder, self._path.name) as path:
            self._socket.bind(path)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether a hint came in time; swallows all that came."""
        if not self._poll.poll(max(0.0, timeout_seconds) * 1000):
            return False
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(1)
        return True

    def close(self) -> None:
        """Stop listening."""
        self._path.unlink(missing_ok=True)
        self._socket.close()


def send_to_sockets(folder: Path, channel: str) -> None:
    """Hint to every listener of `channel`; sockets whose owner died are removed."""
    listeners = [path.name for path in folder.glob(f"{channel}.*")]
    if not listeners:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for name in listeners:
            try:
                with _short_path(folder, name) as path:
                    sender.sendto(_HINT, path)
            except ConnectionRefusedError:  # left by a process that was killed
                (folder / name).unlink(missing_ok=True)
            except OSError:
                continue  # just gone, or its buffer is full of hints already


class PostgresListening:
    """LISTEN on a connection of its own; reconnects by itself."""

    def __init__(self, connect_arguments: Mapping[str, Any], channel: str) -> None:
        self._arguments, self._channel = connect_arguments, channel
        self._connection: psycopg.Connection[Any] | None = None
        with suppress(psycopg.OperationalError):  # the database is away; the next wait tries again
            self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(**self._arguments, autocommit=True)
            self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        return self._connection

    def wait(self, timeout_seconds: float) -> bool:
        """Whether a hint came in time; swallows all that came."""
        ends = time.monotonic() + max(0.0, timeout_seconds)
        try:
            heard = any(True for _ in self._connect().notifies(timeout=timeout_seconds, stop_after=1))
            for _ in self._connect().notifies(timeout=0):
                heard = True
        except psycopg.OperationalError:
            self.close()
            time.sleep(max(0.0, ends - time.monotonic()))
            return False
        return heard

    def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
