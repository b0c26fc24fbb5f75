"""A plain DICOM peer made of bytes, so that tests can be correct or wrong in every detail they like."""

import itertools
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Self

CT = "1.2.840.10008.5.1.4.1.1.2"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
STORE_CONTEXT, ECHO_CONTEXT = 1, 3

_numbers = itertools.count(1)
_root = f"1.2.826.0.1.3680043.9.9999.{os.getpid()}.{int.from_bytes(os.urandom(4), 'big')}"


def new_uid() -> str:
    return f"{_root}.{next(_numbers)}"


def even(value: bytes, pad: bytes = b"\0") -> bytes:
    return value + pad * (len(value) % 2)


def item(kind: int, body: bytes, *, lie: int = 0) -> bytes:
    return struct.pack(">BBH", kind, 0, (len(body) + lie) & 0xFFFF) + body


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def pdv(context_id: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context_id, flags) + data


def context(context_id: int, abstract: str, *syntaxes: str) -> bytes:
    parts = item(0x30, abstract.encode()) + b"".join(item(0x40, s.encode()) for s in syntaxes)
    return item(0x20, bytes([context_id & 255, 0, 0, 0]) + parts)


PLAIN_CONTEXTS = context(STORE_CONTEXT, CT, EXPLICIT) + context(ECHO_CONTEXT, VERIFICATION, IMPLICIT)


def associate_request(
    *,
    contexts: bytes = PLAIN_CONTEXTS,
    calling: str = "SCANNER",
    called: str = "PREREAD",
    user_items: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.826.0.1.3680043.9.9999") + user_items
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    application = item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(
        1, struct.pack(">HH", 1, 0) + titles + bytes(32) + application + contexts + extra + item(0x50, user)
    )


def fragments(context_id: int, data: bytes, *, command: bool, size: int = 16000) -> bytes:
    parts = []
    for at in range(0, max(len(data), 1), size):
        last = at + size >= len(data)
        parts.append(pdu(4, pdv(context_id, int(command) | 2 * int(last), data[at : at + size])))
    return b"".join(parts)


def command_set(elements: dict[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value for element, value in sorted(elements.items())
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def echo_command(message_id: int = 1) -> bytes:
    return command_set(
        {
            0x0002: even(VERIFICATION.encode()),
            0x0100: b"\x30\x00",
            0x0110: struct.pack("<H", message_id),
            0x0800: b"\x01\x01",
        }
    )


def store_command(sop_instance: bytes, *, sop_class: str = CT, message_id: int = 1) -> bytes:
    return command_set(
        {
            0x0002: even(sop_class.encode()),
            0x0100: b"\x01\x00",
            0x0110: struct.pack("<H", message_id),
            0x0700: b"\x00\x00",
            0x0800: b"\x00\x00",
            0x1000: even(sop_instance),
        }
    )


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHL", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def ct_dataset(
    sop_instance: str,
    *,
    sop_class: str = CT,
    study: str | None = None,
    series: str | None = None,
    pixels: bytes = bytes(8192),
    extra: bytes = b"",
    model: bytes = b"",
) -> bytes:
    """A small CT image in Explicit VR Little Endian; `extra` goes before the pixel data."""
    return (
        element(0x08, 0x16, b"UI", even(sop_class.encode()))
        + element(0x08, 0x18, b"UI", even(sop_instance.encode()))
        + element(0x08, 0x60, b"CS", b"CT")
        + (element(0x08, 0x1090, b"LO", even(model, b" ")) if model else b"")
        + element(0x10, 0x10, b"PN", b"Doe^Jane")
        + element(0x10, 0x20, b"LO", b"P1")
        + element(0x20, 0x0D, b"UI", even((study or _root).encode()))
        + element(0x20, 0x0E, b"UI", even((series or _root + ".2").encode()))
        + element(0x28, 0x10, b"US", b"\x40\x00")
        + element(0x28, 0x11, b"US", b"\x40\x00")
        + extra
        + element(0x7FE0, 0x10, b"OW", pixels)
    )


def implicit_element(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


class Refused(OSError):
    """The association was not accepted; `pdu` is what came instead."""

    def __init__(self, pdu: bytes) -> None:
        super().__init__(f"PDU {pdu[:1].hex()}: {pdu[6:].hex()}")
        self.pdu = pdu


class Peer:
    """A client socket that speaks in PDUs; OSError when refused, closed or timed out."""

    def __init__(
        self,
        port: int,
        *,
        timeout: float = 10.0,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout, source_address=(source, 0) if source else None
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            try:
                self.socket = tls.wrap_socket(self.socket)
            except OSError:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def receive(self) -> bytes:
        """One PDU, header included."""
        head = self._exactly(6)
        return head + self._exactly(struct.unpack(">L", head[2:])[0])

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                raise ConnectionError("closed by the listener")
            found += part
        return found

    def is_closed(self) -> bool:
        """Whether the listener closes without another word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def associate(self, request: bytes | None = None) -> Self:
        try:
            answer = self.send(request or associate_request()).receive()
            if answer[0] != 2:
                raise Refused(answer)
        except OSError:
            self.close()
            raise
        return self

    def echo(self) -> int:
        self.send(fragments(ECHO_CONTEXT, echo_command(), command=True))
        return self.status()

    def store(self, sop_instance: str | bytes, dataset: bytes, *, message_id: int = 1) -> int:
        self.send(store_message(sop_instance, dataset, message_id=message_id))
        return self.status()

    def status(self) -> int:
        return status_of(self.receive())

    def release(self) -> None:
        answer = self.send(pdu(5, bytes(4))).receive()
        assert answer[0] == 6
        self.close()


def store_message(
    sop_instance: str | bytes, dataset: bytes, *, message_id: int = 1, size: int = 16000
) -> bytes:
    uid = sop_instance.encode() if isinstance(sop_instance, str) else sop_instance
    command = store_command(uid, message_id=message_id)
    return fragments(STORE_CONTEXT, command, command=True) + fragments(
        STORE_CONTEXT, dataset, command=False, size=size
    )


def status_of(answer: bytes) -> int:
    elements = elements_of(answer)
    if answer[0] != 4 or 0x0900 not in elements:
        raise Refused(answer)
    return int(struct.unpack("<H", elements[0x0900])[0])


def comment_of(answer: bytes) -> str:
    return elements_of(answer).get(0x0902, b"").decode().strip()


def elements_of(answer: bytes) -> dict[int, bytes]:
    """Elements of group 0000 of a command set that came in one PDU."""
    return dict(_elements(answer[12:]))


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 8 <= len(command):
        _, number, length = struct.unpack_from("<HHL", command, at)
        yield number, command[at + 8 : at + 8 + length]
        at += 8 + length
