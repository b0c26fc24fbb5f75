"""SANS-IO reader and writer of the messages of a plain association: C-STORE and C-ECHO (PS3.7 section 9).

Presentation data values go in, requests and fragments of datasets come out. A command set is bounded to 4 KiB
and must come before its dataset, on the same presentation context.
"""

import struct
from typing import NamedTuple

from config import guards_off
from listener.pdu import ABORT_INVALID, ABORT_UNEXPECTED, Pdv, PeerError, command_pdu

COMMAND_BYTES_MAX = 4096
FREE_FRAGMENTS, FRAGMENT_BYTES_MEAN = 64, 512
COMMENT_LENGTH_MAX = 64  # VR LO

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
_RESPONSE, _NO_DATASET = 0x8000, 0x0101

_ELEMENT = struct.Struct("<HHL")
_SHORT = struct.Struct("<H")
_GROUP_LENGTH = struct.Struct("<HHLL")
_RESPONSE_MIDDLE = struct.Struct("<" + "HHLH" * 4)
_RESPONDED_TO, _STATUS, _COMMENT = 0x0120, 0x0900, 0x0902
_SOP_CLASS, _FIELD, _MESSAGE_ID, _DATASET_TYPE, _SOP_INSTANCE = 0x0002, 0x0100, 0x0110, 0x0800, 0x1000


class EchoRequest(NamedTuple):
    """A C-ECHO-RQ."""

    context_id: int
    message_id: int
    sop_class: bytes


class StoreRequest(NamedTuple):
    """A C-STORE-RQ; its dataset follows as fragments. UIDs are as the peer sent them, padding removed."""

    context_id: int
    message_id: int
    sop_class: bytes
    sop_instance: bytes


class Fragment(NamedTuple):
    """A part of the dataset of the last `StoreRequest`."""

    data: memoryview
    is_last: bool


Message = EchoRequest | StoreRequest | Fragment


class DimseReader:
    """Assembles command sets; passes fragments of datasets on without keeping them."""

    def __init__(self) -> None:
        self._command = bytearray()
        self._context_id = 0
        self._dataset_on = 0  # presentation context of the dataset under way; 0: none
        self._fragments = self._bytes = 0

    @property
    def is_inside_message(self) -> bool:
        """Whether a command set or a dataset is under way."""
        return bool(self._command) or self._dataset_on != 0

    def take(self, pdv: Pdv) -> Message | None:
        """What `pdv` completes; None: more is needed. Raises `PeerError`."""
        context_id, is_command, is_last, data = pdv
        if is_command:
            return self._take_command(context_id, is_last, data)
        if context_id != self._dataset_on or self._command:
            raise PeerError("a dataset without its request", abort_reason=ABORT_UNEXPECTED)
        self._fragments += 1
        self._bytes += len(data)
        in_crumbs = self._fragments > FREE_FRAGMENTS + self._bytes // FRAGMENT_BYTES_MEAN
        if in_crumbs and guards_off.is_on("fragment-mean"):
            # Crumbs cost more than they carry: 1-byte fragments are an attack, no device sends them.
            raise PeerError(f"a dataset in crumbs of under {FRAGMENT_BYTES_MEAN} bytes")
        if is_last:
            self._dataset_on = self._fragments = self._bytes = 0
        return Fragment(data, is_last)

    def _take_command(self, context_id: int, is_last: bool, data: memoryview) -> Message | None:
        if self._dataset_on:
            raise PeerError("a command inside a dataset", abort_reason=ABORT_UNEXPECTED)
        if self._command and context_id != self._context_id:
            raise PeerError("a command on two presentation contexts", abort_reason=ABORT_UNEXPECTED)
        if len(self._command) + len(data) > COMMAND_BYTES_MAX and guards_off.is_on("command-cap"):
            raise PeerError(
                f"a command set of more than {COMMAND_BYTES_MAX} bytes", abort_reason=ABORT_INVALID
            )
        self._context_id = context_id
        self._command += data
        if not is_last:
            self._fragments += 1
            if self._fragments > FREE_FRAGMENTS and guards_off.is_on("command-cap"):
                raise PeerError("a command set in crumbs")
            return None
        self._fragments = 0
        command, self._command = bytes(self._command), bytearray()
        return self._request(context_id, command)

    def _request(self, context_id: int, command: bytes) -> Message | None:
        elements = read_command(command)
        field, message_id = _number(elements, _FIELD), None
        if field == C_CANCEL_RQ:  # there is nothing to cancel in a C-STORE or C-ECHO
            return None
        message_id = _number(elements, _MESSAGE_ID)
        has_dataset = _number(elements, _DATASET_TYPE) != _NO_DATASET
        sop_class = elements.get(_SOP_CLASS, b"").rstrip(b"\0 ")
        if field == C_ECHO_RQ and not has_dataset:
            return EchoRequest(context_id, message_id, sop_class)
        if field == C_STORE_RQ and has_dataset:
            self._dataset_on = context_id
            return StoreRequest(
                context_id, message_id, sop_class, elements.get(_SOP_INSTANCE, b"").rstrip(b"\0 ")
            )
        raise PeerError(f"command {field:#06x} on a storage association", abort_reason=ABORT_UNEXPECTED)


def read_command(command: bytes) -> dict[int, bytes]:
    """Elements of a command set by element number; it is Implicit VR Little Endian (PS3.7 section 6.3.1)."""
    elements: dict[int, bytes] = {}
    at, end = 0, len(command)
    while at < end:
        if end - at < _ELEMENT.size:
            raise PeerError("a command set is cut short", abort_reason=ABORT_INVALID)
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if group != 0 or length > end - at or element in elements:
            raise PeerError("a command set contradicts itself", abort_reason=ABORT_INVALID)
        elements[element] = command[at : at + length]
        at += length
    return elements


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != _SHORT.size:
        raise PeerError(f"a command set without (0000,{element:04X})", abort_reason=ABORT_INVALID)
    return int(_SHORT.unpack(value)[0])


def echo_response(request: EchoRequest) -> bytes:
    """The P-DATA-TF with a C-ECHO-RSP of status 0000."""
    return _response(request.context_id, C_ECHO_RQ, request.message_id, request.sop_class, b"", 0, "")


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """The P-DATA-TF with a C-STORE-RSP; `comment` says why it is not 0000, without anything of a patient."""
    return _response(
        request.context_id,
        C_STORE_RQ,
        request.message_id,
        request.sop_class,
        request.sop_instance,
        status,
        comment,
    )


def _response(
    context_id: int, field: int, message_id: int, sop_class: bytes, instance: bytes, status: int, comment: str
) -> bytes:
    middle = _RESPONSE_MIDDLE.pack(
        *(0, _FIELD, 2, field | _RESPONSE),
        *(0, _RESPONDED_TO, 2, message_id),
        *(0, _DATASET_TYPE, 2, _NO_DATASET),
        *(0, _STATUS, 2, status),
    )
    said = (
        _element(_COMMENT, comment[:COMMENT_LENGTH_MAX].encode("ascii", "replace"), b" ") if comment else b""
    )
    uid = _element(_SOP_INSTANCE, instance[:64]) if instance else b""
    body = _element(_SOP_CLASS, sop_class[:64]) + middle + said + uid
    return command_pdu(context_id, _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body)


def _element(element: int, value: bytes, pad: bytes = b"\0") -> bytes:
    padded = value + pad * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(padded)) + padded
