"""A row's content comes from the stored bytes: decoded text in any character set, and who made the object."""

import json
import struct
from pathlib import Path

import pytest
from dicom_peer import CT, EXPLICIT, IMPLICIT, ct_dataset, element, even, implicit_element, item, new_uid
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_charset_files

from config.identity import own_uid
from db.records import Location, ReceivedInstance
from listener.attributes import received_instance

LOCATION = Location("instances", 1, 1, 4096, 100)


def meta(uid: str, *, sop_class: str = CT, syntax: str = EXPLICIT) -> bytes:
    return json.dumps(
        {
            "calling": "PACS",
            "called": "PREREAD",
            "address": "10.0.0.1",
            "transfer_syntax": syntax,
            "sop_class": sop_class,
            "sop_instance": uid,
            "received_at": 1234.5,
        }
    ).encode()


def received(
    dataset: bytes, *, uid: str = "1.2.3", sop_class: str = CT, syntax: str = EXPLICIT
) -> ReceivedInstance:
    return received_instance(
        meta(uid, sop_class=sop_class, syntax=syntax),
        lambda: [dataset[:50], dataset[50:]],
        location=LOCATION,
        uid_root=None,
    )


def test_uids_behind_the_pixels_are_found() -> None:
    dataset = ct_dataset("1.2.3", study="1.2.4", series="1.2.5", pixels=bytes(200))
    late = b"".join(
        element(0x0020, number, b"UI", even(uid)) for number, uid in ((0x0D, b"1.2.4"), (0x0E, b"1.2.5"))
    )
    assert late in dataset
    found = received(dataset.replace(late, b"") + late)
    assert (found.study_uid, found.series_uid) == ("1.2.4", "1.2.5")
    assert found.attributes["Modality"] == "CT"


def test_identity_and_attributes_are_read_from_the_dataset() -> None:
    found = received(ct_dataset("1.2.3", study="1.2.4", series="1.2.5"))
    assert (found.sop_uid, found.study_uid, found.series_uid) == ("1.2.3", "1.2.4", "1.2.5")
    assert (found.calling_ae, found.called_ae, found.address) == ("PACS", "PREREAD", "10.0.0.1")
    assert (found.received_at, found.location, found.sha256) == (1234.5, LOCATION, "")
    assert found.attributes == {
        "Modality": "CT",
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "Rows": "64",
        "Columns": "64",
    }
    assert found.is_image
    assert not found.own


def test_implicit_dataset_is_read_alike() -> None:
    dataset = b"".join(
        (
            implicit_element(8, 0x60, b"MR"),
            implicit_element(0x20, 0xD, b"1.2.4\0"),
            implicit_element(0x20, 0xE, b"1.2.5\0"),
        )
    )
    found = received(dataset, syntax=IMPLICIT)
    assert (found.study_uid, found.series_uid, found.attributes) == ("1.2.4", "1.2.5", {"Modality": "MR"})


@pytest.mark.parametrize("name", ["chrH31.dcm", "chrRuss.dcm", "chrArab.dcm", "chrX1.dcm", "chrFren.dcm"])
def test_names_in_other_character_sets_are_decoded(name: str) -> None:
    path = Path(get_charset_files(name)[0])
    dataset, raw = dcmread(path), path.read_bytes()
    (length,) = struct.unpack_from("<L", raw, 140)
    found = received(raw[144 + length :], syntax=str(dataset.file_meta.TransferSyntaxUID))
    assert found.attributes["PatientName"] == str(dataset.PatientName)


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_text_of_any_bytes_in_any_claimed_character_set_is_a_printable_string(
    name: bytes, charset: bytes
) -> None:
    dataset = element(8, 5, b"CS", even(charset, b" ")) + element(0x10, 0x10, b"PN", even(name, b" "))
    found = received(dataset).attributes
    assert found["PatientName"].isprintable()


def test_objects_under_our_uids_are_our_own() -> None:
    ours = own_uid(b"something")
    assert received(ct_dataset(ours), uid=ours).own
    assert received(ct_dataset("1.2.3", series=ours)).own


def test_objects_that_name_our_equipment_are_our_own_though_their_uids_were_changed() -> None:
    assert received(ct_dataset("1.2.3", model=b"preread")).own
    name = element(8, 0x1090, b"LO", b"preread ")
    one = struct.pack("<HHL", 0xFFFE, 0xE000, len(name)) + name
    sequence = struct.pack("<HH2sHL", 0x18, 0xA001, b"SQ", 0, len(one)) + one
    assert received(ct_dataset("1.2.3", extra=sequence)).own


def test_a_description_that_names_us_is_no_evidence() -> None:
    dataset = element(8, 0x103E, b"LO", b"preread AI results") + ct_dataset("1.2.3", model=b"other")
    assert not received(dataset).own


def test_reports_are_kept_but_are_no_images() -> None:
    assert not received(ct_dataset("1.2.3"), sop_class="1.2.840.10008.5.1.4.1.1.88.33").is_image


def test_nothing_behind_the_pixel_data_is_looked_at() -> None:
    dataset = ct_dataset(new_uid()) + item(0xFF, b"garbage")
    assert received(dataset).attributes["Modality"] == "CT"
