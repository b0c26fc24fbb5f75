"""PURE: what a request for storage commitment asks, how the log keeps it, and what its report says.

A request goes through the spool's log like a notice (`listener.notices`), so it is durable before its
N-ACTION is answered. Its record: meta with "commitment" (our token) and "transaction"; as payload the object
{"asked": [[SOP Class UID, SOP Instance UID], ...]}. It is judged by rows, in `db.commitments`.

Source: PS3.4 annex J (tables J.3-1 and J.3-2), PS3.3 C.14.1.1 (failure reason), PS3.7 annex C (status).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from db.records import AskedCommitment, Finding
from listener.admission import Refusal, is_uid
from listener.contexts import COMMITMENT_INSTANCE
from listener.intake import Sender

REFERENCES_MAX = 10_000  # of one request; what is more belongs into several
REQUEST_BYTES_MAX = 4 << 20

ACTION_REQUEST = 1
EVENT_ALL_HELD, EVENT_FAILURES = 1, 2

NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
NO_SUCH_ACTION = 0x0123

FAILURE_REASONS: Mapping[Finding, int] = {
    Finding.MISSING: 0x0112,  # no such object instance
    Finding.OTHER_CLASS: 0x0119,  # class/instance conflict
}


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One request; `references` are (SOP Class UID, SOP Instance UID), `token` is our name of it."""

    token: str
    transaction_uid: str
    references: tuple[tuple[str, str], ...]

    def meta(self, sender: Sender, received_at: float) -> bytes:
        """The meta of its record in the spool."""
        members = {
            "calling": sender.calling_ae,
            "called": sender.called_ae,
            "address": sender.address,
            "commitment": self.token,
            "transaction": self.transaction_uid,
            "received_at": round(received_at, 3),
        }
        return json.dumps(members, separators=(",", ":")).encode()

    def payload(self) -> bytes:
        """The payload of its record."""
        return json.dumps({"asked": self.references}, separators=(",", ":")).encode()


def refused_action(action: int | None, instance: str) -> Refusal | None:
    """Why an N-ACTION is none that we know, before its dataset is read."""
    if instance != COMMITMENT_INSTANCE:
        return Refusal(NO_SUCH_INSTANCE, "not the well-known instance of storage commitment")
    if action != ACTION_REQUEST:
        return Refusal(NO_SUCH_ACTION, "the action type is not 1, request storage commitment")
    return None


def read_request(dataset: Dataset, *, token: str) -> CommitmentRequest | Refusal:
    """What the action information asks."""
    transaction = _text(dataset, "TransactionUID")
    if not is_uid(transaction.encode("ascii", "replace")):
        return Refusal(INVALID_ARGUMENT, "Transaction UID is missing or none")
    sequence: Any = dataset.get("ReferencedSOPSequence")
    items = list(sequence) if sequence else []
    if not 0 < len(items) <= REFERENCES_MAX:
        return Refusal(INVALID_ARGUMENT, f"not 1 to {REFERENCES_MAX} items in Referenced SOP Sequence")
    references = tuple(
        (_text(item, "ReferencedSOPClassUID"), _text(item, "ReferencedSOPInstanceUID")) for item in items
    )
    if not all(is_uid(uid.encode("ascii", "replace")) for pair in references for uid in pair):
        return Refusal(INVALID_ARGUMENT, "a UID in Referenced SOP Sequence is missing or none")
    return CommitmentRequest(token, transaction, references)


def is_commitment(meta: bytes) -> bool:
    """Whether a record of the spool is a request for storage commitment."""
    return b'"commitment":' in meta and "commitment" in json.loads(meta)


def asked_commitment(meta: bytes, payload: bytes) -> AskedCommitment:
    """The row's content from a spool record."""
    known, said = json.loads(meta), json.loads(payload)
    return AskedCommitment(
        token=known["commitment"],
        source_ae=known["calling"],
        address=known["address"],
        transaction_uid=known["transaction"],
        references=tuple((sop_class, uid) for sop_class, uid in said["asked"]),
        received_at=float(known["received_at"]),
    )


def report_of(
    transaction_uid: str, references: tuple[tuple[str, str], ...], outcome: str
) -> tuple[int, Dataset]:
    """Event type and event information of the N-EVENT-REPORT.

    Parameters
    ----------
    outcome : a `Finding` per reference
    """
    report = Dataset()
    report.TransactionUID = transaction_uid
    held, failed = [], []
    for (sop_class, uid), found in zip(references, outcome, strict=True):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        if found == Finding.HELD:
            held.append(item)
        else:
            item.FailureReason = FAILURE_REASONS[Finding(found)]
            failed.append(item)
    if held:
        report.ReferencedSOPSequence = held
    if failed:
        report.FailedSOPSequence = failed
    return (EVENT_FAILURES if failed else EVENT_ALL_HELD), report


def failure_of(status: int) -> str | None:
    """PURE. What an answer to a report says when it is no success or warning (PS3.7 annex C)."""
    is_taken = status == 0x0000 or status in (0x0001, 0x0107, 0x0116) or status >> 12 == 0xB
    return None if is_taken else f"answered 0x{status:04X}"


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip(" \0")
