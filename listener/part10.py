"""SANS-IO reader of the head of a DICOM file: preamble and file meta information; the dataset passes through.

At byte 128 stands "DICM", then elements of group 0002 in Explicit VR Little Endian; the first element of
another group begins the dataset (PS3.10 section 7.1). The group length is not relied on: files exist where it
is wrong or missing. Memory is bounded on any input.
"""

import struct
from typing import NamedTuple

HEAD_BYTES_MAX = 256 << 10
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_NO_MAGIC = "no DICM at byte 128: not a DICOM file (PS3.10)"
_ELEMENT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<L")
_LONG_VRS = frozenset((b"OB", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"))  # PS3.5 table 7.1-1
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010


class NotPart10Error(Exception):
    """The bytes are no DICOM file; says why, without any value of theirs."""


class FileMeta(NamedTuple):
    """What the file meta information says; UIDs without padding, empty where it does not say."""

    sop_class: bytes
    sop_instance: bytes
    transfer_syntax: str


class Part10Reader:
    """Feed a file in pieces; `meta` is there once the dataset has begun or the file ended behind its head."""

    def __init__(self) -> None:
        self.meta: FileMeta | None = None
        self._head = bytearray()
        self._at = _PREAMBLE_BYTES + len(_MAGIC)
        self._found: dict[int, bytes] = {}

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """The part of `data`, and of what was held back, that belongs to the dataset.

        Raises
        ------
        NotPart10Error : this is no DICOM file
        """
        if self.meta is not None:
            return data
        self._head += data
        start = _PREAMBLE_BYTES
        if not self._head[start : start + len(_MAGIC)] == _MAGIC[: max(0, len(self._head) - start)]:
            raise NotPart10Error(_NO_MAGIC)
        while self.meta is None and self._take_element():
            pass
        if self.meta is None:
            if len(self._head) > HEAD_BYTES_MAX:
                raise NotPart10Error(f"file meta information of more than {HEAD_BYTES_MAX} bytes")
            return b""
        dataset, self._head = bytes(self._head[self._at :]), bytearray()
        return dataset

    def finish(self) -> FileMeta:
        """The file ended. Raises `NotPart10Error` when that was inside its head."""
        if self.meta is None:
            is_short = len(self._head) < _PREAMBLE_BYTES + len(_MAGIC)
            raise NotPart10Error(_NO_MAGIC if is_short else "it ends before its dataset begins")
        return self.meta

    def _take_element(self) -> bool:
        """Pass the next element of the head, or see that the dataset begins; False: more is needed."""
        head, at = self._head, self._at
        if len(head) - at < _ELEMENT.size:
            return False
        group, element, vr, length = _ELEMENT.unpack_from(head, at)
        if group != 0x0002:
            syntax = self._found.get(_TRANSFER_SYNTAX)
            if syntax is None:
                raise NotPart10Error("file meta information without a Transfer Syntax UID")
            self.meta = FileMeta(
                self._found.get(_SOP_CLASS, b""),
                self._found.get(_SOP_INSTANCE, b""),
                syntax.decode("ascii", "replace"),
            )
            return True
        value_at = at + _ELEMENT.size
        if vr in _LONG_VRS:
            if len(head) - value_at < _LONG.size:
                return False
            (length,) = _LONG.unpack_from(head, value_at)
            value_at += _LONG.size
        if value_at + length > HEAD_BYTES_MAX:
            raise NotPart10Error(f"(0002,{element:04X}) is longer than file meta information may be")
        if len(head) < value_at + length:
            return False
        if element in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX):
            self._found[element] = bytes(head[value_at : value_at + length]).rstrip(b"\0 ")
        self._at = value_at + length
        return True
