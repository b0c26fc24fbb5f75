"""From a stored instance to what its row needs: a few decoded header attributes, and whether it is our own.

Runs off the acknowledgement path on datasets that passed `dataset_scan` before. Text is decoded with its
Specific Character Set and never fails: what cannot be decoded is replaced.
"""

import json
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword

from config.identity import PRODUCT, is_own_uid
from db.records import Location, ReceivedInstance
from listener.contexts import IMAGE_CLASSES, IMPLICIT_VR_LITTLE_ENDIAN
from listener.dataset_scan import (
    CONTRIBUTING_EQUIPMENT_SEQUENCE,
    MANUFACTURER_MODEL_NAME,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    DatasetScan,
)

VALUE_BYTES_MAX = 512  # of text kept; PN, the longest, may have 3 groups of 64 characters

TEXT_KEYWORDS = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "StudyDescription", "Modality", "SeriesDescription", "SeriesNumber"),
    *("BodyPartExamined", "InstanceNumber", "NumberOfFrames", "Manufacturer"),
)
NUMBER_KEYWORDS = ("Rows", "Columns")  # VR US


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


_TEXT_TAGS = {_tag(keyword): keyword for keyword in TEXT_KEYWORDS}
_NUMBER_TAGS = {_tag(keyword): keyword for keyword in NUMBER_KEYWORDS}
_OTHER_TAGS = (
    SPECIFIC_CHARACTER_SET,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    SERIES_INSTANCE_UID,
    MANUFACTURER_MODEL_NAME,
)
_WANTED = dict.fromkeys((*_TEXT_TAGS, *_NUMBER_TAGS, *_OTHER_TAGS), VALUE_BYTES_MAX)
_WANTED_INSIDE = frozenset({(CONTRIBUTING_EQUIPMENT_SEQUENCE, MANUFACTURER_MODEL_NAME)})


def received_instance(
    meta: bytes,
    chunks: Callable[[], Iterable[bytes | memoryview]],
    *,
    location: Location,
    uid_root: str | None,
) -> ReceivedInstance:
    """The row's content from a spool record, without a digest; reads no further than it must.

    `chunks` gives the dataset from its beginning, each time it is called.
    """
    known = json.loads(meta)
    scan = _walk(known["transfer_syntax"], chunks(), stop_behind=max(_WANTED))
    if not {STUDY_INSTANCE_UID, SERIES_INSTANCE_UID} <= scan.found.keys():  # its elements are not in order
        scan = _walk(known["transfer_syntax"], chunks(), stop_behind=None)
    study_uid = _uid(scan.found, STUDY_INSTANCE_UID)
    series_uid = _uid(scan.found, SERIES_INSTANCE_UID)
    return ReceivedInstance(
        sop_uid=known["sop_instance"],
        sop_class=known["sop_class"],
        study_uid=study_uid,
        series_uid=series_uid,
        transfer_syntax=known["transfer_syntax"],
        calling_ae=known["calling"],
        called_ae=known["called"],
        address=known["address"],
        received_at=float(known["received_at"]),
        location=location,
        sha256="",
        own=_is_own(known, scan, series_uid, uid_root),
        is_image=known["sop_class"] in IMAGE_CLASSES,
        attributes=_attributes(scan.found),
    )


def _walk(
    transfer_syntax: str, chunks: Iterable[bytes | memoryview], *, stop_behind: int | None
) -> DatasetScan:
    scan = DatasetScan(
        explicit=transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN,
        wanted=_WANTED,
        wanted_inside=_WANTED_INSIDE,
        stop_behind=stop_behind,
    )
    for chunk in chunks:
        scan.feed(chunk)
        if scan.is_done:
            break
    return scan


def _is_own(known: Mapping[str, Any], scan: DatasetScan, series_uid: str, uid_root: str | None) -> bool:
    """Whether preread made the object: by its UIDs, else by the equipment that names itself as its maker.

    A router that coerces UIDs leaves the equipment alone. A description is no evidence: anybody may write it.
    """
    if is_own_uid(known["sop_instance"], root=uid_root) or is_own_uid(series_uid, root=uid_root):
        return True
    key = (CONTRIBUTING_EQUIPMENT_SEQUENCE, MANUFACTURER_MODEL_NAME)
    names = [scan.found.get(MANUFACTURER_MODEL_NAME, b""), *scan.found_inside.get(key, [])]
    return any(name.strip(b"\0 ") == PRODUCT.encode() for name in names)


def _attributes(found: Mapping[int, bytes]) -> dict[str, str]:
    encodings = _encodings(found.get(SPECIFIC_CHARACTER_SET, b""))
    attributes = {}
    for tag, keyword in _TEXT_TAGS.items():
        if tag in found:
            text = _decoded(found[tag], encodings).strip(" \0")
            if keyword == "PatientName":
                text = text.rstrip("^= ")  # empty groups and components at the end (PS3.5 6.2.1)
            attributes[keyword] = "".join(c for c in text if c.isprintable())
    for tag, keyword in _NUMBER_TAGS.items():
        if len(found.get(tag, b"")) == 2:
            attributes[keyword] = str(struct.unpack("<H", found[tag])[0])
    return attributes


@lru_cache(maxsize=256)
def _encodings(value: bytes) -> list[str]:
    names = [name.strip() for name in value.decode("ascii", "replace").split("\\")]
    with warnings.catch_warnings():  # pydicom warns of unknown names and falls back, as we want
        warnings.simplefilter("ignore")
        try:
            return list(convert_encodings(names))
        except (LookupError, ValueError):
            return ["iso8859"]


def _decoded(value: bytes, encodings: list[str]) -> str:
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(decode_bytes(value, encodings, {0x5C, 0x5E, 0x3D}))
        except (LookupError, UnicodeError, ValueError):
            return value.decode("iso8859", "replace")


def _uid(found: Mapping[int, bytes], tag: int) -> str:
    return found.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")
