"""The wire between the receiver and the recorder's process: a shared mark, a bell, and short messages.

To the recorder: the spool's committed mark (shared memory, so that the receiver never waits), what was
refused, which storage commitments were reported on the associations they were asked on, and which UPS a peer
asks for. Back: the segments that no row needs any more, and what was found of such a request. A message that
does not fit is dropped, never waited for; then a report is made again. The end of the wire is the end of the
receiver.
"""

import json
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from xxhash import xxh3_64_intdigest

from db.records import Mark, NoticeState
from listener.loop import Refused

STORE = "instances"
MESSAGE_BYTES_MAX = 60_000
MESSAGES_MAX = 200  # taken at a time
RETIRED_MAX = 1000  # per message; the rest comes with the next one

_MARK = struct.Struct("<QQQQ")  # segment, epoch and offset of the mark; the last epoch before the writer's
_SUM = struct.Struct("<Q")
_STOP = {"stop": True}


@dataclass(frozen=True, slots=True)
class AskedStep:
    """A question about a UPS; `token` is the receiver's name of it."""

    token: str
    source_ae: str
    sop_uid: str


class ReceiverEnd:
    """The receiver's end; everything returns at once.

    `live_since` is the last epoch of the log before this process (`SpoolWriter.live_since`).
    """

    def __init__(self) -> None:
        self.live_since = 0
        self.socket, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self._memory_fd = os.memfd_create("preread-mark")
        os.truncate(self._memory_fd, mmap.PAGESIZE)
        self._memory = mmap.mmap(self._memory_fd, mmap.PAGESIZE)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._published: Mark | None = None
        self._retired: tuple[tuple[int, int], ...] = ()
        self.take_judged: Callable[[str, str], None] | None = None
        self.take_step: Callable[[str, NoticeState | None], None] | None = None

    @property
    def inherited(self) -> tuple[int, int, int]:
        """Descriptors for the recorder's process: socket, memory, bell."""
        return (self._other.fileno(), self._memory_fd, self._bell)

    def publish(self, mark: Mark) -> None:
        """Tell the recorder how far the log is durable."""
        if mark == self._published:
            return
        self._published = mark
        body = _MARK.pack(mark.segment, mark.epoch, mark.offset, self.live_since)
        # The sum tells a reader that looks in the middle of this write to look again.
        self._memory[: _MARK.size + _SUM.size] = body + _SUM.pack(xxh3_64_intdigest(body))
        with suppress(BlockingIOError):
            os.eventfd_write(self._bell, 1)

    def report(self, refused: Refused) -> None:
        """Tell what was refused; dropped when the recorder is behind."""
        self._send({"refused": asdict(refused)})

    def tried_report(self, token: str, is_reported: bool) -> None:
        """Tell whether a storage commitment was reported on the association of its request; any thread."""
        self._send({"tried_report": token, "is_reported": is_reported})

    def ask_step(self, token: str, source_ae: str, sop_uid: str) -> None:
        """Ask what is known of a UPS of this sender; any thread."""
        self._send({"asked_step": asdict(AskedStep(token, source_ae, sop_uid))})

    def stop(self) -> None:
        """Ask the recorder to apply what is there and to end."""
        self._send(_STOP)

    def retired(self) -> Sequence[tuple[int, int]]:
        """Segments that may be recycled, as last told; for the spool's helper thread."""
        return self._retired

    def receive(self) -> None:
        """Take a message; call when `socket` is readable."""
        with suppress(BlockingIOError):
            raw = self.socket.recv(MESSAGE_BYTES_MAX)
            message = json.loads(raw) if raw else {}
            if "retired" in message:
                self._retired = tuple((int(s), int(e)) for s, e in message["retired"])
            elif "judged" in message and self.take_judged is not None:
                self.take_judged(message["judged"], message["outcome"])
            elif "step" in message and self.take_step is not None:
                self.take_step(message["step"], message["state"])

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
        self.live_since = 0  # as last told; see `ReceiverEnd`
        self._tried_reports: list[tuple[str, bool]] = []
        self._asked_steps: list[AskedStep] = []

    def committed(self) -> Mark | None:
        """How far the log is durable; None before the receiver said so."""
        while True:
            raw = bytes(self._memory[: _MARK.size + _SUM.size])
            body = raw[: _MARK.size]
            if not any(raw):
                return None
            if _SUM.unpack_from(raw, _MARK.size)[0] == xxh3_64_intdigest(body):
                segment, epoch, offset, self.live_since = _MARK.unpack(body)
                return Mark(STORE, segment, epoch, offset)

    def answer_bell(self) -> None:
        """Silence the bell before looking at the mark, so that no later ring is lost."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def tried_reports(self) -> list[tuple[str, bool]]:
        """Requests (token) whose report the receiver tried, and whether it was taken; after `refusals`."""
        tried, self._tried_reports = self._tried_reports, []
        return tried

    def asked_steps(self) -> list[AskedStep]:
        """Which UPS were asked for; after `refusals`."""
        asked, self._asked_steps = self._asked_steps, []
        return asked

    def refusals(self) -> list[Refused]:
        """What was refused since; reads all messages, so it notices the end of the receiver, too."""
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
            said = json.loads(message)
            if "tried_report" in said:
                self._tried_reports.append((said["tried_report"], said["is_reported"]))
            elif "asked_step" in said:
                self._asked_steps.append(AskedStep(**said["asked_step"]))
            else:
                found.append(Refused(**said["refused"]))
        return found

    def judged(self, token: str, outcome: str) -> None:
        """Tell the receiver what was found; it may report on the association of the request."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.socket.send(json.dumps({"judged": token, "outcome": outcome}).encode())

    def step(self, token: str, state: NoticeState | None) -> None:
        """Tell the receiver what is known of a UPS that it asked for; None: nothing."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.socket.send(json.dumps({"step": token, "state": state}).encode())

    def offer(self, retired: Sequence[tuple[int, int]]) -> None:
        """Tell the receiver which segments may be recycled."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.socket.send(json.dumps({"retired": [list(life) for life in retired[:RETIRED_MAX]]}).encode())

    def close(self) -> None:
        """Give the descriptors back."""
        self.socket.close()
        self._memory.close()
        os.close(self.bell)
