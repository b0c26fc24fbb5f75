"""Every answer with which something is refused on its way in, what it means here and what a person can do.

docs/refusals.md is made from these tables; a test compares them with the code, so none is missing. The
sentence of each single case comes with it, as error comment and on the page Node.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from listener.admission import (
    CANNOT_UNDERSTAND,
    DATASET_MISMATCH,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    SOP_INSTANCE_INVALID,
    TRANSFER_SYNTAX_NOT_SUPPORTED,
    Refusal,
    remedy_of,
)
from listener.commitment import INVALID_ARGUMENT, NO_SUCH_ACTION, NO_SUCH_INSTANCE
from listener.notices import INVALID_VALUE, MISSING_ATTRIBUTE, PROCESSING_FAILURE
from listener.pdu import (
    ABORT_INVALID,
    ABORT_UNEXPECTED,
    ABORT_UNRECOGNISED,
    ABORT_UNSPECIFIED,
    REJECT_APPLICATION_CONTEXT,
    REJECT_CALLED_AE,
    REJECT_CALLING_AE,
    REJECT_LIMIT,
)
from listener.received_file import STUDY_MISMATCH
from listener.unified_steps import (
    ALREADY_CANCELED,
    ATTRIBUTES_LEFT_OUT,
    NO_EVENT_REPORTS,
    NO_SUCH_STEP,
    NOT_SCHEDULED,
    UNRECOGNIZED_OPERATION,
)
from listener.unusual import RESOURCE_LIMITATION

STORE, STOW, NOTICE, COMMIT = "C-STORE", "STOW-RS", "notice", "commitment"


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of refusal: in which services it is given, when, and the remedy."""

    services: tuple[str, ...]
    when: str
    remedy: str


def _of_instance(status: int, services: tuple[str, ...], when: str, *, also: str = "") -> Answer:
    """The remedy of an instance is the one that the page shows with it."""
    return Answer(services, when, " ".join(filter(None, (remedy_of(Refusal(status, "")), also))))


_CORRECT_NOTICE = "Correct the sender; studies close after their quiet period without its notice."
_CORRECT_REQUEST = "Correct the sender; nothing of the request was kept."

# Status of a DIMSE response, failure reason of STOW-RS.
STATUSES: Final[Mapping[int, Answer]] = {
    OUT_OF_RESOURCES: _of_instance(
        OUT_OF_RESOURCES,
        (STORE, STOW),
        "free disk is below listener.reserve_gib, the instance is larger than listener.instance_gib_max, too "
        "many wait for the disk, or the listener stops",
        also="The sender may try again by itself.",
    ),
    RESOURCE_LIMITATION: Answer(
        (NOTICE, COMMIT),
        "free disk is below listener.reserve_gib, too many wait for the disk, the listener stops, it needs a "
        "larger listener.segment_mib, or a UPS cannot be looked up because the database is away or behind",
        "Free disk space or lower retention.days; the sender may try again by itself.",
    ),
    NOT_AUTHORIZED: _of_instance(
        NOT_AUTHORIZED,
        (STORE, STOW, NOTICE, COMMIT),
        "may_send of the peer is false; for commitment, may_ask_commitment",
        also=remedy_of(Refusal(NOT_AUTHORIZED, "may_ask_commitment")),
    ),
    SOP_CLASS_NOT_SUPPORTED: _of_instance(
        SOP_CLASS_NOT_SUPPORTED,
        (STORE, STOW, NOTICE),
        "the request names another SOP class than its presentation context, such as a C-FIND of procedure "
        "steps; by STOW-RS, a class not taken",
    ),
    SOP_INSTANCE_INVALID: _of_instance(
        SOP_INSTANCE_INVALID, (STORE, STOW), "the SOP Instance UID of the request is not a UID"
    ),
    DATASET_MISMATCH: _of_instance(
        DATASET_MISMATCH,
        (STORE, STOW),
        "a UID of class, instance, study or series is missing, not a UID, or not that of the request",
    ),
    STUDY_MISMATCH: Answer(
        (STOW,),
        "the instance is of another study than the address names",
        "Let the sender post to /studies, or each study to its own address.",
    ),
    CANNOT_UNDERSTAND: _of_instance(
        CANNOT_UNDERSTAND,
        (STORE, STOW),
        "the dataset contradicts itself: lengths, nesting deeper than 32, or it ends early",
    ),
    TRANSFER_SYNTAX_NOT_SUPPORTED: Answer(
        (STOW,),
        "the transfer syntax is not taken: [conformance](conformance.md) lists those that are; Deflated is "
        "not one of them",
        "Send the object in another transfer syntax.",
    ),
    INVALID_VALUE: Answer((NOTICE,), "a value of the notice is none that is allowed", _CORRECT_NOTICE),
    MISSING_ATTRIBUTE: Answer((NOTICE,), "an attribute that a notice must have is missing", _CORRECT_NOTICE),
    PROCESSING_FAILURE: Answer(
        (NOTICE, COMMIT), "the dataset cannot be read, or is longer than what is taken", "Correct the sender."
    ),
    NO_SUCH_INSTANCE: Answer(
        (COMMIT,), "the request is not for the well-known instance of storage commitment", _CORRECT_REQUEST
    ),
    INVALID_ARGUMENT: Answer(
        (COMMIT,),
        "Transaction UID or a reference is missing or no UID, or there are no or too many references",
        f"{_CORRECT_REQUEST} Several requests may take the place of a large one.",
    ),
    NO_SUCH_ACTION: Answer(
        (NOTICE, COMMIT),
        "the action is not 1, request storage commitment; of a UPS, it is not 2, request to cancel",
        _CORRECT_REQUEST,
    ),
    ATTRIBUTES_LEFT_OUT: Answer(
        (NOTICE,),
        "a warning: of a UPS, attributes were asked for that are not kept; those that are were sent",
        "Nothing to do.",
    ),
    ALREADY_CANCELED: Answer((NOTICE,), "a warning: the UPS was cancelled before", "Nothing to do."),
    UNRECOGNIZED_OPERATION: Answer(
        (NOTICE,),
        "a UPS or an availability notice cannot be changed by N-SET; N-GET is for a UPS alone",
        "Let the sender create the UPS again with the same UID: it takes the place of what was said before.",
    ),
    NO_SUCH_STEP: Answer(
        (NOTICE,),
        "no UPS with this UID was created by this AE title, or retention dropped it with its study",
        "Nothing to do: nothing that it might have stated is waited for.",
    ),
    NOT_SCHEDULED: Answer(
        (NOTICE,), "a UPS is created in another Procedure Step State than SCHEDULED", _CORRECT_NOTICE
    ),
    NO_EVENT_REPORTS: Answer(
        (NOTICE,), "the action on a UPS is about a subscription", "Let the sender ask by N-GET."
    ),
}

# Failure Reason of an instance in the report of a storage commitment.
FAILURES: Final[Mapping[int, Answer]] = {
    0x0112: Answer(
        (COMMIT,),
        "no instance with this UID is held: never sent, refused, put aside as a conflict with other bytes of "
        "the same UID, or dropped by retention",
        "Send the instance (again), then ask again. Of a conflict see the page of its study.",
    ),
    0x0119: Answer(
        (COMMIT,),
        "the instance is held with another SOP class",
        "Correct the request, or the object at the sender.",
    ),
}

# Result, source and reason of A-ASSOCIATE-RJ.
REJECTIONS: Final[Mapping[tuple[int, int, int], Answer]] = {
    REJECT_CALLING_AE: Answer(
        (),
        "calling AE title not recognized: it is no peer's, not at this address, or bound to a certificate "
        "that the caller does not show",
        "Add the peer, the address to its addresses, or the certificate; the page Node writes which.",
    ),
    REJECT_CALLED_AE: Answer(
        (), "called AE title not recognized", "Let the peer call node.ae_title, or change it."
    ),
    REJECT_APPLICATION_CONTEXT: Answer(
        (), "application context name not supported: it is not DICOM's", "Correct the peer."
    ),
    REJECT_LIMIT: Answer(
        (),
        "local limit exceeded: all places of the address, of the AE title, for unusual associations, or in "
        "all are taken",
        "Wait, or raise the listener setting that the page Node names.",
    ),
}

# Reason of A-ABORT by the service provider, after the peer broke the protocol or a bound.
ABORTS: Final[Mapping[int, Answer]] = {
    ABORT_UNSPECIFIED: Answer(
        (),
        "not specified: a deadline ended, a bound was broken, the listener stops, or an error of this node",
        "See the log of the listener; raise listener.idle_seconds or listener.stall_seconds for slow peers.",
    ),
    ABORT_UNRECOGNISED: Answer((), "unrecognized PDU", "Correct the peer: this is not DICOM."),
    ABORT_UNEXPECTED: Answer(
        (), "unexpected PDU, or a message out of order or of a service not negotiated", "Correct the peer."
    ),
    ABORT_INVALID: Answer((), "invalid PDU parameter, or a command set that is none", "Correct the peer."),
}

# HTTP status of STOW-RS, when no instance was stored.
HTTP_STATUSES: Final[Mapping[int, Answer]] = {
    400: Answer((), "the request cannot be read: no body, no boundary, no instance", "Correct the sender."),
    401: Answer((), "no token, or one that no peer has", "Give the sender a token (preread config token)."),
    403: Answer(
        (), "may_send of the peer is false, or it calls from another address", "Correct the peer's settings."
    ),
    404: Answer((), "nothing is served at this address", "Let the sender post to /studies."),
    405: Answer((), "nothing but POST is served there", "Retrieve and search at the archive."),
    406: Answer((), "Accept names neither DICOM JSON nor DICOM XML", "Correct the sender."),
    408: Answer((), "the sender stopped inside the request, or is too slow", "Look at the network."),
    409: Answer(
        (), "no instance of the request was stored; each has its failure reason", "See the failure reason."
    ),
    413: Answer((), "larger than stow.request_gib_max, or too many instances", "Send less at once."),
    415: Answer((), "the body is compressed, or is not application/dicom in parts", "Correct the sender."),
    500: Answer((), "an error of this node", "See the log of the listener."),
    503: Answer(
        (),
        "too many requests at a time (stow.requests_max), or nothing could be stored for want of disk",
        "The sender may try again after Retry-After; free disk space.",
    ),
}
