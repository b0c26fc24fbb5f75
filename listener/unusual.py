"""Unusual proposals (role selection, user identity, notices, commitment) on a few threads of pynetdicom.

A socket comes here with its A-ASSOCIATE-RQ still unread, behind its TLS handshake where TLS is spoken; the
caller's admission is done. Instances take the same durable way as all others: they are submitted to the loop
and answered after its commit; notices of what was done, is available or is to be read (`listener.notices`,
`listener.unified_steps`) and requests for storage commitment (`listener.commitment`) take it, too. What was
found of such a request is reported on its association while that lives. What all of them hold in memory is
bounded, and who has all places but one does not get the last.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from uuid import uuid4

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt

from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from config.logs import logger
from db.records import NoticeState
from listener.admission import (
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    Refusal,
    remedy_of,
)
from listener.adopted import AdoptedAssociation, AskedHere, UnusualLimits
from listener.commitment import (
    REQUEST_BYTES_MAX,
    read_request,
    refused_action,
)
from listener.contexts import IMPLICIT_VR_LITTLE_ENDIAN, MPPS, UPS_PUSH
from listener.dataset_scan import DatasetScan
from listener.intake import Announced, Sender
from listener.loop import Loop
from listener.negotiate import refused_names, refused_words, separate_contexts, supported_contexts
from listener.notices import (
    NOTICE_BYTES_MAX,
    PROCESSING_FAILURE,
    ReadNotice,
    read_availability,
    read_mpps,
)
from listener.step_lookups import StepLookups
from listener.submissions import Submission, SubmittedInstance, SubmittedMessage
from listener.tls_socket import TlsSocket
from listener.unified_steps import (
    ALREADY_CANCELED,
    UNRECOGNIZED_OPERATION,
    attributes_of,
    canceled,
    read_unified_step,
    refused_step_action,
)

COMMIT_SECONDS_MAX = 60.0
ASKED_REFERENCES_MAX = 20_000  # of one association, kept until they are reported
RESOURCE_LIMITATION = 0x0213  # PS3.7 annex C: what A700 is to a C-STORE


class UnusualAssociations:
    """Adopts sockets and serves them on threads of pynetdicom."""

    def __init__(self, *, ae_title: str, limits: UnusualLimits) -> None:
        self._limits = limits
        self._ae = AE(ae_title=ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION
        self._ae.maximum_associations = 1 << 30  # counted here instead
        for context in (*supported_contexts(), *separate_contexts()):
            self._ae.add_supported_context(  # whatever roles a peer proposes for itself, here it is SCU
                str(context.abstract_syntax), context.transfer_syntax, scu_role=True, scp_role=False
            )
        self._ae.acse_timeout = limits.request_seconds
        self._ae.dimse_timeout = limits.stall_seconds
        self._ae.network_timeout = limits.idle_seconds
        self._lock = threading.Lock()
        self._live: list[AdoptedAssociation] = []
        self._loop: Loop | None = None
        self._tried_report: Callable[[str, bool], None] = lambda token, is_reported: None
        self._lookups: StepLookups | None = None

    def serve_with(
        self, loop: Loop, *, tried_report: Callable[[str, bool], None], lookups: StepLookups
    ) -> None:
        """Submit instances to this loop.

        Parameters
        ----------
        tried_report : told, from any thread, whether a peer took the report of a storage commitment
        """
        self._loop, self._tried_report, self._lookups = loop, tried_report, lookups

    def adopt(self, sock: socket.socket | TlsSocket, sender: Sender) -> bool:
        """Serve a socket whose request waits unread; False when all places are taken."""
        with self._lock:
            self._live = [association for association in self._live if association.is_alive()]
            of_address = [each for each in self._live if each.sender.address == sender.address]
            share = max(1, self._limits.associations_max - 1)
            if len(self._live) >= self._limits.associations_max or len(of_address) >= share:
                return False
            association = AdoptedAssociation(self._ae, sock, self._limits, sender, self._held_bytes)
            association.bind(evt.EVT_C_ECHO, self._echo, [association])
            association.bind(evt.EVT_C_STORE, self._store, [association])
            association.bind(evt.EVT_N_CREATE, self._created, [association])
            association.bind(evt.EVT_N_SET, self._set, [association])
            association.bind(evt.EVT_N_ACTION, self._acted, [association])
            association.bind(evt.EVT_N_GET, self._got, [association])
            association.bind(evt.EVT_C_FIND, self._queried, [association])
            association.bind(evt.EVT_ESTABLISHED, self._established, [association])
            self._live.append(association)
        association.start()
        return True

    def close(self, seconds: float) -> None:
        """Abort what is left; its threads end within `seconds` or with the process."""
        with self._lock:
            live, self._live = self._live, []
        for association in live:
            if association.is_established:
                association.abort()
            association.guarded.close()
        ends_at = time.monotonic() + seconds
        for association in live:
            association.join(max(0.0, ends_at - time.monotonic()))

    def report_judged(self, token: str, outcome: str) -> None:
        """Report on the association that asked, if it is still there; at once, whatever peers do."""
        with self._lock:
            asker = next((each for each in self._live if token in each.asked and each.is_established), None)
        if asker is None:
            self._tried_report(token, False)
            return
        asker.turns.soon(lambda: self._report(asker, token, outcome))

    def _report(self, association: AdoptedAssociation, token: str, outcome: str) -> None:
        asked = association.asked.pop(token, None)
        if asked is not None:
            association.report(asked, outcome, lambda is_taken: self._tried_report(token, is_taken))

    def _established(self, _: evt.Event, association: AdoptedAssociation) -> None:
        """Say what was refused, as the loop does of its associations."""
        proposed = [
            (int(each.context_id or 0), str(each.abstract_syntax), [str(ts) for ts in each.transfer_syntax])
            for each in association.requestor.requested_contexts
        ]
        taken = {
            int(each.context_id or 0): str(each.abstract_syntax) for each in association.accepted_contexts
        }
        names = refused_names(proposed, taken)
        if names and self._loop is not None:
            self._loop.tell(association.sender, *refused_words(names))

    def _held_bytes(self) -> int:
        return sum(each.guarded.message_bytes for each in tuple(self._live))

    def _echo(self, _: evt.Event, association: AdoptedAssociation) -> int:
        association.guarded.message_bytes = 0
        return SUCCESS

    def _store(self, event: evt.Event, association: AdoptedAssociation) -> Dataset:
        request: Any = event.request
        dataset: BytesIO = request.DataSet
        announced = Announced(
            sop_class=str(request.AffectedSOPClassUID).encode("ascii", "replace"),
            sop_instance=str(request.AffectedSOPInstanceUID).encode("ascii", "replace"),
            abstract_syntax=str(event.context.abstract_syntax),
            transfer_syntax=str(event.context.transfer_syntax),
        )
        submission = SubmittedInstance(association.sender, announced, dataset.getvalue())
        refusal = self._made_durable(submission)
        if refusal is not None and self._loop is not None:
            reason = f"instance refused with {refusal.status:04X}: {refusal.comment}"
            self._loop.tell(association.sender, reason, remedy_of(refusal))
        association.guarded.message_bytes = 0
        return _status(refusal)

    def _created(self, event: evt.Event, association: AdoptedAssociation) -> tuple[Dataset, Dataset | None]:
        """N-CREATE of a procedure step, an availability notice or a UPS."""
        request: Any = event.request
        given = request.AffectedSOPInstanceUID
        sop_uid = str(given or generate_uid(prefix=None))
        refusal = self._notified(event, association, request.AttributeList, sop_uid, is_new=True)
        answer = None
        if given is None and refusal is None:  # PS3.7 10.1.5.1.4: then we name it
            answer = Dataset()
            answer.AffectedSOPInstanceUID = sop_uid
        return _status(refusal), answer

    def _set(self, event: evt.Event, association: AdoptedAssociation) -> tuple[Dataset, None]:
        """N-SET of a procedure step; of one we never heard of, too: its N-CREATE may be older than we are."""
        request: Any = event.request
        if str(event.context.abstract_syntax) != MPPS:
            association.guarded.message_bytes = 0
            refusal = Refusal(UNRECOGNIZED_OPERATION, "it cannot be changed; create it again")
            return _status(self._tell(association, refusal, "notice", "Correct the sender.")), None
        sop_uid = str(request.RequestedSOPInstanceUID)
        return _status(
            self._notified(event, association, request.ModificationList, sop_uid, is_new=False)
        ), None

    def _acted(self, event: evt.Event, association: AdoptedAssociation) -> tuple[Dataset, None]:
        """N-ACTION: a request for storage commitment, or to cancel a UPS."""
        if str(event.context.abstract_syntax) == UPS_PUSH:
            return self._cancel_asked(event, association), None
        request: Any = event.request
        encoded: BytesIO | None = request.ActionInformation
        association.guarded.message_bytes = 0
        refusal = refused_action(request.ActionTypeID, str(request.RequestedSOPInstanceUID))
        if refusal is None:
            refusal = _unreadable(event, encoded, REQUEST_BYTES_MAX)
        if refusal is None:
            refusal = self._asked(event, association)
        refusal = self._tell(association, refusal, "storage commitment", "Correct the sender.")
        return _status(refusal), None

    def _cancel_asked(self, event: evt.Event, association: AdoptedAssociation) -> Dataset:
        request: Any = event.request
        sop_uid = str(request.RequestedSOPInstanceUID)
        association.guarded.message_bytes = 0
        refusal = refused_step_action(request.ActionTypeID)
        if refusal is None:
            known = self._looked_up(association, sop_uid)
            if known == "canceled":
                return _status(Refusal(ALREADY_CANCELED, "it was cancelled before"))
            refusal = known if isinstance(known, Refusal) else None
        if refusal is None:
            refusal = self._made_durable(SubmittedMessage(association.sender, canceled(sop_uid)))
        return _status(self._tell(association, refusal, "request", "Correct the sender."))

    def _got(self, event: evt.Event, association: AdoptedAssociation) -> tuple[Dataset, Dataset | None]:
        """N-GET: of a UPS alone."""
        request: Any = event.request
        association.guarded.message_bytes = 0
        refusal: Refusal | None = Refusal(UNRECOGNIZED_OPERATION, "only a UPS can be asked for")
        if str(event.context.abstract_syntax) == UPS_PUSH:
            sop_uid = str(request.RequestedSOPInstanceUID)
            known = self._looked_up(association, sop_uid)
            if not isinstance(known, Refusal):
                answer = Dataset()
                answer.Status, attributes = attributes_of(sop_uid, known, event.attribute_identifiers)
                return answer, attributes
            refusal = known
        return _status(self._tell(association, refusal, "request", "Correct the sender.")), None

    def _queried(self, _: evt.Event, association: AdoptedAssociation) -> Iterator[tuple[Dataset, None]]:
        """C-FIND, which no class that we accept has; pynetdicom would answer as if the UPS were completed."""
        association.guarded.message_bytes = 0
        refusal = Refusal(SOP_CLASS_NOT_SUPPORTED, "procedure steps cannot be searched here")
        yield _status(self._tell(association, refusal, "request", "Correct the sender.")), None

    def _looked_up(self, association: AdoptedAssociation, sop_uid: str) -> NoticeState | Refusal:
        if self._lookups is None:
            return Refusal(OUT_OF_RESOURCES, "the listener stops")
        return self._lookups.state_of(association.sender, sop_uid)

    def _asked(self, event: evt.Event, association: AdoptedAssociation) -> Refusal | None:
        context = event.context
        try:
            asked = read_request(event.action_information, token=uuid4().hex)
        except Exception as error:  # noqa: BLE001 pydicom fails in many ways; its words may quote a patient
            logger("listener").warning("a request for commitment cannot be read", kind=type(error).__name__)
            return Refusal(PROCESSING_FAILURE, "its dataset cannot be read")
        if isinstance(asked, Refusal):
            return asked
        # Before it is durable: the recorder may be faster than this thread. Too many are reported apart.
        kept = sum(len(each.request.references) for each in tuple(association.asked.values()))
        if kept + len(asked.references) <= ASKED_REFERENCES_MAX:
            context_id, syntax = int(context.context_id or 0), str(context.transfer_syntax)
            association.asked[asked.token] = AskedHere(asked, context_id, syntax)
        refusal = self._made_durable(SubmittedMessage(association.sender, asked))
        if refusal is not None:
            association.asked.pop(asked.token, None)
        return refusal

    def _notified(
        self,
        event: evt.Event,
        association: AdoptedAssociation,
        encoded: BytesIO | None,
        sop_uid: str,
        *,
        is_new: bool,
    ) -> Refusal | None:
        association.guarded.message_bytes = 0
        notice = _read_notice(event, encoded, sop_uid, is_new=is_new)
        refusal: Refusal | None
        if isinstance(notice, Refusal):
            refusal = notice
        else:
            refusal = self._made_durable(SubmittedMessage(association.sender, notice))
        return self._tell(
            association,
            refusal,
            "notice",
            "Correct the sender; studies close after their quiet period without its notice.",
        )

    def _tell(
        self, association: AdoptedAssociation, refusal: Refusal | None, what: str, remedy: str
    ) -> Refusal | None:
        """Make visible what was refused; the refusal with the status that an N-service has for it."""
        if refusal is None:
            return None
        if refusal.status == OUT_OF_RESOURCES:
            refusal = Refusal(RESOURCE_LIMITATION, refusal.comment)
        if self._loop is not None:
            reason = f"{what} refused with {refusal.status:04X}: {refusal.comment}"
            self._loop.tell(
                association.sender, reason, remedy_of(refusal) if refusal.status == NOT_AUTHORIZED else remedy
            )
        return refusal

    def _made_durable(self, submission: Submission) -> Refusal | None:
        """Why it was refused; None: it is durable."""
        if self._loop is not None and self._loop.submit(submission):
            return submission.wait(COMMIT_SECONDS_MAX)
        return Refusal(OUT_OF_RESOURCES, "too many instances wait for the disk")


def _read_notice(
    event: evt.Event, encoded: BytesIO | None, sop_uid: str, *, is_new: bool
) -> ReadNotice | Refusal:
    """What the message says; its dataset is walked like every other before anything decodes it."""
    refusal = _unreadable(event, encoded, NOTICE_BYTES_MAX)
    if refusal is not None:
        return refusal
    try:
        dataset = event.attribute_list if is_new else event.modification_list
        if str(event.context.abstract_syntax) == MPPS:
            return read_mpps(dataset, sop_uid=sop_uid, is_new=is_new)
        if str(event.context.abstract_syntax) == UPS_PUSH:
            return read_unified_step(dataset, sop_uid=sop_uid)
        return read_availability(dataset, sop_uid=sop_uid)
    except Exception as error:  # noqa: BLE001 pydicom fails in many ways; its words may quote a patient
        logger("listener").warning("a notice cannot be read", kind=type(error).__name__)
        return Refusal(PROCESSING_FAILURE, "its dataset cannot be read")


def _unreadable(event: evt.Event, encoded: BytesIO | None, bytes_max: int) -> Refusal | None:
    """Why a dataset is not decoded; None: its walk found nothing wrong."""
    content = encoded.getvalue() if encoded is not None else b""
    if len(content) > bytes_max:
        return Refusal(PROCESSING_FAILURE, f"longer than {bytes_max >> 20} MiB")
    scan = DatasetScan(explicit=str(event.context.transfer_syntax) != IMPLICIT_VR_LITTLE_ENDIAN, wanted={})
    scan.feed(content)
    fault = scan.finish()
    return None if fault is None else Refusal(PROCESSING_FAILURE, fault)


def _status(refusal: Refusal | None) -> Dataset:
    answer = Dataset()
    answer.Status = SUCCESS if refusal is None else refusal.status
    if refusal is not None:
        answer.ErrorComment = refusal.comment[:64]
    return answer
