"""SANS-IO strict walk of an encoded dataset: do its lengths add up, is nesting bounded, which UIDs has it.

Nothing is decoded and no value is kept but the few asked for, so memory is flat on any input and time goes
with the number of elements. The walk is stricter than readers are where bytes contradict each other, and
tolerates what devices send without contradiction: odd lengths, group lengths, trailing padding, UN of
undefined length (CP-246), private sequences in Implicit VR. Source: PS3.5 sections 7.1, 7.5, A.4.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, keyword_dict

from config import guards_off

DEPTH_MAX = 32
ELEMENTS_MAX = 4_000_000
TRAILING_ZEROS_MAX = 7  # a stray pad byte or a short flush behind the dataset

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
MANUFACTURER_MODEL_NAME = 0x00081090
CONTRIBUTING_EQUIPMENT_SEQUENCE = 0x0018A001
PIXEL_DATA = 0x7FE00010

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_GROUP_MIN = 0x0008  # lower groups are commands, file meta information and directories

_EXPLICIT = struct.Struct("<HH2sH")
_IMPLICIT = struct.Struct("<HHL")
_LONG = struct.Struct("<L")

# PS3.5 table 7.1-1 and 7.1-2: VRs with a 32-bit length have 2 reserved bytes before it.
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_VRS = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
        *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
_SEQUENCES = frozenset(tag for tag in keyword_dict.values() if dictionary_VR(tag) == "SQ")


class _FaultError(Exception):
    """The bytes contradict themselves."""


class _Frame(NamedTuple):
    """What is open: `end` is None when a delimiter closes it; nothing inside may reach beyond `limit`."""

    kind: int
    tag: int
    end: int | None
    limit: int
    explicit: bool


_IN_SEQUENCE, _IN_ITEM, _IN_FRAGMENTS = 1, 2, 3
_ENDLESS = 1 << 63


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class DatasetScan:
    """Feed the fragments of a dataset in order, then `finish`.

    Parameters
    ----------
    explicit : whether the transfer syntax is Explicit VR Little Endian or one that encapsulates
    wanted : top-level tags whose values are kept, with the most bytes to keep of each
    wanted_inside : (sequence, tag) whose values are kept, at most 64 bytes of each
    stop_behind : top-level tag behind which nothing is looked at; for datasets that passed before

    Attributes
    ----------
    found : values of `wanted`; found_inside : values of `wanted_inside`
    fault : what contradicts itself and where, without any value; None so far
    """

    def __init__(
        self,
        *,
        explicit: bool,
        wanted: Mapping[int, int],
        wanted_inside: frozenset[tuple[int, int]] = frozenset(),
        stop_behind: int | None = None,
    ) -> None:
        self.found: dict[int, bytes] = {}
        self.found_inside: dict[tuple[int, int], list[bytes]] = {}
        self.fault: str | None = None
        self.is_done = False
        self._wanted, self._wanted_inside = wanted, wanted_inside
        self._stop_behind = _ENDLESS if stop_behind is None else stop_behind
        self._stack = [_Frame(_IN_ITEM, 0, None, _ENDLESS, explicit)]
        self._at = 0  # offset of the next byte to read in the whole dataset
        self._skip = 0  # bytes of the present value still to come
        self._skipping = 0
        self._carry = b""  # an incomplete header or wanted value, at most a few hundred bytes
        self._elements = 0

    def feed(self, data: memoryview | bytes) -> None:
        """Walk on; a fault is remembered in `fault` and ends the walk."""
        if self.fault is not None or self.is_done:
            return
        if self._skip >= len(data):
            self._skip -= len(data)
            self._at += len(data)
            return
        start, self._skip = self._skip, 0
        self._at += start
        if self._carry:
            data = self._carry + bytes(data)
            self._carry = b""
        try:
            start = self._walk(data, start)
        except _FaultError as fault:
            self.fault = str(fault)
            return
        if start < len(data) and not self.is_done:
            self._carry = bytes(data[start:])

    def finish(self) -> str | None:
        """The dataset is complete: why it is refused, or None."""
        if self.fault is not None or self.is_done:
            return self.fault
        if self._skip:
            self.fault = f"{_name(self._skipping)} is {self._skip} bytes short"
            return self.fault
        while self._stack[-1].end == self._at:
            self._stack.pop()
        if len(self._stack) > 1:
            self.fault = f"{_name(self._stack[-1].tag)} is not closed"
        elif len(self._carry) > TRAILING_ZEROS_MAX or any(self._carry):
            self.fault = f"the dataset ends inside the element at byte {self._at}"
        elif not self._elements:
            self.fault = "the dataset is empty"
        return self.fault

    def _walk(self, data: memoryview | bytes, pos: int) -> int:  # noqa: C901 one loop: calls would double its time
        """Read elements from `data[pos:]`; the position of the first one that is not all there."""
        base, size, stack = self._at - pos, len(data), self._stack
        frame, elements = stack[-1], self._elements
        while True:
            if frame.end == base + pos:
                stack.pop()
                frame = stack[-1]
                continue
            if size - pos < 8:
                break
            elements += 1
            if frame.kind != _IN_ITEM:
                frame, pos = self._item(frame, data, base, pos)
                if pos > size:
                    break
                continue
            if frame.explicit:
                group, element, vr, length = _EXPLICIT.unpack_from(data, pos)
                tag, header = group << 16 | element, 8
                if vr in _LONG_VRS:
                    if size - pos < 12:
                        break
                    (length,), header = _LONG.unpack_from(data, pos + 8), 12
                    opens = vr == b"SQ" or length == _UNDEFINED
                elif vr in _SHORT_VRS:
                    opens = False
                elif tag == _ITEM_END and frame.end is None and len(stack) > 1:
                    stack.pop()
                    frame, pos = stack[-1], pos + 8
                    continue
                elif group == 0xFFFE:
                    raise _FaultError(f"{_name(tag)} stands where an element must")
                else:
                    raise _FaultError(f"{_name(tag)} has no valid VR")
            else:
                group, element, length = _IMPLICIT.unpack_from(data, pos)
                tag, header, vr = group << 16 | element, 8, b""
                if tag == _ITEM_END and frame.end is None and len(stack) > 1:
                    stack.pop()
                    frame, pos = stack[-1], pos + 8
                    continue
                opens = length == _UNDEFINED or (length != 0 and tag in _SEQUENCES)
            if group < _GROUP_MIN or group == 0xFFFE:
                raise _FaultError(f"{_name(tag)} does not belong in a dataset")
            if len(stack) == 1:
                if tag > self._stop_behind:
                    self.is_done = True
                    break
                keep = self._wanted.get(tag)
            else:
                keep = 64 if (stack[-2].tag, tag) in self._wanted_inside else None
            if opens:
                frame, pos = self._open(frame, tag, vr, base + pos + header, length), pos + header
                continue
            end = pos + header + length
            if base + end > frame.limit:
                raise _FaultError(f"{_name(tag)} is longer than what holds it")
            if keep is not None:
                value = bytes(data[pos + header : pos + header + min(keep, length)])
                if len(value) < keep and len(value) < length:
                    break
                self._keep(tag, value)
            pos = end
            if pos > size:
                self._skipping = tag
                break
        if elements > ELEMENTS_MAX:
            raise _FaultError(f"more than {ELEMENTS_MAX} elements")
        self._elements = elements
        if pos > size:
            self._skip, pos = pos - size, size
        self._at = base + pos
        return pos

    def _keep(self, tag: int, value: bytes) -> None:
        if len(self._stack) > 1:
            self.found_inside.setdefault((self._stack[-2].tag, tag), []).append(value)
        elif self.found.setdefault(tag, value) != value:
            # A reader that takes the last one would see another object than the one that was admitted.
            raise _FaultError(f"{_name(tag)} is there twice")

    def _open(self, frame: _Frame, tag: int, vr: bytes, start: int, length: int) -> _Frame:
        """Enter a sequence or encapsulated pixel data whose content begins at `start`."""
        if len(self._stack) > 2 * DEPTH_MAX and guards_off.is_on("nesting"):
            raise _FaultError(f"sequences are nested more than {DEPTH_MAX} deep")
        kind, explicit = _IN_SEQUENCE, frame.explicit
        if vr == b"UN":
            explicit = False  # CP-246: such a sequence is Implicit VR Little Endian all through
        elif explicit and vr != b"SQ":
            if tag != PIXEL_DATA or vr not in (b"OB", b"OW"):
                raise _FaultError(f"{_name(tag)} has no length")
            kind = _IN_FRAGMENTS
        end = None if length == _UNDEFINED else start + length
        limit = frame.limit if end is None else end
        if limit > frame.limit:
            raise _FaultError(f"{_name(tag)} is longer than what holds it")
        opened = _Frame(kind, tag, end, limit, explicit)
        self._stack.append(opened)
        return opened

    def _item(self, frame: _Frame, data: memoryview | bytes, base: int, pos: int) -> tuple[_Frame, int]:
        """Enter the next item of a sequence, pass a fragment of pixel data, or leave."""
        group, element, length = _IMPLICIT.unpack_from(data, pos)
        tag, pos = group << 16 | element, pos + 8
        if tag == _SEQUENCE_END and frame.end is None:
            self._stack.pop()
            return self._stack[-1], pos
        if tag != _ITEM:
            raise _FaultError(f"{_name(tag)} where {_name(frame.tag)} must have an item")
        if frame.kind == _IN_FRAGMENTS:
            if length == _UNDEFINED or base + pos + length > frame.limit:
                raise _FaultError(f"a fragment of {_name(frame.tag)} has no valid length")
            self._skipping = frame.tag
            return frame, pos + length
        end = None if length == _UNDEFINED else base + pos + length
        limit = frame.limit if end is None else end
        if limit > frame.limit:
            raise _FaultError(f"an item of {_name(frame.tag)} is longer than what holds it")
        opened = _Frame(_IN_ITEM, frame.tag, end, limit, frame.explicit)
        self._stack.append(opened)
        return opened, pos
