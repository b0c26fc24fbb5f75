"""The walk accepts what writers write, finds its UIDs, and refuses bytes that contradict themselves."""

import struct
from pathlib import Path

import pytest
from dicom_peer import CT, ct_dataset, element, even, implicit_element, new_uid
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from listener.dataset_scan import (
    CONTRIBUTING_EQUIPMENT_SEQUENCE,
    DEPTH_MAX,
    MANUFACTURER_MODEL_NAME,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    DatasetScan,
)

WANTED = dict.fromkeys((SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID), 65)
INSIDE = frozenset({(CONTRIBUTING_EQUIPMENT_SEQUENCE, MANUFACTURER_MODEL_NAME)})
UNDEFINED = 0xFFFFFFFF


def scan(data: bytes, *, explicit: bool = True, step: int | None = None) -> DatasetScan:
    walk = DatasetScan(explicit=explicit, wanted=WANTED, wanted_inside=INSIDE)
    for at in range(0, len(data), step or max(1, len(data))):
        walk.feed(memoryview(data)[at : at + (step or len(data))])
    walk.finish()
    return walk


def encoded(dataset: Dataset, *, explicit: bool, undefined: bool = False) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, not explicit
    if undefined:
        for each in dataset.iterall():
            if each.VR == "SQ":
                each.is_undefined_length = True
                for entry in each.value:
                    entry.is_undefined_length_sequence_item = True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def nested(depth: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
    inner = dataset
    for _ in range(depth):
        entry = Dataset()
        entry.ReferencedSOPClassUID = CT
        inner.ReferencedImageSequence = Sequence([entry, Dataset()])
        inner = entry
    dataset.PixelData = bytes(100)
    dataset["PixelData"].VR = "OW"
    return dataset


def sequence_head(length: int = UNDEFINED, vr: bytes = b"SQ", tag: tuple[int, int] = (8, 0x1140)) -> bytes:
    return struct.pack("<HH2sHL", *tag, vr, 0, length)


def item_head(length: int = UNDEFINED) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, length)


ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
UIDS = ct_dataset("1.2.3", pixels=b"")


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 5, DEPTH_MAX])
def test_what_pydicom_writes_passes_and_shows_its_uids(explicit: bool, undefined: bool, depth: int) -> None:
    data = encoded(nested(depth), explicit=explicit, undefined=undefined)
    walk = scan(data, explicit=explicit)
    assert walk.fault is None
    assert {tag: value.rstrip(b"\0") for tag, value in walk.found.items()} == {
        SOP_CLASS_UID: CT.encode(),
        SOP_INSTANCE_UID: b"1.2.3",
        STUDY_INSTANCE_UID: b"1.2.4",
        SERIES_INSTANCE_UID: b"1.2.5",
    }


@pytest.mark.parametrize("explicit", [True, False])
def test_nesting_beyond_the_bound_is_refused(explicit: bool) -> None:
    data = encoded(nested(DEPTH_MAX + 1), explicit=explicit, undefined=True)
    assert "nested more than" in str(scan(data, explicit=explicit).fault)


def test_ten_thousand_sequences_deep_are_refused() -> None:
    deep = UIDS + (sequence_head() + item_head()) * 10_000 + (ITEM_END + SEQUENCE_END) * 10_000
    assert "nested more than" in str(scan(deep).fault)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_cut_anywhere_but_between_elements_is_refused(explicit: bool, undefined: bool) -> None:
    dataset = nested(2)
    data = encoded(dataset, explicit=explicit, undefined=undefined)
    ends = set()
    for count in range(len(list(dataset)) + 1):
        part = Dataset()
        for each in list(dataset)[:count]:
            part.add(each)
        ends.add(len(encoded(part, explicit=explicit, undefined=undefined)))
    for cut in range(1, len(data)):
        rest = data[max(end for end in ends if end <= cut) : cut]
        tolerated = len(rest) < 8 and not any(rest)
        assert (scan(data[:cut], explicit=explicit).fault is None) == (cut in ends or tolerated), cut


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 3), st.booleans(), st.booleans())
def test_any_step_gives_the_same_as_all_at_once(
    step: int, depth: int, explicit: bool, undefined: bool
) -> None:
    data = encoded(nested(depth), explicit=explicit, undefined=undefined)
    whole, stepped = scan(data, explicit=explicit), scan(data, explicit=explicit, step=step)
    assert (whole.found, whole.fault) == (stepped.found, stepped.fault)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(1, 400),
    st.booleans(),
)
def test_mutated_datasets_are_judged_alike_however_they_are_cut(
    changes: list[tuple[int, int]], step: int, explicit: bool
) -> None:
    data = bytearray(encoded(nested(3), explicit=explicit, undefined=True))
    for at, value in changes:
        data[at % len(data)] = value
    whole, stepped = scan(bytes(data), explicit=explicit), scan(bytes(data), explicit=explicit, step=step)
    assert (whole.fault is None) == (stepped.fault is None)


@given(st.binary(max_size=2000), st.booleans())
def test_random_bytes_are_walked_or_a_fault(data: bytes, explicit: bool) -> None:
    scan(data, explicit=explicit, step=97)


def test_memory_stays_flat_on_a_value_of_any_length() -> None:
    walk = DatasetScan(explicit=True, wanted=WANTED)
    walk.feed(UIDS + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 0xFFFFFFF0))
    for _ in range(1000):
        walk.feed(bytes(100_000))
        assert len(walk._carry) < 100
    assert "short" in str(walk.finish())


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (struct.pack("<HH2sHL", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFF0) + bytes(1000), "(0029,1010) is"),
        (sequence_head(length=8) + item_head(length=50) + bytes(50), "longer than what holds it"),
        (sequence_head() + item_head(length=8) + element(8, 0x60, b"CS", b"CT") + SEQUENCE_END, "longer"),
        (sequence_head() + element(8, 0x60, b"CS", b"CT"), "must have an item"),
        (sequence_head() + item_head() + SEQUENCE_END, "where an element must"),
        (sequence_head() + item_head() + ITEM_END, "not closed"),
        (sequence_head(), "not closed"),
        (sequence_head(vr=b"OB"), "has no length"),
        (sequence_head(vr=b"UT"), "has no length"),
        (ITEM_END, "where an element must"),
        (element(2, 0x10, b"UI", b"1.2."), "does not belong"),
        (struct.pack("<HH2sH", 0x0021, 0x10, b"ZZ", 2) + b"ab", "no valid VR"),
        (element(8, 0x18, b"UI", b"9.9."), "twice"),
        (sequence_head(vr=b"OB", tag=(0x7FE0, 0x10)) + item_head() + SEQUENCE_END, "no valid length"),
        (sequence_head(vr=b"OB", tag=(0x7FE0, 0x10)) + item_head(length=4) + b"abcd", "not closed"),
        (b"\1" * 5, "ends inside"),
    ],
    ids=range(16),
)
def test_a_lie_is_a_fault_that_names_the_element(tail: bytes, why: str) -> None:
    uids = UIDS[: UIDS.rindex(b"\xe0\x7f\x10\x00")]
    assert why in str(scan(uids + tail).fault)


@pytest.mark.parametrize(
    "tail",
    [
        element(0x7FE0, 0x10, b"OW", b"abc"),  # odd length
        element(0x0009, 0x0000, b"UL", b"\0\0\0\0"),  # group length
        element(0xFFFC, 0xFFFC, b"OB", bytes(30)),  # data set trailing padding
        b"\0",  # a stray pad byte
        sequence_head(length=0),
        sequence_head() + SEQUENCE_END,
        sequence_head(vr=b"UN", tag=(9, 0x1001))  # CP-246: implicit inside
        + item_head()
        + implicit_element(8, 0x60, b"CT")
        + ITEM_END
        + SEQUENCE_END,
        sequence_head(vr=b"OB", tag=(0x7FE0, 0x10))
        + item_head(length=0)
        + item_head(length=3)
        + b"abc"
        + SEQUENCE_END,
        sequence_head()
        + item_head()
        + sequence_head(vr=b"OB", tag=(0x7FE0, 0x10))
        + item_head(length=0)
        + SEQUENCE_END
        + ITEM_END
        + SEQUENCE_END,
    ],
    ids=range(9),
)
def test_what_devices_send_without_contradiction_passes(tail: bytes) -> None:
    uids = UIDS[: UIDS.rindex(b"\xe0\x7f\x10\x00")]
    assert scan(uids + tail).fault is None
    assert scan(uids + tail, step=3).fault is None


def test_empty_dataset_is_a_fault() -> None:
    assert scan(b"").fault == "the dataset is empty"


def test_too_long_uid_is_cut_to_one_byte_more_than_a_uid_has() -> None:
    walk = scan(ct_dataset("1" * 200))
    assert len(walk.found[SOP_INSTANCE_UID]) == 65


def test_wanted_values_are_taken_from_the_top_level_alone() -> None:
    inner = element(8, 0x18, b"UI", b"6.6.")
    data = sequence_head(length=len(inner) + 8) + item_head(length=len(inner)) + inner
    uid = new_uid()
    walk = scan(data + ct_dataset(uid))
    assert walk.found[SOP_INSTANCE_UID] == even(uid.encode())


def test_equipment_that_contributed_is_found_inside_its_sequence() -> None:
    name = element(8, 0x1090, b"LO", b"preread ")
    tail = struct.pack("<HH2sHL", 0x18, 0xA001, b"SQ", 0, len(name) + 8) + item_head(len(name)) + name
    walk = scan(ct_dataset("1.2.3", extra=tail))
    assert walk.found_inside == {(CONTRIBUTING_EQUIPMENT_SEQUENCE, MANUFACTURER_MODEL_NAME): [b"preread "]}


@pytest.mark.parametrize(
    ("name", "explicit"),
    [
        ("CT_small.dcm", True),
        ("MR_small_RLE.dcm", True),
        ("MR_small_implicit.dcm", False),
        ("rtplan.dcm", False),
    ],
)
def test_files_of_real_devices_pass(name: str, explicit: bool) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    raw = Path(path).read_bytes()
    (meta_length,) = struct.unpack_from("<L", raw, 140)
    walk = scan(raw[144 + meta_length :], explicit=explicit, step=16376)
    assert walk.fault is None
    assert set(walk.found) == set(WANTED)
