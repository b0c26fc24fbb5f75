"""One connection as the loop sees it: bytes in, replies out, instances into the intake. No polling here.

Replies to stores wait for the spool's commit; so that order is kept, everything behind them waits, too.
"""

import errno
import socket
from collections.abc import Mapping
from enum import Enum, auto

from config import guards_off, kill_points
from config.certificates import Certificate
from db.spool import SpoolFailed
from listener.admission import OUT_OF_RESOURCES, Refusal
from listener.dimse import DimseReader, EchoRequest, Fragment, StoreRequest, echo_response, store_response
from listener.guard import Pace
from listener.intake import Announced, Incoming, Intake, Sender
from listener.negotiate import AcceptedContext
from listener.pdu import (
    RELEASE_RP_PDU,
    Aborted,
    PduReader,
    PeerError,
    Release,
    abort_pdu,
)
from listener.tls_socket import TlsSocket

OUTPUT_BYTES_MAX = 8 << 10  # of replies per turn; a peer that does not read them is not read either
DISCARDED_BYTES_MAX = 256 << 10  # of what a peer still sends after our last word
STALL_SECONDS = 0.020  # a pause inside a message that smells of Nagle waiting for our delayed acknowledgement


class Stage(Enum):
    """Where a connection is in its life."""

    REQUESTING = auto()
    SERVING = auto()
    CLOSING = auto()


class Connection:
    """One peer. `stage`, `pace` and what is buffered belong to the loop, the rest to this class."""

    def __init__(self, sock: socket.socket | TlsSocket, address: str, accepted_at: float) -> None:
        self.sock, self.address = sock, address
        self.tls = sock if isinstance(sock, TlsSocket) else None
        self.certificate: Certificate | None = None  # that the peer showed
        self.stage = Stage.REQUESTING
        self.pace = Pace(accepted_at)
        self.sender = Sender("", "", address)
        self.acknowledges_at_once = False  # TCP_QUICKACK while a message is incomplete
        self.discarded_bytes = 0
        self.is_paused = False  # more of what was read waits until replies are out
        self.refused: list[Refusal] = []  # instances, since the loop looked
        self._contexts: Mapping[int, AcceptedContext] = {}
        self._reader: PduReader | None = None
        self._dimse = DimseReader()
        self._incoming: Incoming | None = None
        self._request: StoreRequest | None = None
        self._replies: list[bytes] = []
        self._unacknowledged: list[tuple[int, StoreRequest]] = []  # indexes into `_replies`
        self._output = b""
        self._read_at = 0.0

    def serve(
        self,
        sender: Sender,
        contexts: Mapping[int, AcceptedContext],
        answer: bytes,
        *,
        pdu_bytes_max: int,
        now: float,
    ) -> None:
        """The association is accepted: answer, then read messages."""
        self.stage, self.sender, self._contexts = Stage.SERVING, sender, contexts
        self._reader = PduReader(pdu_bytes_max)
        self.pace.is_established, self.pace.progressed_at = True, now
        self._replies.append(answer)

    def close_with(self, last_word: bytes, now: float) -> None:
        """Say `last_word` behind what is to be said, then wait shortly for the peer to close."""
        self.stage, self.pace.closing_at = Stage.CLOSING, now
        if last_word:
            self._replies.append(last_word)
        self.abandon()

    @property
    def is_private(self) -> bool:
        """Whether the association request may come: at once, or behind the handshake where TLS is spoken."""
        return self.tls is None or self.tls.is_established

    @property
    def has_unread(self) -> bool:
        """Whether something can be read of which no poll tells."""
        return self.tls is not None and self.tls.has_unread

    @property
    def has_output(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._output or self._replies)

    @property
    def is_inside_message(self) -> bool:
        """Whether the peer is in the middle of a message."""
        return self._dimse.is_inside_message or (self._reader is not None and self._reader.is_inside_pdu)

    @property
    def awaits_commit(self) -> bool:
        """Whether a reply waits for the spool's commit."""
        return bool(self._unacknowledged)

    def receive(self, intake: Intake, now: float) -> bool:
        """Read what is there, once, and act on it; False: the peer closed.

        Raises
        ------
        PeerError : abort the association
        OSError : the connection broke
        SpoolFailed : the disk failed
        """
        assert self._reader is not None
        count = self.sock.recv_into(self._reader.room())
        if count == 0:
            return False
        self._reader.filled(count)
        if self.pace.message_at is not None:
            self.pace.message_bytes += count
            if not self.acknowledges_at_once and now - self._read_at > STALL_SECONDS:
                self.acknowledges_at_once = True
        self._read_at = now
        self.process(intake, now)
        return True

    def process(self, intake: Intake, now: float) -> None:
        """Act on what was read, as far as there is room for replies. Raises as `receive` does."""
        reader = self._reader
        assert reader is not None
        progressed = self.is_paused = False
        replies = 0
        while self.stage is Stage.SERVING:
            if replies >= OUTPUT_BYTES_MAX and guards_off.is_on("back-pressure"):
                self.is_paused = True
                break
            event = reader.next_event()
            if event is None:
                break
            progressed = True
            if isinstance(event, Release):
                self.close_with(RELEASE_RP_PDU, now)
            elif isinstance(event, Aborted):
                self.close_with(b"", now)
            else:
                message = self._dimse.take(event)
                if message is not None:
                    replies += self._act(message, intake)
        if self._incoming is None or self._incoming.spill():
            reader.release()
        if progressed:
            self.pace.progressed_at = now
        if not self.is_inside_message:
            self.pace.message_at, self.pace.message_bytes = None, 0
        else:
            if self.pace.message_at is None:
                self.pace.message_at = self.pace.progressed_at = now
            if self.acknowledges_at_once:
                # Or a sender that leaves Nagle on (DCMTK) waits 40 ms for our delayed acknowledgement.
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _act(self, message: EchoRequest | StoreRequest | Fragment, intake: Intake) -> int:
        """Do what a message asks; the bytes of its reply."""
        if isinstance(message, Fragment):
            assert self._incoming is not None
            self._incoming.add(message.data)
            return self._finish() if message.is_last else 0
        context = self._contexts.get(message.context_id)
        if context is None:
            raise PeerError("a message on a presentation context that was not accepted")
        if isinstance(message, EchoRequest):
            return self._reply(echo_response(message))
        self._request = message
        announced = Announced(
            message.sop_class, message.sop_instance, context.abstract_syntax, context.transfer_syntax
        )
        self._incoming = intake.begin(self.sender, announced)
        return 0

    def _finish(self) -> int:
        assert self._incoming is not None
        assert self._request is not None
        request, self._request = self._request, None
        try:
            refusal = self._incoming.finish()
        except SpoolFailed:
            self._reply(store_response(request, OUT_OF_RESOURCES, "the disk failed"))
            raise
        self._incoming = None
        if refusal is not None:
            self.refused.append(refusal)
            return self._reply(store_response(request, refusal.status, refusal.comment))
        self._unacknowledged.append((len(self._replies), request))
        return self._reply(store_response(request, 0))

    def _reply(self, reply: bytes) -> int:
        self._replies.append(reply)
        return len(reply)

    def deny(self) -> None:
        """The commit failed: what waits for it must not be acknowledged."""
        for index, request in self._unacknowledged:
            self._replies[index] = store_response(request, OUT_OF_RESOURCES, "the disk failed")
        self._unacknowledged = []

    def flush(self, now: float) -> bool:
        """Send replies, after the commit they waited for; True when all are out. Raises OSError."""
        committed = bool(self._unacknowledged)
        self._unacknowledged = []
        if self._replies:
            self._output += b"".join(self._replies)
            self._replies = []
        while self._output:
            try:
                sent = self.sock.send(self._output)
            except BlockingIOError:
                break
            self._output = self._output[sent:]
        if committed:
            kill_points.reached("K5")
        if self._output:
            if self.pace.unsent_at is None:
                self.pace.unsent_at = now
            return False
        self.pace.unsent_at = None
        return True

    def finish_output(self) -> None:
        """Everything is said: let the peer see the end, whatever it still sends."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def discard(self) -> bool:
        """Throw away what still comes behind our last word; False when it is time to cut."""
        count = len(self.sock.recv(1 << 16))
        self.discarded_bytes += count
        return count > 0 and self.discarded_bytes < DISCARDED_BYTES_MAX

    def abort(self, error: PeerError, now: float) -> None:
        """The peer broke the protocol: say so and close."""
        self.close_with(abort_pdu(error.abort_reason), now)

    def abandon(self) -> None:
        """Leave nothing of an instance that will not be finished."""
        if self._incoming is not None:
            self._incoming.abandon()
            self._incoming = None
        if self._reader is not None:
            self._reader.release()

    def rest(self) -> None:
        """Nothing is under way: give the buffer back."""
        if self._reader is not None and not self.is_inside_message:
            self._reader.shrink()
