"""Pre-encoded C-STORE messages: what a sender puts on the wire, so that sending costs it next to nothing."""

import hashlib
import struct
from dataclasses import dataclass

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ROOT = "1.2.826.0.1.3680043.9.9998"  # of what is made here; no result of preread begins so
CONTEXT_ID = 1
DIGITS = 10  # behind a 1: a component of a UID must not begin with 0 (PS3.5 9.1)

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")


@dataclass(frozen=True)
class Kind:
    """One kind of instance: a square image of 16 bit, or many frames of one."""

    name: str
    side: int
    frames: int = 1

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the pixel data."""
        return self.side * self.side * 2 * self.frames


CT_SLICE, SMALL = Kind("CT", 512), Kind("small", 64)
MULTI_FRAME = Kind("300 MB", 512, 572)


def sop_instance(run: int, number: int) -> str:
    """UID of instance `number` of a run; all have the same length."""
    return f"{ROOT}.1{run:0{DIGITS}d}.1{number:0{DIGITS}d}"


def dataset(kind: Kind, run: int, number: int) -> bytes:
    """Explicit VR Little Endian; the pixels differ from instance to instance."""
    uid = sop_instance(run, number)
    head = b"".join(
        (
            _element(0x0008, 0x0016, b"UI", CT_IMAGE_STORAGE),
            _element(0x0008, 0x0018, b"UI", uid),
            _element(0x0008, 0x0060, b"CS", "CT"),
            _element(0x0010, 0x0010, b"PN", "BENCH^MARK"),
            _element(0x0010, 0x0020, b"LO", "BENCH"),
            _element(0x0018, 0x0050, b"DS", "5"),
            _element(0x0020, 0x000D, b"UI", f"{ROOT}.1{run:0{DIGITS}d}.2"),
            _element(0x0020, 0x000E, b"UI", f"{ROOT}.1{run:0{DIGITS}d}.3"),
            _element(0x0028, 0x0002, b"US", b"\1\0"),
            _element(0x0028, 0x0004, b"CS", "MONOCHROME2"),
            _element(0x0028, 0x0008, b"IS", str(kind.frames)),
            _element(0x0028, 0x0010, b"US", struct.pack("<H", kind.side)),
            _element(0x0028, 0x0011, b"US", struct.pack("<H", kind.side)),
            _element(0x0028, 0x0100, b"US", b"\x10\0"),
            _element(0x0028, 0x0101, b"US", b"\x0c\0"),
            _element(0x0028, 0x0102, b"US", b"\x0b\0"),
            _element(0x0028, 0x0103, b"US", b"\0\0"),
        )
    )
    line = hashlib.sha256(uid.encode()).digest() * 32
    pixels = (line * (kind.pixel_bytes // len(line) + 1))[: kind.pixel_bytes]
    return head + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels


def store_message(content: bytes, uid: str, message_id: int, pdu_bytes_max: int) -> bytes:
    """The P-DATA-TF PDUs of one C-STORE-RQ (PS3.7 9.3.1, PS3.8 9.3.5)."""
    body = b"".join(
        (
            _command(0x0002, _even(CT_IMAGE_STORAGE)),
            _command(0x0100, b"\1\0"),
            _command(0x0110, struct.pack("<H", message_id)),
            _command(0x0700, b"\0\0"),
            _command(0x0800, b"\0\0"),
            _command(0x1000, _even(uid)),
        )
    )
    parts = [_pdata(3, _command(0x0000, struct.pack("<L", len(body))) + body)]
    room = pdu_bytes_max - _PDV.size
    for at in range(0, len(content), room):
        parts.append(_pdata(2 if at + room >= len(content) else 0, content[at : at + room]))
    return b"".join(parts)


def associate_request(calling_ae: str, called_ae: str) -> bytes:
    """An A-ASSOCIATE-RQ for one kind of image (PS3.8 9.3.2)."""
    context = (
        bytes((CONTEXT_ID, 0, 0, 0)) + _item(0x30, CT_IMAGE_STORAGE) + _item(0x40, EXPLICIT_LITTLE_ENDIAN)
    )
    user = _item(0x51, struct.pack(">L", 1 << 17)) + _item(0x52, f"{ROOT}.4") + _item(0x55, "BENCHMARK")
    body = struct.pack(">HH", 1, 0) + called_ae.encode().ljust(16) + calling_ae.encode().ljust(16) + bytes(32)
    body += _item(0x10, "1.2.840.10008.3.1.1.1") + _item(0x20, context) + _item(0x50, user)
    return _PDU.pack(1, len(body)) + body


def _pdata(flags: int, content: bytes) -> bytes:
    return _PDU.pack(4, len(content) + _PDV.size) + _PDV.pack(len(content) + 2, CONTEXT_ID, flags) + content


def _item(kind: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack(">BxH", kind, len(content)) + content


def _command(element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, element, len(value)) + value


def _element(group: int, number: int, vr: bytes, value: bytes | str) -> bytes:
    content = _even(value, b"\0" if vr == b"UI" else b" ") if isinstance(value, str) else value
    return struct.pack("<HH2sH", group, number, vr, len(content)) + content


def _even(text: str, pad: bytes = b"\0") -> bytes:
    content = text.encode()
    return content + pad * (len(content) % 2)
