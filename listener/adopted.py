"""An association of pynetdicom on a socket that somebody else accepted, within our bounds.

The one seam over pynetdicom's private parts on the side that accepts; tests/contract holds it to them. What
it serves is decided in `listener.unusual`.
"""

import select
import socket
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.transport import AddressInformation, AssociationSocket

from config import guards_off
from listener.commitment import CommitmentRequest, failure_of, report_of
from listener.contexts import COMMITMENT, COMMITMENT_INSTANCE, IMPLICIT_VR_LITTLE_ENDIAN
from listener.intake import Sender
from listener.reactor_turns import ReactorTurns
from listener.tls_socket import TlsSocket

# pynetdicom keeps a message in memory: larger instances need a plain association, which streams. The bound is
# for all unusual associations together.
HELD_BYTES_MAX = 256 << 20
RECEIVE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class UnusualLimits:
    """Bounds of these associations."""

    associations_max: int
    pdu_bytes_max: int
    request_seconds: float
    idle_seconds: float
    stall_seconds: float


class GuardedSocket(AssociationSocket):
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


@dataclass(frozen=True, slots=True)
class AskedHere:
    """A request for storage commitment and the presentation context it came on."""

    request: CommitmentRequest
    context_id: int
    transfer_syntax: str


class AdoptedAssociation(Association):
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
        self.guarded = GuardedSocket(self, sock, limits, held_bytes)
        self.sender = sender
        self.turns = ReactorTurns()
        self._reactor_checkpoint = self.turns
        self.asked: dict[str, AskedHere] = {}  # what is to be reported here, by token
        self._awaited: dict[int, Callable[[bool], None]] = {}  # answers to our reports, by message
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
            for answered in self._awaited.values():
                answered(False)

    def report(self, asked: AskedHere, outcome: str, answered: Callable[[bool], None]) -> None:
        """Send the report of a request and go on; for the reactor's thread."""
        event_type, content = report_of(asked.request.transaction_uid, asked.request.references, outcome)
        implicit = asked.transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
        message = N_EVENT_REPORT()
        message.MessageID = next(message_id for message_id in count(1) if message_id not in self._awaited)
        message.AffectedSOPClassUID = UID(COMMITMENT)
        message.AffectedSOPInstanceUID = UID(COMMITMENT_INSTANCE)
        message.EventTypeID = event_type
        message.EventInformation = BytesIO(encode(content, implicit, True) or b"")
        self._awaited[message.MessageID] = answered
        self.dimse.send_msg(message, asked.context_id)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """Take the answer to a report; everything else is a request."""
        if not isinstance(msg, N_EVENT_REPORT) or msg.MessageIDBeingRespondedTo is None:
            super()._serve_request(msg, context_id)
            return
        self.guarded.message_bytes = 0
        answered = self._awaited.pop(msg.MessageIDBeingRespondedTo, None)
        if answered is not None:
            answered(msg.Status is not None and failure_of(int(msg.Status)) is None)
