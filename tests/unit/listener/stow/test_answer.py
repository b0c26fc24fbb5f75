"""What became of each instance is told as the standard wants it, in JSON and XML alike."""

import json
from xml.etree import ElementTree

import pytest
from dicom_peer import CT
from pydicom import Dataset

from listener.stow.answer import JSON, XML, Outcome, dataset_of, form_of, status_of

STORED, REFUSED = Outcome(CT, "1.2.3", 0), Outcome(CT, "1.2.4", 0xA900)
NAMELESS, FULL = Outcome("", "", 0xC000), Outcome(CT, "1.2.5", 0xA700)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([STORED], 200),
        ([STORED, REFUSED], 202),
        ([REFUSED, NAMELESS], 409),
        ([FULL], 503),
        ([FULL, REFUSED], 409),
        ([STORED, FULL], 202),
        ([], 400),
    ],
)
def test_the_status_says_whether_all_some_or_none_were_stored(outcomes: list, status: int) -> None:
    assert status_of(outcomes) == status


def test_the_json_is_a_dataset_that_names_each_instance() -> None:
    found = Dataset.from_json(dataset_of([STORED, REFUSED, NAMELESS, FULL], JSON).decode())
    assert [item.ReferencedSOPInstanceUID for item in found.ReferencedSOPSequence] == ["1.2.3"]
    assert found.ReferencedSOPSequence[0].ReferencedSOPClassUID == CT
    failed = [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in found.FailedSOPSequence]
    assert failed == [("1.2.4", 0xA900), ("1.2.5", 0xA700)]
    assert [item.FailureReason for item in found.OtherFailuresSequence] == [0xC000]


def test_a_request_without_failures_has_no_sequence_of_them() -> None:
    assert set(json.loads(dataset_of([STORED], JSON))) == {"00081190", "00081199"}


def test_the_xml_says_the_same() -> None:
    root = ElementTree.fromstring(dataset_of([STORED, REFUSED, NAMELESS], XML))
    space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    assert root.tag == f"{space}NativeDicomModel"
    said = {
        (sequence.get("keyword"), one.get("keyword")): one.findtext(f"{space}Value")
        for sequence in root
        for one in sequence.iter(f"{space}DicomAttribute")
        if one is not sequence
    }
    assert said["ReferencedSOPSequence", "ReferencedSOPInstanceUID"] == "1.2.3"
    assert said["FailedSOPSequence", "ReferencedSOPInstanceUID"] == "1.2.4"
    assert said["FailedSOPSequence", "FailureReason"] == str(0xA900)
    assert said["OtherFailuresSequence", "FailureReason"] == str(0xC000)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/dicom+json", JSON),
        ("application/dicom+xml", XML),
        ("application/dicom+json;q=0.5, application/dicom+xml", XML),
        ("text/html, application/dicom+xml;q=0.1", XML),
        ("text/html", None),
        ("application/dicom+json;q=0", None),
        ("application/dicom+json;q=nonsense", None),
    ],
)
def test_the_form_is_what_accept_prefers(accept: str, form: str | None) -> None:
    assert form_of(accept) == form
