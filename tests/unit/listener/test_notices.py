"""What MPPS and availability notices say: the instances that can ever be here, nothing of the patient."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from config.identity import own_uid
from listener.admission import Refusal
from listener.intake import Sender
from listener.notices import (
    INVALID_VALUE,
    MISSING_ATTRIBUTE,
    NAMED_MAX,
    PROCESSING_FAILURE,
    ReadNotice,
    is_notice,
    read_availability,
    read_mpps,
    received_notice,
)

MR, PDF = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.104.1"
STEP = "1.2.3.4"
SENDER = Sender("SCANNER", "PREREAD", "10.0.0.7")


@disable_value_validation()
def reference(uid: str, *, sop_class: str = MR, availability: str = "ONLINE") -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    item.InstanceAvailability, item.RetrieveAETitle = availability, "PACS"
    return item


@disable_value_validation()
def performed(
    series: Mapping[str, Sequence[Dataset]], *, status: str | None = "COMPLETED", studies: Sequence[str] = ()
) -> Dataset:
    step = Dataset()
    step.PatientName = "Doe^Jane"
    if status is not None:
        step.PerformedProcedureStepStatus = status
    step.ScheduledStepAttributesSequence = []
    for study in studies:
        scheduled = Dataset()
        scheduled.StudyInstanceUID = study
        step.ScheduledStepAttributesSequence.append(scheduled)
    step.PerformedSeriesSequence = []
    for uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedImageSequence = uid, list(references)
        step.PerformedSeriesSequence.append(item)
    return step


@disable_value_validation()
def available(series: Mapping[str, Sequence[Dataset]], *, study: str = "1.2.1") -> Dataset:
    notice = Dataset()
    notice.StudyInstanceUID = study
    notice.ReferencedSeriesSequence = []
    for uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedSOPSequence = uid, list(references)
        notice.ReferencedSeriesSequence.append(item)
    return notice


def test_step_begins_with_its_study_and_ends_with_its_instances() -> None:
    begun = read_mpps(performed({}, status="IN PROGRESS", studies=["1.2.1"]), sop_uid=STEP, is_new=True)
    assert begun == ReadNotice("mpps", "in_progress", STEP, "1.2.1", {})
    ended = read_mpps(
        performed({"1.2.1.1": [reference("9.1"), reference("9.2")]}), sop_uid=STEP, is_new=False
    )
    assert ended == ReadNotice("mpps", "completed", STEP, "", {"1.2.1.1": ("9.1", "9.2")})


def test_step_that_is_changed_without_a_status_is_still_in_progress() -> None:
    found = read_mpps(performed({}, status=None), sop_uid=STEP, is_new=False)
    assert isinstance(found, ReadNotice)
    assert found.state == "in_progress"


def test_step_about_several_studies_says_nothing_of_any() -> None:
    found = read_mpps(
        performed({}, status="IN PROGRESS", studies=["1.2.1", "1.2.2"]), sop_uid=STEP, is_new=True
    )
    assert isinstance(found, ReadNotice)
    assert found.study_uid == ""


def test_reports_of_a_step_count_as_its_images_do() -> None:
    step = performed({"1.2.1.1": [reference("9.1")]})
    other = reference("9.8", sop_class="1.2.840.10008.5.1.4.1.1.88.67")
    step.PerformedSeriesSequence[0].ReferencedNonImageCompositeSOPInstanceSequence = [other]
    found = read_mpps(step, sop_uid=STEP, is_new=False)
    assert isinstance(found, ReadNotice)
    assert found.named == {"1.2.1.1": ("9.1", "9.8")}


def test_availability_names_what_is_available_once_and_of_classes_taken_here() -> None:
    found = read_availability(
        available(
            {
                "1.2.1.1": [
                    reference("9.1"),
                    reference("9.1"),
                    reference("9.2", availability="NEARLINE"),
                    reference("9.3", availability="UNAVAILABLE"),
                ],
                "1.2.1.2": [reference("9.9", sop_class=PDF)],
            }
        ),
        sop_uid="1.2.9",
    )
    assert found == ReadNotice("ian", "available", "1.2.9", "1.2.1", {"1.2.1.1": ("9.1", "9.2")})


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (read_mpps(performed({}, status=None), sop_uid=STEP, is_new=True), MISSING_ATTRIBUTE),
        (read_mpps(performed({}, status="BORED"), sop_uid=STEP, is_new=False), INVALID_VALUE),
        (read_mpps(performed({}), sop_uid="../x", is_new=False), INVALID_VALUE),
        (read_mpps(performed({}, studies=["x"]), sop_uid=STEP, is_new=True), INVALID_VALUE),
        (read_mpps(performed({"1.2": [reference("x'")]}), sop_uid=STEP, is_new=False), INVALID_VALUE),
        (read_mpps(performed({"": [reference("9.1")]}), sop_uid=STEP, is_new=False), INVALID_VALUE),
        (read_availability(Dataset(), sop_uid=STEP), MISSING_ATTRIBUTE),
        (read_availability(available({}, study="a.b"), sop_uid=STEP), INVALID_VALUE),
        (
            read_availability(
                available({"1.2": [reference(f"9.{n}") for n in range(NAMED_MAX + 1)]}), sop_uid=STEP
            ),
            PROCESSING_FAILURE,
        ),
    ],
)
def test_notice_that_cannot_be_kept_is_refused_with_its_reason(
    refused: ReadNotice | Refusal, status: int
) -> None:
    assert isinstance(refused, Refusal)
    assert refused.status == status


def test_record_of_a_notice_gives_back_what_was_read_and_no_patient() -> None:
    read = read_mpps(performed({"1.2.1.1": [reference("9.1")]}, studies=["1.2.1"]), sop_uid=STEP, is_new=True)
    assert isinstance(read, ReadNotice)
    meta, payload = read.meta(SENDER, 1234.5678), read.payload()
    assert b"Doe" not in meta + payload
    assert is_notice(meta)
    found = received_notice(meta, payload, uid_root=None)
    assert (found.kind, found.state, found.sop_uid, found.study_uid) == ("mpps", "completed", STEP, "1.2.1")
    assert (found.source_ae, found.address, found.received_at) == ("SCANNER", "10.0.0.7", 1234.568)
    assert found.named == {"1.2.1.1": ("9.1",)}


def test_meta_of_an_instance_is_no_notice_even_with_a_title_that_looks_like_one() -> None:
    title = '"notice":1'
    instance = json.dumps({"calling": title, "sop_instance": "1.2"}, separators=(",", ":")).encode()
    assert not is_notice(instance)
    assert not is_notice(replace(SENDER, calling_ae='x"notice":').as_json.encode())


def test_results_of_this_node_are_not_expected_back() -> None:
    ours = own_uid(b"a result")
    notice = read_availability(
        available({"1.2.1.1": [reference("9.1"), reference(ours)], own_uid(b"a series"): [reference("9.7")]}),
        sop_uid=STEP,
    )
    assert isinstance(notice, ReadNotice)
    found = received_notice(notice.meta(SENDER, 0), notice.payload(), uid_root=None)
    assert found.named == {"1.2.1.1": ("9.1",)}
