"""Unusual proposals (role selection, user identity, MPPS, availability) on a few threads of pynetdicom.

A socket comes here with its A-ASSOCIATE-RQ still unread, behind its TLS handshake where TLS is spoken; the
caller's admission is done. Instances take the same durable way as all others: they are submitted to the loop
and answered after its commit; notices of what was done or is available (`listener.notices`) take it, too.
What all of them together hold in memory is bounded, and who has all places but one does not get the last. The
guard below is the one seam over pynetdicom's private parts; tests/contract holds pynetdicom to what it relies
on.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from config import guards_off
from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from config.logs import logger
from listener.admission import NOT_AUTHORIZED, OUT_OF_RESOURCES, SUCCESS, Refusal, remedy_of
from listener.contexts import IMPLICIT_VR_LITTLE_ENDIAN, MPPS
from listener.dataset_scan import DatasetScan
from listener.intake import Announced, Sender
from listener.loop import Loop
from listener.negotiate import notice_contexts, supported_contexts
from listener.notices import (
    NOTICE_BYTES_MAX,
    PROCESSING_FAILURE,
    ReadNotice,
    read_availability,
    read_mpps,
)
from listener.submissions import Submission, SubmittedInstance, SubmittedNotice
from listener.tls_socket import TlsSocket

# pynetdicom keeps a message in memory: larger instances need a plain association, which streams. The bound is
# for all unusual associations together.
HELD_BYTES_MAX = 256 << 20
RECEIVE_BYTES = 64 << 10
COMMIT_SECONDS_MAX = 60.0
RESOURCE_LIMITATION = 0x0213  # PS3.7 annex C: what A700 is to a C-STORE


@dataclass(frozen=True, slots=True)
class UnusualLimits:
    """Bounds of these associations."""

    associations_max: int
    pdu_bytes_max: int
    request_seconds: float
    idle_seconds: float
    stall_seconds: float


class _GuardedSocket(AssociationSocket):
    """pynetdicom's socket with a bound on each PDU, on what is held in memory, and on the time of each PDU.

    Parameters
    ----------
    held_bytes : what all unusual associations hold in memory now
    """

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket | TlsSocket,
        limits: UnusualLimits,
        held_bytes: Callable[[], int],
    ) -> None:
        # pynetdicom asks nothing of it that a TlsSocket has not.
        super().__init__(assoc, client_socket=cast(socket.socket, client_socket))
        self._limits, self._client, self._held_bytes = limits, client_socket, held_bytes
        self._messages = assoc.dimse.msg_queue
        self.message_bytes = 0  # read since a message was served

    @property
    def ready(self) -> bool:
        """Whether something can be read; by poll, since select ends at descriptor 1024.

        While a whole message waits to be served nothing more is read, or a peer that sends on without
        waiting for our answers would fill the memory.
        """
        if self.socket is None or not self._is_connected or not self._messages.empty():
            return False
        if isinstance(self._client, TlsSocket) and self._client.has_unread:
            return True
        poll = select.poll()
        try:
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` or fewer at the end; OSError when a bound is broken, which ends the association."""
        self.message_bytes += nr_bytes
        full = self._held_bytes() > HELD_BYTES_MAX and guards_off.is_on("unusual-bytes")
        if nr_bytes > self._limits.pdu_bytes_max or full:
            raise ConnectionAbortedError("the peer exceeds a bound of this node")
        ends_at = time.monotonic() + self._limits.stall_seconds
        received = bytearray()
        while len(received) < nr_bytes:
            left = ends_at - time.monotonic()
            if left <= 0:
                raise TimeoutError("the peer stopped inside a PDU")
            self._client.settimeout(left)
            part = self._client.recv(min(nr_bytes - len(received), RECEIVE_BYTES))
            if not part:
                break
            received += part
        return received


class _AdoptedAssociation(Association):
    """An acceptor on a socket that somebody else accepted."""

    def __init__(
        self,
        ae: AE,
        sock: socket.socket | TlsSocket,
        limits: UnusualLimits,
        sender: Sender,
        held_bytes: Callable[[], int],
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.guarded = _GuardedSocket(self, sock, limits, held_bytes)
        self.sender = sender
        self.set_socket(self.guarded)
        self.dul.daemon = True  # a thread of a peer must not keep the process alive
        self.acceptor.maximum_length = limits.pdu_bytes_max
        self.acceptor.ae_title = ae.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(sock.getsockname())
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.acceptor.supported_contexts = deepcopy(ae.supported_contexts)
        self.requestor.address_info = AddressInformation.from_tuple(sock.getpeername())

    def run_reactor(self) -> None:
        """Serve until the association ends, then close its socket."""
        try:
            super().run_reactor()
        finally:
            self.guarded.close()
            self.guarded.message_bytes = 0


class UnusualAssociations:
    """Adopts sockets and serves them on threads of pynetdicom."""

    def __init__(self, *, ae_title: str, limits: UnusualLimits) -> None:
        self._limits = limits
        self._ae = AE(ae_title=ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION
        self._ae.maximum_associations = 1 << 30  # counted here instead
        self._ae.supported_contexts = [*supported_contexts(), *notice_contexts()]
        self._ae.acse_timeout = limits.request_seconds
        self._ae.dimse_timeout = limits.stall_seconds
        self._ae.network_timeout = limits.idle_seconds
        self._lock = threading.Lock()
        self._live: list[_AdoptedAssociation] = []
        self._loop: Loop | None = None

    def serve_with(self, loop: Loop) -> None:
        """Submit instances to this loop."""
        self._loop = loop

    def adopt(self, sock: socket.socket | TlsSocket, sender: Sender) -> bool:
        """Serve a socket whose request waits unread; False when all places are taken."""
        with self._lock:
            self._live = [association for association in self._live if association.is_alive()]
            of_address = [each for each in self._live if each.sender.address == sender.address]
            share = max(1, self._limits.associations_max - 1)
            if len(self._live) >= self._limits.associations_max or len(of_address) >= share:
                return False
            association = _AdoptedAssociation(self._ae, sock, self._limits, sender, self._held_bytes)
            association.bind(evt.EVT_C_ECHO, self._echo, [association])
            association.bind(evt.EVT_C_STORE, self._store, [association])
            association.bind(evt.EVT_N_CREATE, self._created, [association])
            association.bind(evt.EVT_N_SET, self._set, [association])
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

    def _held_bytes(self) -> int:
        return sum(each.guarded.message_bytes for each in tuple(self._live))

    def _echo(self, _: evt.Event, association: _AdoptedAssociation) -> int:
        association.guarded.message_bytes = 0
        return SUCCESS

    def _store(self, event: evt.Event, association: _AdoptedAssociation) -> Dataset:
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

    def _created(self, event: evt.Event, association: _AdoptedAssociation) -> tuple[Dataset, Dataset | None]:
        """N-CREATE of a procedure step or an availability notice."""
        request: Any = event.request
        given = request.AffectedSOPInstanceUID
        sop_uid = str(given or generate_uid(prefix=None))
        refusal = self._notified(event, association, request.AttributeList, sop_uid, is_new=True)
        answer = None
        if given is None and refusal is None:  # PS3.7 10.1.5.1.4: then we name it
            answer = Dataset()
            answer.AffectedSOPInstanceUID = sop_uid
        return _status(refusal), answer

    def _set(self, event: evt.Event, association: _AdoptedAssociation) -> tuple[Dataset, None]:
        """N-SET of a procedure step; of one we never heard of, too: its N-CREATE may be older than we are."""
        request: Any = event.request
        sop_uid = str(request.RequestedSOPInstanceUID)
        return _status(
            self._notified(event, association, request.ModificationList, sop_uid, is_new=False)
        ), None

    def _notified(
        self,
        event: evt.Event,
        association: _AdoptedAssociation,
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
            refusal = self._made_durable(SubmittedNotice(association.sender, notice))
        if refusal is None:
            return None
        if refusal.status == OUT_OF_RESOURCES:
            refusal = Refusal(RESOURCE_LIMITATION, refusal.comment)
        if self._loop is not None:
            reason = f"notice refused with {refusal.status:04X}: {refusal.comment}"
            without = "Correct the sender; studies close after their quiet period without its notice."
            remedy = remedy_of(refusal) if refusal.status == NOT_AUTHORIZED else without
            self._loop.tell(association.sender, reason, remedy)
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
    content = encoded.getvalue() if encoded is not None else b""
    if len(content) > NOTICE_BYTES_MAX:
        return Refusal(PROCESSING_FAILURE, f"longer than {NOTICE_BYTES_MAX >> 20} MiB")
    scan = DatasetScan(explicit=str(event.context.transfer_syntax) != IMPLICIT_VR_LITTLE_ENDIAN, wanted={})
    scan.feed(content)
    fault = scan.finish()
    if fault is not None:
        return Refusal(PROCESSING_FAILURE, fault)
    try:
        dataset = event.attribute_list if is_new else event.modification_list
        if str(event.context.abstract_syntax) == MPPS:
            return read_mpps(dataset, sop_uid=sop_uid, is_new=is_new)
        return read_availability(dataset, sop_uid=sop_uid)
    except Exception as error:  # noqa: BLE001 pydicom fails in many ways; its words may quote a patient
        logger("listener").warning("a notice cannot be read", kind=type(error).__name__)
        return Refusal(PROCESSING_FAILURE, "its dataset cannot be read")


def _status(refusal: Refusal | None) -> Dataset:
    answer = Dataset()
    answer.Status = SUCCESS if refusal is None else refusal.status
    if refusal is not None:
        answer.ErrorComment = refusal.comment[:64]
    return answer
