"""The header of a received dataset: parsed within bounds, text decoded, what cannot be read left out.

A peer's bytes may nest without end, inflate without end or hold values of the wrong kind (law 5). What comes
out holds only elements that were converted once, so that nothing later meets a value it cannot read; private
elements and bulk values are left out, nothing here reads them. The stored bytes stay as they are (law 2).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

from pydicom import config as pydicom_config
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

from pipeline.reading.refusals import Refusal, refuse

NESTING_MAX: Final = 64
ELEMENTS_MAX: Final = 1_000_000  # an enhanced CT of 5000 frames has about 400,000
VALUE_BYTES_MAX: Final = 1 << 20  # the largest value read here is a palette of 128 KiB
INFLATED_BYTES_MAX: Final = 2 << 30
INFLATION_RATIO_MAX: Final = 100

# What pydicom raises for values and structures that are not what they say; found by fuzzing.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    struct.error,
    RecursionError,
    BytesLengthException,
)
_TEXT_VRS: Final = frozenset({"SH", "LO", "ST", "LT", "UC", "UT"})
_PIXEL_KEYWORDS: Final = {
    BaseTag(0x7FE00008): "FloatPixelData",
    BaseTag(0x7FE00009): "DoubleFloatPixelData",
    BaseTag(0x7FE00010): "PixelData",
}
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class PixelElement:
    """The pixel data element as it stands in the dataset.

    Parameters
    ----------
    keyword : PixelData, FloatPixelData or DoubleFloatPixelData
    vr : as encoded; OW for implicit VR
    value : native samples, or the encapsulated fragments with everything that follows them
    encapsulated : whether the length was undefined
    """

    keyword: str
    vr: str
    value: memoryview
    encapsulated: bool


@dataclass(frozen=True, eq=False)
class Parsed:
    """A dataset taken apart: its header, and its pixel data still encoded (None without any)."""

    header: Dataset
    pixels: PixelElement | None


def read_header(raw: bytes, transfer_syntax: str, *, sop_uid: str) -> Dataset | Refusal:
    """The header of a dataset, or why it cannot be read (HEADER-UNREADABLE, TOO-LARGE).

    Parameters
    ----------
    raw : the encoded dataset as received, without preamble and file meta information
    transfer_syntax : its UID
    sop_uid : names the image in a refusal

    Source: PS3.5 sections 7 and 10
    """
    parsed = parse(raw, transfer_syntax, sop_uid=sop_uid)
    return parsed if isinstance(parsed, Refusal) else parsed.header


def parse(raw: bytes, transfer_syntax: str, *, sop_uid: str) -> Parsed | Refusal:
    """As `read_header`, with the pixel data element beside it."""
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        inflated = _inflate(raw)
        if inflated is None:
            return refuse("HEADER-UNREADABLE", sop=sop_uid, why="the deflated data is damaged")
        if len(inflated) > _inflation_limit(raw):
            return refuse("TOO-LARGE", sop=sop_uid, limit_mib=_inflation_limit(raw) / (1 << 20))
        raw = inflated
    implicit = transfer_syntax == ImplicitVRLittleEndian
    little = transfer_syntax != ExplicitVRBigEndian
    stream = io.BytesIO(raw)
    with warnings.catch_warnings(), pydicom_config.disable_value_validation():
        # Warnings of pydicom quote values, which may be a patient's, in its log too; here is judged instead.
        warnings.simplefilter("ignore")
        try:
            dataset = read_dataset(stream, implicit, little, stop_when=_at_pixels)
        except UNREADABLE as error:
            return refuse("HEADER-UNREADABLE", sop=sop_uid, why=_kind(error))
        pixels = _pixel_element(raw, stream.tell(), implicit=implicit, little=little)
        header = _settled(dataset)
    if isinstance(header, str):
        return refuse("HEADER-UNREADABLE", sop=sop_uid, why=header)
    return Parsed(header, pixels)


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXEL_KEYWORDS


def _kind(error: BaseException) -> str:
    """What went wrong without the text of the exception, which may quote a value."""
    if isinstance(error, RecursionError):
        return f"sequences nest deeper than {NESTING_MAX}"
    return f"its structure is damaged ({type(error).__name__})"


def _inflation_limit(raw: bytes) -> int:
    return min(INFLATED_BYTES_MAX, max(1 << 20, INFLATION_RATIO_MAX * len(raw)))


def _inflate(raw: bytes) -> bytes | None:
    """At most one byte more than the limit; None for damaged data."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, _inflation_limit(raw) + 1)
    except zlib.error:
        return None


def _pixel_element(raw: bytes, offset: int, *, implicit: bool, little: bool) -> PixelElement | None:
    """The element that starts at `offset`, if it is pixel data with a whole head."""
    order = "<" if little else ">"
    head = raw[offset : offset + 12]
    if len(head) < (8 if implicit else 12):
        return None
    group, element = struct.unpack_from(order + "HH", head)
    keyword = _PIXEL_KEYWORDS.get(BaseTag(group << 16 | element))
    if keyword is None:
        return None
    if implicit:
        vr, start = "OW", offset + 8
        (length,) = struct.unpack_from(order + "L", head, 4)
    else:
        vr, start = head[4:6].decode("latin-1"), offset + 12
        (length,) = struct.unpack_from(order + "L", head, 8)
    if length == _UNDEFINED_LENGTH:
        return PixelElement(keyword, vr, memoryview(raw)[start:], encapsulated=True)
    return PixelElement(keyword, vr, memoryview(raw)[start : start + length], encapsulated=False)


def _settled(dataset: Dataset) -> Dataset | str:
    """A copy in which every value is converted and text is Unicode; or what is wrong with the structure."""
    top = Dataset()
    waiting: list[tuple[Dataset, Dataset, tuple[str, ...], int]] = [(dataset, top, (), 0)]
    count = 0
    while waiting:
        source, target, inherited, depth = waiting.pop()
        if depth > NESTING_MAX:
            return f"sequences nest deeper than {NESTING_MAX}"
        encodings = _encodings(source, inherited)
        for tag in list(source.keys()):
            count += 1
            if count > ELEMENTS_MAX:
                return f"it holds more than {ELEMENTS_MAX} elements"
            element = _converted(source, tag, encodings)
            if element is None:
                continue
            if element.VR == "SQ":
                items = [Dataset() for _ in element.value or ()]
                waiting.extend(
                    (item, mine, encodings, depth + 1)
                    for item, mine in zip(element.value or (), items, strict=True)
                )
                element = DataElement(tag, "SQ", items)
            target.add(element)
    if "SpecificCharacterSet" in top:
        top.SpecificCharacterSet = "ISO_IR 192"
    return top


def _converted(source: Dataset, tag: BaseTag, encodings: tuple[str, ...]) -> DataElement | None:
    """The element with its value converted; None when it is not wanted or cannot be read."""
    if tag.is_private or tag.group & 0xFF00 == 0x6000 or tag.element == 0:
        return None
    try:
        raw = source.get_item(tag)
    except UNREADABLE:
        return None
    if isinstance(raw, RawDataElement):
        vr = _vr(raw)
        value = raw.value or b""
        if vr != "SQ" and len(value) > VALUE_BYTES_MAX:
            return None
        if vr in _TEXT_VRS:
            text = decoded_text(value, encodings, TEXT_VR_DELIMS)
            return DataElement(tag, vr, text.rstrip("\0 "), validation_mode=pydicom_config.IGNORE)
        if vr == "PN":
            groups = (decoded_text(part, encodings, PN_DELIMS) for part in value.split(b"="))
            name = PersonName("=".join(groups).rstrip("\0 "))
            return DataElement(tag, vr, name, validation_mode=pydicom_config.IGNORE)
        if vr == "DS" and b"," in value:
            # Some modalities write a decimal comma, which PS3.5 6.2 does not know.
            source[tag] = raw._replace(value=value.replace(b",", b"."))
    try:
        element = source[tag]
        if element.VR in ("DS", "IS") and element.value is not None:
            # Without validation pydicom hands out text that is no number as text.
            for value in element.value if element.VM > 1 else [element.value]:
                float(value or 0)
    except UNREADABLE:
        return None
    return element


def _vr(raw: RawDataElement) -> str:
    if raw.VR not in (None, "UN"):
        return str(raw.VR)
    try:
        return dictionary_VR(raw.tag)
    except KeyError:
        return "UN"


def _encodings(dataset: Dataset, inherited: tuple[str, ...]) -> tuple[str, ...]:
    """Python encodings declared by the dataset or around it; () when none is, or none that is known."""
    if 0x00080005 not in dataset:
        return inherited
    try:
        declared = dataset[0x00080005].value or ()
        names = [declared] if isinstance(declared, str) else list(declared)
        encodings = tuple(convert_encodings(names))
    except UNREADABLE:
        return ()
    return () if set(encodings) == {"iso8859"} else encodings


def decoded_text(value: bytes, encodings: tuple[str, ...], delimiters: set[int]) -> str:
    """Text as declared; where that does not fit the bytes, as UTF-8, and else as Latin-1, which fits any.

    Devices write Latin-1 under a declaration of UTF-8, and UTF-8 without any. Source: PS3.3 C.12.1.1.2
    """
    for candidate in (encodings, ("utf-8",)):
        if not candidate:
            continue
        try:
            with warnings.catch_warnings():
                # pydicom replaces what it cannot decode and only warns.
                warnings.simplefilter("error")
                return decode_bytes(value, candidate, delimiters)
        except (UnicodeError, LookupError, UserWarning):
            continue
    return value.decode("latin-1")
