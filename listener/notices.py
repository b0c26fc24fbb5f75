"""PURE: what an MPPS, availability notification or UPS says, as the listener logs it and rows keep it.

A notice goes through the spool's log like an instance, so it is durable before it is answered and stands in
one order with the images. Its record: meta as of an instance, with "notice" (its kind) and "state" instead of
a SOP class; as payload the JSON object {"study": UID or "", "series": {Series UID: [SOP Instance UID, ...]}}.

Kept are the UIDs of what is stated and nothing of the patient. Source: PS3.4 F.7.2 and table F.7.2-1 (MPPS),
R.3.2 and table R.3.2-1 (instance availability); PS3.7 annex C (status). `listener.unified_steps` reads a UPS.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from config.identity import is_own_uid
from db.records import NoticeKind, NoticeState, ReceivedNotice
from listener.admission import Refusal, is_uid
from listener.contexts import STORAGE_CLASSES
from listener.intake import Sender

NOTICE_BYTES_MAX = 8 << 20  # about 50,000 instances
NAMED_MAX = 20_000
STEPS_MAX = 1000  # of one notice: scheduled steps, performed series

PROCESSING_FAILURE = 0x0110
INVALID_VALUE = 0x0106
MISSING_ATTRIBUTE = 0x0120

_MPPS_STATES: Mapping[str, NoticeState] = {
    "IN PROGRESS": "in_progress",
    "COMPLETED": "completed",
    "DISCONTINUED": "discontinued",
}


@dataclass(frozen=True, slots=True)
class ReadNotice:
    """What one message says.

    `study_uid` is empty where it names none (every N-SET) or several: then it says nothing of any by itself.
    """

    kind: NoticeKind
    state: NoticeState
    sop_uid: str
    study_uid: str
    named: Mapping[str, tuple[str, ...]]

    def meta(self, sender: Sender, received_at: float) -> bytes:
        """The meta of its record in the spool."""
        members = {
            "calling": sender.calling_ae,
            "called": sender.called_ae,
            "address": sender.address,
            "notice": self.kind,
            "state": self.state,
            "sop_instance": self.sop_uid,
            "received_at": round(received_at, 3),
        }
        return json.dumps(members, separators=(",", ":")).encode()

    def payload(self) -> bytes:
        """The payload of its record."""
        return json.dumps({"study": self.study_uid, "series": self.named}, separators=(",", ":")).encode()


def read_mpps(dataset: Dataset, *, sop_uid: str, is_new: bool) -> ReadNotice | Refusal:
    """An MPPS N-CREATE (`is_new`) or N-SET.

    An N-SET may leave the status out (it only adds series): then the step is still in progress. An N-CREATE
    that is final already is taken, though the standard wants IN PROGRESS first: it says what it says.
    """
    status = text_of(dataset, "PerformedProcedureStepStatus") or ("" if is_new else "IN PROGRESS")
    state = _MPPS_STATES.get(status)
    if not is_uid(sop_uid.encode("ascii", "replace")):
        return Refusal(INVALID_VALUE, "the SOP Instance UID of the procedure step is none")
    if state is None:
        code = INVALID_VALUE if status else MISSING_ATTRIBUTE
        return Refusal(code, "Performed Procedure Step Status is not one of its three values")
    steps = items_of(dataset, "ScheduledStepAttributesSequence")
    studies = {uid for step in steps if (uid := text_of(step, "StudyInstanceUID"))}
    if not all(is_uid(uid.encode("ascii", "replace")) for uid in studies):
        return Refusal(INVALID_VALUE, "a Study Instance UID is none")
    named: dict[str, list[str]] = {}
    for series in items_of(dataset, "PerformedSeriesSequence"):
        uid = text_of(series, "SeriesInstanceUID")
        for sequence in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            named.setdefault(uid, []).extend(storable(items_of(series, sequence)))
    return read_notice("mpps", state, sop_uid, studies.pop() if len(studies) == 1 else "", named)


def read_availability(dataset: Dataset, *, sop_uid: str) -> ReadNotice | Refusal:
    """An Instance Availability Notification; instances that are UNAVAILABLE are not named."""
    study_uid = text_of(dataset, "StudyInstanceUID")
    if not study_uid or "ReferencedSeriesSequence" not in dataset:
        return Refusal(MISSING_ATTRIBUTE, "Study Instance UID and Referenced Series Sequence are needed")
    if not is_uid(study_uid.encode("ascii", "replace")) or not is_uid(sop_uid.encode("ascii", "replace")):
        return Refusal(INVALID_VALUE, "a UID is none")
    named: dict[str, list[str]] = {}
    for series in items_of(dataset, "ReferencedSeriesSequence"):
        available = [
            item
            for item in items_of(series, "ReferencedSOPSequence")
            if text_of(item, "InstanceAvailability") != "UNAVAILABLE"
        ]
        named.setdefault(text_of(series, "SeriesInstanceUID"), []).extend(storable(available))
    return read_notice("ian", "available", sop_uid, study_uid, named)


def is_notice(meta: bytes) -> bool:
    """Whether a record of the spool is a notice."""
    return b'"notice":' in meta and "notice" in json.loads(meta)


def received_notice(meta: bytes, payload: bytes, *, uid_root: str | None) -> ReceivedNotice:
    """The row's content from a spool record, without our own results: an archive names those, too."""
    known, said = json.loads(meta), json.loads(payload)
    named = {
        series: [uid for uid in uids if not is_own_uid(uid, root=uid_root)]
        for series, uids in said["series"].items()
        if not is_own_uid(series, root=uid_root)
    }
    return ReceivedNotice(
        kind=known["notice"],
        state=known["state"],
        sop_uid=known["sop_instance"],
        study_uid=said["study"],
        source_ae=known["calling"],
        address=known["address"],
        received_at=float(known["received_at"]),
        named={series: tuple(uids) for series, uids in named.items() if uids},
    )


def read_notice(
    kind: NoticeKind, state: NoticeState, sop_uid: str, study_uid: str, named: Mapping[str, list[str]]
) -> ReadNotice | Refusal:
    """A notice of what was named, if that is within bounds and its UIDs are UIDs."""
    if sum(map(len, named.values())) > NAMED_MAX or len(named) > STEPS_MAX:
        return Refusal(PROCESSING_FAILURE, f"more than {NAMED_MAX} instances or {STEPS_MAX} series")
    uids = (uid for series, members in named.items() if members for uid in (series, *members))
    if not all(is_uid(uid.encode("ascii", "replace")) for uid in uids):
        return Refusal(INVALID_VALUE, "a UID of what is stated is none")
    kept = {series: tuple(dict.fromkeys(members)) for series, members in named.items() if members}
    return ReadNotice(kind, state, sop_uid, study_uid, kept)


def storable(items: Iterable[Dataset]) -> list[str]:
    """UIDs of the instances of classes that we take: others will never be here."""
    return [
        text_of(item, "ReferencedSOPInstanceUID")
        for item in items
        if text_of(item, "ReferencedSOPClassUID") in STORAGE_CLASSES
    ]


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or empty."""
    value: Any = dataset.get(keyword)
    return list(value) if value else []


def text_of(dataset: Dataset, keyword: str) -> str:
    """A value as text, without padding; empty where it is absent."""
    return str(dataset.get(keyword) or "").strip(" \0")
