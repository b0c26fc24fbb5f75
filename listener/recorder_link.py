"""The wire between the receiver and the recorder's process: a shared mark, a bell, and short messages.

To the recorder: the spool's committed mark (shared memory, so that the receiver never waits) and what was
refused (a message per refusal; one that does not fit is dropped, never waited for). Back: the segments that
no row needs any more. The end of the wire is the end of the receiver.
"""

import json
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from xxhash import xxh3_64_intdigest

from db.records import Mark
from listener.loop import Refused

STORE = "instances"
MESSAGE_BYTES_MAX = 60_000
MESSAGES_MAX = 200  # taken at a time
RETIRED_MAX = 1000  # per message; the rest comes with the next one

_MARK = struct.Struct("<QQQ")
_SUM = struct.Struct("<Q")
_STOP = {"stop": True}


class ReceiverEnd:
    """The receiver's end; everything returns at once."""

    def __init__(self) -> None:
        self.socket, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self._memory_fd = os.memfd_create("preread-mark")
        os.truncate(self._memory_fd, mmap.PAGESIZE)
        self._memory = mmap.mmap(self._memory_fd, mmap.PAGESIZE)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._published: Mark | None = None
        self._retired: tuple[tuple[int, int], ...] = ()

    @property
    def inherited(self) -> tuple[int, int, int]:
        """Descriptors for the recorder's process: socket, memory, bell."""
        return (self._other.fileno(), self._memory_fd, self._bell)

    def publish(self, mark: Mark) -> None:
        """Tell the recorder how far the log is durable."""
        if mark == self._published:
            return
        self._published = mark
        body = _MARK.pack(mark.segment, mark.epoch, mark.offset)
        # The sum tells a reader that looks in the middle of this write to look again.
        self._memory[: _MARK.size + _SUM.size] = body + _SUM.pack(xxh3_64_intdigest(body))
        with suppress(BlockingIOError):
            os.eventfd_write(self._bell, 1)

    def report(self, refused: Refused) -> None:
        """Tell what was refused; dropped when the recorder is behind."""
        self._send({"refused": asdict(refused)})

    def stop(self) -> None:
        """Ask the recorder to apply what is there and to end."""
        self._send(_STOP)

    def retired(self) -> Sequence[tuple[int, int]]:
        """Segments that may be recycled, as last told; for the spool's helper thread."""
        return self._retired

    def receive(self) -> None:
        """Take a message; call when `socket` is readable."""
        with suppress(BlockingIOError):
            message = self.socket.recv(MESSAGE_BYTES_MAX)
            if message:
                self._retired = tuple((int(s), int(e)) for s, e in json.loads(message)["retired"])

    def close(self) -> None:
        """Close both ends here; the recorder sees the end."""
        self.socket.close()
        self._other.close()
        self._memory.close()
        os.close(self._memory_fd)
        os.close(self._bell)

    def _send(self, message: object) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            self.socket.send(json.dumps(message).encode())


class RecorderEnd:
    """The recorder's end, from inherited descriptors."""

    def __init__(self, socket_fd: int, memory_fd: int, bell_fd: int) -> None:
        self.socket = socket.socket(fileno=socket_fd)
        self.socket.setblocking(False)
        self._memory = mmap.mmap(memory_fd, mmap.PAGESIZE)
        os.close(memory_fd)  # the mapping stays
        self.bell = bell_fd
        self.is_stopping = False

    def committed(self) -> Mark | None:
        """How far the log is durable; None before the receiver said so."""
        while True:
            raw = bytes(self._memory[: _MARK.size + _SUM.size])
            body = raw[: _MARK.size]
            if not any(raw):
                return None
            if _SUM.unpack_from(raw, _MARK.size)[0] == xxh3_64_intdigest(body):
                segment, epoch, offset = _MARK.unpack(body)
                return Mark(STORE, segment, epoch, offset)

    def answer_bell(self) -> None:
        """Silence the bell before looking at the mark, so that no later ring is lost."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def refusals(self) -> list[Refused]:
        """What was refused since; notices the end of the receiver, too."""
        found: list[Refused] = []
        while len(found) < MESSAGES_MAX:
            try:
                message = self.socket.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return found
            except ConnectionResetError:  # it ended with our last message unread
                message = b""
            if not message or json.loads(message) == _STOP:
                self.is_stopping = True
                return found
            found.append(Refused(**json.loads(message)["refused"]))
        return found

    def offer(self, retired: Sequence[tuple[int, int]]) -> None:
        """Tell the receiver which segments may be recycled."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.socket.send(json.dumps({"retired": [list(life) for life in retired[:RETIRED_MAX]]}).encode())

    def close(self) -> None:
        """Give the descriptors back."""
        self.socket.close()
        self._memory.close()
        os.close(self.bell)
