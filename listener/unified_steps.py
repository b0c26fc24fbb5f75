"""PURE: what a peer says and asks of a Unified Procedure Step that it pushes to us (PS3.4 annex CC).

We perform no such step. Its Input Information Sequence is a statement of what exists, kept as a notice
(`listener.notices`): kind "ups", state by its Input Readiness State, or "canceled". So its Procedure Step
State is SCHEDULED until its creator has it cancelled, and never IN PROGRESS or COMPLETED.

A list is one of all input only when it is READY and each of its items has instances: "input_unlisted" is one
of which an item has none. Input of several studies says nothing of any.

Source: PS3.4 CC.2.2 (cancel), CC.2.5 (create), CC.2.7 (get), CC.3.1 (the Push SOP class) and table CC.2.5-3;
PS3.3 table 10-3b (referenced instances) and C.30.2 (readiness).
"""

from collections.abc import Collection, Mapping

from pydicom.dataset import Dataset

from db.records import NoticeState
from listener.admission import SUCCESS, Refusal, is_uid
from listener.commitment import NO_SUCH_ACTION
from listener.contexts import UPS_PUSH
from listener.notices import (
    INVALID_VALUE,
    MISSING_ATTRIBUTE,
    PROCESSING_FAILURE,
    STEPS_MAX,
    ReadNotice,
    items_of,
    read_notice,
    storable,
    text_of,
)

ACTION_CANCEL = 2
_SUBSCRIPTIONS = (3, 4, 5)  # subscribe, unsubscribe, suspend the global one

ATTRIBUTES_LEFT_OUT = 0x0001  # warning: requested optional attributes are not supported
ALREADY_CANCELED = 0xB304  # warning
UNRECOGNIZED_OPERATION = 0x0211
NO_SUCH_STEP = 0xC307
NOT_SCHEDULED = 0xC309
NO_EVENT_REPORTS = 0xC315

_READINESS: Mapping[str, NoticeState] = {
    "READY": "input_ready",
    "INCOMPLETE": "input_incomplete",
    "UNAVAILABLE": "input_unavailable",
}
_READINESS_OF: Mapping[NoticeState, str] = {
    **{state: word for word, state in _READINESS.items()},
    "input_unlisted": "READY",
}


def read_unified_step(dataset: Dataset, *, sop_uid: str) -> ReadNotice | Refusal:
    """The N-CREATE of a UPS; attributes that say nothing of its input are not looked at."""
    refusal = _refused_state(dataset, sop_uid)
    if refusal is not None:
        return refusal
    items = items_of(dataset, "InputInformationSequence")
    if len(items) > STEPS_MAX:
        return Refusal(PROCESSING_FAILURE, f"more than {STEPS_MAX} items of input")
    studies: set[str] = set()
    named: dict[str, list[str]] = {}
    is_listed = True
    for item in items:
        references = items_of(item, "ReferencedSOPSequence")
        is_listed &= bool(references)
        uids = storable(references)
        if references and not uids:  # nothing of it is ever here
            continue
        studies.add(text_of(item, "StudyInstanceUID"))
        named.setdefault(text_of(item, "SeriesInstanceUID"), []).extend(uids)
    if not all(is_uid(uid.encode("ascii", "replace")) for uid in studies):
        return Refusal(INVALID_VALUE, "a Study Instance UID of the input is missing or none")
    state = _READINESS[text_of(dataset, "InputReadinessState")]
    if state == "input_ready" and not is_listed:
        state = "input_unlisted"
    return read_notice("ups", state, sop_uid, studies.pop() if len(studies) == 1 else "", named)


def _refused_state(dataset: Dataset, sop_uid: str) -> Refusal | None:
    """Why no UPS in this state can be created."""
    if not is_uid(sop_uid.encode("ascii", "replace")):
        return Refusal(INVALID_VALUE, "the SOP Instance UID of the procedure step is none")
    state, readiness = text_of(dataset, "ProcedureStepState"), text_of(dataset, "InputReadinessState")
    if not state or not readiness or "InputInformationSequence" not in dataset:
        return Refusal(MISSING_ATTRIBUTE, "step state, input readiness and input are needed")
    if state != "SCHEDULED":
        return Refusal(NOT_SCHEDULED, "Procedure Step State is not SCHEDULED")
    if readiness not in _READINESS:
        return Refusal(INVALID_VALUE, "Input Readiness State is not one of its three values")
    return None


def canceled(sop_uid: str) -> ReadNotice:
    """That the creator of a UPS had it cancelled: its list is withdrawn."""
    return ReadNotice("ups", "canceled", sop_uid, "", {})


def refused_step_action(action: int | None) -> Refusal | None:
    """Why an N-ACTION is none of the Push SOP class; None: it requests to cancel."""
    if action in _SUBSCRIPTIONS:
        return Refusal(NO_EVENT_REPORTS, "nobody can subscribe to procedure steps here")
    if action != ACTION_CANCEL:
        return Refusal(NO_SUCH_ACTION, "the action type is not 2, request to cancel")
    return None


def attributes_of(sop_uid: str, state: NoticeState, asked: Collection[int]) -> tuple[int, Dataset]:
    """Status and attribute list of an N-GET.

    Parameters
    ----------
    asked : tags; none: all attributes
    """
    step = Dataset()
    step.SOPClassUID, step.SOPInstanceUID = UPS_PUSH, sop_uid
    step.ProcedureStepState = "CANCELED" if state == "canceled" else "SCHEDULED"
    if state in _READINESS_OF:
        step.InputReadinessState = _READINESS_OF[state]
    kept = {int(element.tag) for element in step}
    wanted = {int(tag) for tag in asked}
    for tag in kept - wanted if wanted else ():
        del step[tag]
    return (SUCCESS if wanted and wanted <= kept else ATTRIBUTES_LEFT_OUT), step
