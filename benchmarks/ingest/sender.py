"""A sender that costs little: pre-encoded messages, one store outstanding per association, answers checked.

Run as a process of its own, so that its time is not the receiver's:
`python -m benchmarks.ingest.sender PORT AE KIND COUNT ASSOCIATIONS RUN [TLS]`. TLS is a folder of
certificates (`benchmarks.ingest.certificates`): then it speaks TLS by the OpenSSL of Python; the handshake is
before the clock starts. Prints one JSON line: seconds from the first byte of the first store to the last
answer, how many were stored, and the cipher suite.
"""

import json
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ingest.certificates import client_context
from benchmarks.ingest.messages import (
    CT_SLICE,
    MULTI_FRAME,
    SMALL,
    associate_request,
    dataset,
    sop_instance,
    store_message,
)

KINDS = {kind.name: kind for kind in (CT_SLICE, SMALL, MULTI_FRAME)}
ANSWER_SECONDS = 120.0
CALLING_AE = "BENCHMARK"
RELEASE_RQ = bytes.fromhex("05000000000400000000")
_OWN_MAX = 131072  # bytes of a PDU that we send at most, when the receiver wants no less


class SendingFailed(Exception):
    """The receiver did not store everything, or not as asked."""


@dataclass
class Association:
    """One established association and what it still has to send."""

    sock: socket.socket
    messages: list[tuple[int, bytes]] = field(default_factory=list)  # (message id, PDUs), the last one first
    waiting: memoryview = field(default_factory=lambda: memoryview(b""))
    message_id: int = 0
    answer: bytes = b""

    def begin(self) -> bool:
        """Take the next message; False when all are sent."""
        if not self.messages:
            return False
        self.message_id, message = self.messages.pop()
        self.waiting = memoryview(message)
        return True

    def push(self) -> None:
        """Send what the socket takes."""
        while self.waiting:
            try:
                self.waiting = self.waiting[self.sock.send(self.waiting) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                return

    def pull(self) -> bool:
        """Read the answer; True when it is whole and a success for the message under way."""
        try:
            part = self.sock.recv(4096)
        except ssl.SSLWantReadError:  # a record of TLS itself, such as a ticket
            return False
        if not part:
            raise SendingFailed("the receiver closed the association")
        self.answer += part
        if len(self.answer) < 6 or len(self.answer) < 6 + int.from_bytes(self.answer[2:6], "big"):
            return False
        status, message_id = _status(self.answer)
        if status != 0 or message_id != self.message_id or self.waiting:
            raise SendingFailed(f"status {status:04X} for message {message_id}, expected {self.message_id}")
        self.answer = b""
        return True


def send(
    *, port: int, called_ae: str, kind_name: str, count: int, associations: int, run: int, tls: Path | None
) -> tuple[float, str | None]:
    """Send `count` instances over some associations.

    Parameters
    ----------
    tls : folder of certificates; None: plain

    Returns
    -------
    Seconds from the first byte to the last answer; TLS version and cipher suite.
    """
    kind = KINDS[kind_name]
    opened = [_open(port, called_ae, tls) for _ in range(associations)]
    for number in range(count):
        association, pdu_bytes_max = opened[number % associations]
        uid, message_id = sop_instance(run, number), number % 65535 + 1
        message = store_message(dataset(kind, run, number), uid, message_id, pdu_bytes_max)
        association.messages.insert(0, (message_id, message))
    sending = [association for association, _ in opened]
    for association in sending:
        association.sock.setblocking(False)
    seconds = _exchange(sending)
    cipher = _cipher(sending[0].sock)
    for association in sending:
        association.sock.setblocking(True)
        association.sock.sendall(RELEASE_RQ)
        association.sock.recv(64)
        association.sock.close()
    return seconds, cipher


def _exchange(associations: Sequence[Association]) -> float:
    with selectors.EpollSelector() as selector:
        began = time.perf_counter()
        busy = 0
        for association in associations:
            if association.begin():
                busy += 1
                association.push()
                selector.register(association.sock, _interest(association), association)
        while busy:
            ready = selector.select(ANSWER_SECONDS)
            if not ready:
                raise SendingFailed(f"no answer in {ANSWER_SECONDS:.0f} s")
            for key, events in ready:
                association = key.data
                is_answered = bool(events & selectors.EVENT_READ) and association.pull()
                if is_answered and not association.begin():
                    selector.unregister(association.sock)
                    busy -= 1
                    continue
                association.push()
                if key.events != _interest(association):
                    selector.modify(association.sock, _interest(association), association)
        return time.perf_counter() - began


def _interest(association: Association) -> int:
    # While it still sends it looks for an answer too: an abort may come.
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if association.waiting else 0)


def _cipher(sock: socket.socket) -> str | None:
    known = sock.cipher() if isinstance(sock, ssl.SSLSocket) else None
    return f"{known[1]} {known[0]}" if known else None


def _open(port: int, called_ae: str, tls: Path | None) -> tuple[Association, int]:
    """An association, and the longest PDU its receiver takes."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is not None:
        sock = client_context(tls).wrap_socket(sock)
    sock.sendall(associate_request(CALLING_AE, called_ae))
    answer = b""
    while len(answer) < 6 or len(answer) < 6 + int.from_bytes(answer[2:6], "big"):
        part = sock.recv(65536)
        if not part:
            raise SendingFailed("the receiver closed the connection")
        answer += part
    if answer[0] != 2:
        raise SendingFailed(f"the association was answered with PDU type {answer[0]}")
    at = answer.find(b"\x51\0\0\4")
    announced = int.from_bytes(answer[at + 4 : at + 8], "big") if at > 0 else 16384
    return Association(sock), min(announced or _OWN_MAX, _OWN_MAX)


def _status(answer: bytes) -> tuple[int, int]:
    """(status, message id) of a C-STORE-RSP in one PDU."""
    if answer[0] != 4:
        raise SendingFailed(f"PDU type {answer[0]} instead of an answer")
    at, found = 12, {0x0900: 0xFFFF, 0x0120: 0}
    while at + 8 <= len(answer):
        _, element, length = struct.unpack_from("<HHL", answer, at)
        if element in found:
            found[element] = int.from_bytes(answer[at + 8 : at + 8 + length], "little")
        at += 8 + length
    return found[0x0900], found[0x0120]


if __name__ == "__main__":
    _port, _ae, _kind, _count, _associations, _run, *_tls = sys.argv[1:8]
    _seconds, _suite = send(
        port=int(_port),
        called_ae=_ae,
        kind_name=_kind,
        count=int(_count),
        associations=int(_associations),
        run=int(_run),
        tls=Path(_tls[0]) if _tls else None,
    )
    sys.stdout.write(json.dumps({"seconds": _seconds, "stored": int(_count), "cipher": _suite}) + "\n")
