"""SANS-IO reader and writer of the PDUs of an upper layer association (PS3.8 section 9.3).

A PDU is a byte of type, a byte 0, a big-endian length and a body. A peer's bytes become an event or a
`PeerError`, never another exception, and memory is bounded by the longest PDU announced.
"""

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from config import guards_off

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

REQUEST_BYTES_MAX = 64 << 10
CONTEXTS_MAX = 128
CONTEXT_SYNTAXES_MAX = 64
EMPTY_PDUS_MAX = 16
BUFFER_BYTES = 64 << 10
BUFFER_BYTES_MAX = 1 << 20

RELEASE_RP_PDU = bytes.fromhex("06000000000400000000")

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_ITEM = struct.Struct(">BxH")
_UID = re.compile(rb"[0-9.]{1,64}\Z")

# Result, source and reason of A-ASSOCIATE-RJ (PS3.8 table 9-21).
REJECT_CALLING_AE = (1, 1, 3)
REJECT_CALLED_AE = (1, 1, 7)
REJECT_APPLICATION_CONTEXT = (1, 1, 2)
REJECT_LIMIT = (2, 3, 2)

# Reason of A-ABORT by the service provider (PS3.8 table 9-26).
ABORT_UNSPECIFIED, ABORT_UNRECOGNISED, ABORT_UNEXPECTED, ABORT_INVALID = 0, 1, 2, 6


class PeerError(Exception):
    """The peer broke the protocol or a limit: abort its association with `abort_reason`."""

    def __init__(self, reason: str, *, abort_reason: int = ABORT_UNSPECIFIED) -> None:
        super().__init__(reason)
        self.reason, self.abort_reason = reason, abort_reason


class Pdv(NamedTuple):
    """One presentation data value; `data` stays valid while it is referenced."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class Release(NamedTuple):
    """The peer wants to end the association."""


class Aborted(NamedTuple):
    """The peer ended the association."""


Event = Pdv | Release | Aborted


class PduReader:
    """Reads the PDUs of an established association.

    Bytes go straight from the socket into `room()`, then `filled(n)`; then take events until None. A `Pdv`
    points into the buffer: call `release()` once no fragment is needed any more, so that it is used again.
    """

    def __init__(self, pdu_bytes_max: int) -> None:
        self._pdu_bytes_max = pdu_bytes_max
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._start = self._end = self._stop = 0
        self._held = False
        self._empty_pdus = 0

    def room(self) -> memoryview:
        """Where the next bytes may be put; never empty."""
        if self._start == self._end and not self._held:
            self._start = self._end = self._stop = 0
        if self._end == len(self._buffer):
            self._make_room()
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """`count` bytes were put into `room()`."""
        self._end += count

    def feed(self, data: bytes) -> None:
        """Put bytes into `room()`, for who has them already; take the events in between."""
        while data:
            room = self.room()
            part = data[: len(room)]
            room[: len(part)] = part
            self.filled(len(part))
            data = data[len(part) :]

    def release(self) -> None:
        """No fragment of an event taken so far is needed any more."""
        self._held = False

    def shrink(self) -> None:
        """Give the memory back while the peer is silent between messages."""
        if self._start == self._end and not self._held:
            self._buffer = bytearray()
            self._view = memoryview(self._buffer)
            self._start = self._end = self._stop = 0

    @property
    def is_inside_pdu(self) -> bool:
        """Whether bytes wait for the rest of their PDU, or for `next_event`."""
        return self._start != self._end

    def next_event(self) -> Event | None:
        """The next event; None: more bytes are needed. Raises `PeerError`."""
        if self._start == self._stop and not self._begin_pdu():
            return self._ending()
        buffer, start, stop = self._buffer, self._start, self._stop
        if stop - start < 6:
            raise PeerError("a PDV is cut short", abort_reason=ABORT_INVALID)
        size, context_id, flags = _PDV.unpack_from(buffer, start)
        end = start + 4 + size
        if size < 2 or end > stop:
            raise PeerError("the length of a PDV contradicts its PDU", abort_reason=ABORT_INVALID)
        self._start, self._held = end, True
        return Pdv(context_id, flags & 1 == 1, flags & 2 == 2, self._view[start + 6 : end])

    def _begin_pdu(self) -> bool:
        """Whether a whole P-DATA-TF with something in it lies ahead."""
        while True:
            waiting = self._end - self._start
            if waiting == 0:
                return False
            if self._buffer[self._start] not in (P_DATA, RELEASE_RQ, ABORT):
                raise PeerError(
                    f"unexpected PDU type {self._buffer[self._start]:#04x}", abort_reason=ABORT_UNRECOGNISED
                )
            if waiting < 6:
                return False
            kind, length = _PDU.unpack_from(self._buffer, self._start)
            too_long = length > self._pdu_bytes_max and guards_off.is_on("pdu-cap")
            if too_long or (kind != P_DATA and length != 4):
                raise PeerError(f"a PDU that claims {length} bytes", abort_reason=ABORT_INVALID)
            if kind != P_DATA or waiting < 6 + length:
                return False
            self._start += 6
            self._stop = self._start + length
            if length:
                self._empty_pdus = 0
                return True
            self._empty_pdus += 1
            if self._empty_pdus > EMPTY_PDUS_MAX:
                raise PeerError("too many empty PDUs")

    def _ending(self) -> Event | None:
        if self._end - self._start < 10 or self._buffer[self._start] == P_DATA:
            return None
        kind = self._buffer[self._start]
        self._start += 10
        self._stop = self._start
        return Release() if kind == RELEASE_RQ else Aborted()

    def _make_room(self) -> None:
        waiting = self._end - self._start
        if not self._held and self._start and waiting <= len(self._buffer) // 2:
            self._view[:waiting] = self._view[self._start : self._end]
        else:
            # Fragments may point into the old buffer, which lives on with them; only what waits is copied.
            size = max(BUFFER_BYTES, min(BUFFER_BYTES_MAX, 2 * len(self._buffer)))
            while size < waiting + self._pdu_bytes_max + 6:
                size *= 2
            buffer = bytearray(size)
            buffer[:waiting] = self._view[self._start : self._end]
            self._buffer, self._view, self._held = buffer, memoryview(buffer), False
        self._stop -= self._start
        self._start, self._end = 0, waiting


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of a request."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """What an A-ASSOCIATE-RQ proposes; `user_items` are the types of its user information sub-items."""

    called_ae: str
    calling_ae: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    pdu_bytes_max: int
    user_items: frozenset[int]


def request_size(head: bytes) -> int | None:
    """Bytes of the A-ASSOCIATE-RQ that begins with `head`; None while fewer than 6 are there.

    Raises `PeerError` at once when it is no request or one longer than 64 KiB.
    """
    if head[:1] != b"\x01" and head:
        raise PeerError(f"PDU type {head[0]:#04x} before an association", abort_reason=ABORT_UNRECOGNISED)
    if len(head) < 6:
        return None
    length = int(_PDU.unpack_from(head)[1])
    if length > REQUEST_BYTES_MAX and guards_off.is_on("request-cap"):
        raise PeerError(f"an association request of {length} bytes", abort_reason=ABORT_INVALID)
    return 6 + length


def ae_titles(request: bytes) -> tuple[str, str]:
    """(called, calling) AE title of a whole A-ASSOCIATE-RQ, unpadded; looks at nothing else."""
    if len(request) < 74:
        raise PeerError("an association request cut short", abort_reason=ABORT_INVALID)
    return _text(request[10:26]), _text(request[26:42])


def read_request(request: bytes) -> AssociateRequest:
    """Read a whole A-ASSOCIATE-RQ strictly: every length inside its parent, identifiers odd and single.

    Source: PS3.8 section 9.3.2, PS3.7 annex D.3. Raises `PeerError`.
    """
    called, calling = ae_titles(request)
    application_context = ""
    contexts: list[ProposedContext] = []
    user_items: frozenset[int] | None = None
    pdu_bytes_max = 0
    for kind, body in _items(request[74:]):
        if kind == 0x10 and not application_context:
            application_context = _uid(body)
        elif kind == 0x20:
            if len(contexts) == CONTEXTS_MAX:
                raise PeerError(f"more than {CONTEXTS_MAX} presentation contexts", abort_reason=ABORT_INVALID)
            contexts.append(_context(body))
        elif kind == 0x50 and user_items is None:
            user_items, pdu_bytes_max = _user_information(body)
        else:
            raise PeerError(f"item {kind:#04x} in an association request", abort_reason=ABORT_INVALID)
    if not application_context or not contexts or user_items is None:
        raise PeerError("an association request without a mandatory item", abort_reason=ABORT_INVALID)
    if len({context.context_id for context in contexts}) != len(contexts):
        raise PeerError("a presentation context identifier is repeated", abort_reason=ABORT_INVALID)
    return AssociateRequest(called, calling, application_context, tuple(contexts), pdu_bytes_max, user_items)


def _items(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(body):
        if len(body) - at < 4:
            raise PeerError("an item is cut short", abort_reason=ABORT_INVALID)
        kind, length = _ITEM.unpack_from(body, at)
        at += 4
        if length > len(body) - at:
            raise PeerError("the length of an item contradicts its parent", abort_reason=ABORT_INVALID)
        found.append((kind, body[at : at + length]))
        at += length
    return found


def _context(body: bytes) -> ProposedContext:
    if len(body) < 4 or body[0] % 2 == 0:
        raise PeerError("a presentation context identifier is even", abort_reason=ABORT_INVALID)
    abstract = ""
    syntaxes: list[str] = []
    for kind, value in _items(body[4:]):
        if kind == 0x30 and not abstract:
            abstract = _uid(value)
        elif kind == 0x40 and len(syntaxes) < CONTEXT_SYNTAXES_MAX:
            syntaxes.append(_uid(value))
        else:
            raise PeerError(f"item {kind:#04x} in a presentation context", abort_reason=ABORT_INVALID)
    if not abstract or not syntaxes:
        raise PeerError("a presentation context without syntaxes", abort_reason=ABORT_INVALID)
    return ProposedContext(body[0], abstract, tuple(syntaxes))


def _user_information(body: bytes) -> tuple[frozenset[int], int]:
    kinds, pdu_bytes_max = set(), 0
    for kind, value in _items(body):
        kinds.add(kind)
        if kind == 0x51:
            if len(value) != 4:
                raise PeerError("a maximum length of other than 4 bytes", abort_reason=ABORT_INVALID)
            pdu_bytes_max = int.from_bytes(value, "big")
    return frozenset(kinds), pdu_bytes_max


def _uid(value: bytes) -> str:
    # Devices pad with NUL or space although PS3.8 wants none.
    bare = value.rstrip(b"\0 ")
    if not _UID.match(bare):
        raise PeerError("a UID in an association request is none", abort_reason=ABORT_INVALID)
    return bare.decode("ascii")


def _text(value: bytes) -> str:
    return "".join(chr(c) if 32 <= c < 127 else "?" for c in value.rstrip(b"\0 ").lstrip(b" "))


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""
    return _PDU.pack(ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def abort_pdu(reason: int = ABORT_UNSPECIFIED) -> bytes:
    """An A-ABORT by the service provider (PS3.8 section 9.3.8)."""
    return _PDU.pack(ABORT, 4) + bytes((0, 0, 2, reason))


def command_pdu(context_id: int, command: bytes) -> bytes:
    """A P-DATA-TF with one whole command set; send it in one call, or Nagle holds half of it back."""
    return _PDU.pack(P_DATA, len(command) + 6) + _PDV.pack(len(command) + 2, context_id, 3) + command
