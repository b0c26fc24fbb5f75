"""What a UPS says of its input is a list only when it is ready and whole; what it orders is not looked at."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from config.identity import own_uid
from listener.admission import Refusal
from listener.commitment import NO_SUCH_ACTION
from listener.contexts import UPS_PUSH
from listener.intake import Sender
from listener.notices import (
    INVALID_VALUE,
    MISSING_ATTRIBUTE,
    NAMED_MAX,
    PROCESSING_FAILURE,
    STEPS_MAX,
    ReadNotice,
    received_notice,
)
from listener.unified_steps import (
    ALREADY_CANCELED,
    ATTRIBUTES_LEFT_OUT,
    NO_EVENT_REPORTS,
    NOT_SCHEDULED,
    attributes_of,
    canceled,
    read_unified_step,
    refused_step_action,
)

MR, PDF = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.104.1"
STEP = "1.2.3.4"
SENDER = Sender("MANAGER", "PREREAD", "10.0.0.9")


@disable_value_validation()
def input_of(series: str, uids: Sequence[str], *, study: str = "1.2.1", sop_class: str = MR) -> Dataset:
    item = Dataset()
    item.TypeOfInstances, item.StudyInstanceUID, item.SeriesInstanceUID = "DICOM", study, series
    item.ReferencedSOPSequence = []
    for uid in uids:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, uid
        item.ReferencedSOPSequence.append(reference)
    return item


@disable_value_validation()
def pushed(*items: Dataset, readiness: str | None = "READY", state: str | None = "SCHEDULED") -> Dataset:
    step = Dataset()
    step.PatientName, step.PatientID = "Doe^Jane", "P1"
    step.ProcedureStepLabel, step.TransactionUID = "Segment", ""
    for keyword, value in (("ProcedureStepState", state), ("InputReadinessState", readiness)):
        if value is not None:
            setattr(step, keyword, value)
    step.InputInformationSequence = list(items)
    return step


def read(*items: Dataset, readiness: str = "READY") -> ReadNotice:
    found = read_unified_step(pushed(*items, readiness=readiness), sop_uid=STEP)
    assert isinstance(found, ReadNotice)
    return found


def test_step_names_the_instances_of_its_input_by_series() -> None:
    found = read(
        input_of("1.2.1.1", ["9.1", "9.2"]), input_of("1.2.1.2", ["9.3"]), input_of("1.2.1.1", ["9.2", "9.4"])
    )
    named = {"1.2.1.1": ("9.1", "9.2", "9.4"), "1.2.1.2": ("9.3",)}
    assert found == ReadNotice("ups", "input_ready", STEP, "1.2.1", named)


@pytest.mark.parametrize(
    ("readiness", "state"), [("INCOMPLETE", "input_incomplete"), ("UNAVAILABLE", "input_unavailable")]
)
def test_list_that_is_not_ready_is_kept_as_such(readiness: str, state: str) -> None:
    assert read(input_of("1.2.1.1", ["9.1"]), readiness=readiness).state == state


def test_ready_list_of_which_an_item_has_no_instances_is_none_of_all_input() -> None:
    found = read(input_of("1.2.1.1", ["9.1"]), input_of("1.2.1.2", []))
    assert (found.state, found.study_uid, found.named) == ("input_unlisted", "1.2.1", {"1.2.1.1": ("9.1",)})
    assert read(input_of("1.2.1.2", []), readiness="INCOMPLETE").state == "input_incomplete"


def test_input_of_classes_that_are_never_here_is_not_waited_for() -> None:
    found = read(
        input_of("1.2.1.1", ["9.1"]),
        input_of("1.2.1.2", ["9.8"], sop_class=PDF),
        input_of("", ["9.9"], study="", sop_class="1.2.40.0.13"),
    )
    assert (found.state, found.study_uid, found.named) == ("input_ready", "1.2.1", {"1.2.1.1": ("9.1",)})


def test_input_of_several_studies_or_of_none_says_nothing_of_any() -> None:
    prior = input_of("1.2.7.1", ["9.7"], study="1.2.7")
    assert read(input_of("1.2.1.1", ["9.1"]), prior).study_uid == ""
    assert read() == ReadNotice("ups", "input_ready", STEP, "", {})


def without(keyword: str) -> Dataset:
    step = pushed(input_of("1.2.1.1", ["9.1"]))
    del step[keyword]
    return step


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (without("ProcedureStepState"), MISSING_ATTRIBUTE),
        (without("InputReadinessState"), MISSING_ATTRIBUTE),
        (without("InputInformationSequence"), MISSING_ATTRIBUTE),
        (pushed(readiness="SOON"), INVALID_VALUE),
        (pushed(state="IN PROGRESS"), NOT_SCHEDULED),
        (pushed(state="COMPLETED"), NOT_SCHEDULED),
        (pushed(input_of("1.2.1.1", ["9.1"], study="")), INVALID_VALUE),
        (pushed(input_of("1.2.1.1", ["9.1"], study="../etc")), INVALID_VALUE),
        (pushed(input_of("", ["9.1"])), INVALID_VALUE),
        (pushed(input_of("1.2.1.1", ["x'"])), INVALID_VALUE),
        (pushed(*[input_of("1.2.1.1", ["9.1"])] * (STEPS_MAX + 1)), PROCESSING_FAILURE),
        (pushed(input_of("1.2.1.1", [f"9.{n}" for n in range(NAMED_MAX + 1)])), PROCESSING_FAILURE),
    ],
)
def test_step_that_cannot_be_kept_is_refused_with_its_reason(step: Dataset, status: int) -> None:
    found = read_unified_step(step, sop_uid=STEP)
    assert isinstance(found, Refusal)
    assert found.status == status
    assert "Doe" not in found.comment


def test_step_needs_a_uid() -> None:
    found = read_unified_step(pushed(), sop_uid="a/b")
    assert isinstance(found, Refusal)
    assert found.status == INVALID_VALUE


def test_record_of_a_step_has_no_patient_and_none_of_our_results() -> None:
    ours = own_uid(b"a result")
    step = read(input_of("1.2.1.1", ["9.1", ours]), input_of(own_uid(b"a series"), ["9.7"]))
    meta, payload = step.meta(SENDER, 10.0), step.payload()
    assert b"Doe" not in meta + payload
    found = received_notice(meta, payload, uid_root=None)
    assert (found.kind, found.state, found.sop_uid, found.study_uid) == ("ups", "input_ready", STEP, "1.2.1")
    assert (found.source_ae, found.named) == ("MANAGER", {"1.2.1.1": ("9.1",)})
    withdrawn = received_notice(canceled(STEP).meta(SENDER, 11.0), canceled(STEP).payload(), uid_root=None)
    assert (withdrawn.kind, withdrawn.state, withdrawn.sop_uid, withdrawn.named) == (
        *("ups", "canceled", STEP),
        {},
    )


def test_only_a_request_to_cancel_is_an_action() -> None:
    assert refused_step_action(2) is None
    for action, status in ((1, NO_SUCH_ACTION), (None, NO_SUCH_ACTION), (3, NO_EVENT_REPORTS)):
        refusal = refused_step_action(action)
        assert refusal is not None
        assert refusal.status == status


def tags(*keywords: str) -> list[int]:
    return [int(tag_for_keyword(keyword) or 0) for keyword in keywords]


def test_attributes_are_those_asked_for_of_those_that_are_kept() -> None:
    status, step = attributes_of(STEP, "input_ready", tags("ProcedureStepState", "InputReadinessState"))
    assert (status, [element.value for element in step]) == (0, ["READY", "SCHEDULED"])
    status, step = attributes_of(STEP, "input_unlisted", tags("ProcedureStepState", "PatientName"))
    assert (status, [element.value for element in step]) == (ATTRIBUTES_LEFT_OUT, ["SCHEDULED"])
    status, step = attributes_of(STEP, "canceled", [])
    assert (status, step.ProcedureStepState) == (ATTRIBUTES_LEFT_OUT, "CANCELED")
    assert (step.SOPClassUID, step.SOPInstanceUID) == (UPS_PUSH, STEP)
    assert "InputReadinessState" not in step
    assert ALREADY_CANCELED >> 12 == 0xB  # a warning, as the standard has it


# Whatever a peer makes up.

UIDS = st.sampled_from(["1.2.1", "1.2.2", "9.1", "9.2", "9.3", "", "x", "1" * 65, own_uid(b"one")])
ITEMS = st.lists(
    st.builds(
        input_of,
        series=UIDS,
        uids=st.lists(UIDS, max_size=3),
        study=UIDS,
        sop_class=st.sampled_from([MR, PDF, ""]),
    ),
    max_size=4,
)


def stated(items: Sequence[Dataset], *, study: str) -> Mapping[str, set[str]]:
    """Instances of classes taken here, by series, as the items have them."""
    found: dict[str, set[str]] = {}
    for item in items:
        for reference in item.ReferencedSOPSequence:
            if reference.ReferencedSOPClassUID == MR:
                assert item.StudyInstanceUID == study
                uid = str(reference.ReferencedSOPInstanceUID)
                found.setdefault(str(item.SeriesInstanceUID), set()).add(uid)
    return found


@given(
    ITEMS,
    st.sampled_from(["READY", "INCOMPLETE", "UNAVAILABLE", "", "X"]),
    st.sampled_from(["SCHEDULED", "IN PROGRESS", "CANCELED", ""]),
)
def test_a_step_is_refused_or_names_exactly_what_its_input_lists(
    items: list[Dataset], readiness: str, state: str
) -> None:
    found = read_unified_step(pushed(*items, readiness=readiness, state=state), sop_uid=STEP)
    if isinstance(found, Refusal):
        return
    assert state == "SCHEDULED"
    if found.study_uid:
        assert {series: set(uids) for series, uids in found.named.items()} == stated(
            items, study=found.study_uid
        )
    if found.state == "input_ready":
        assert readiness == "READY"
        assert all(item.ReferencedSOPSequence for item in items)
