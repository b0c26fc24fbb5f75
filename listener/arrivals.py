"""From a connection to an association: caps and pace, the TLS handshake, the request and our answer to it.

A part of the loop (`listener.loop`), in its thread. Until its association is accepted a connection is
half-made and only peeked at, so that an unusual proposal can be handed over untouched.
"""

import errno
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from config import guards_off
from listener.admission import plain_address
from listener.connection import Connection
from listener.guard import Census, Limits, Shortage
from listener.half_made import HalfMade
from listener.handshake_words import in_words
from listener.intake import Intake, Sender
from listener.negotiate import Accepted, Negotiator, Rejected, refused_words
from listener.pdu import REJECT_LIMIT, ae_titles, reject_pdu, request_size
from listener.served_certificate import ServedCertificate
from listener.tls_socket import TlsSocket

ACCEPTED_PER_TURN = 64
SEND_BUFFER_BYTES = 64 << 10  # our answers are short; a peer that reads none may not make us keep many
STALLING_MAX = 1024  # addresses remembered

READ = select.EPOLLIN | select.EPOLLRDHUP
# Edge-triggered: each new part of a request wakes us once; it is only peeked at.
_REQUEST = READ | select.EPOLLET
_HELD = select.EPOLLRDHUP | select.EPOLLET
LEFT = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP

_REMEDIES: dict[Shortage, str] = {
    "of the address": "Raise listener.connections_per_address_max if so many associations are wanted.",
    "of the AE title": "Raise listener.associations_per_ae_max if so many associations are wanted.",
    "in all": "Raise listener.connections_max if so many associations are wanted.",
}

Adopt = Callable[[socket.socket | TlsSocket, Sender], bool]


Tell = Callable[[Sender, str, str], None]


@dataclass(frozen=True, slots=True)
class SecurePort:
    """A listening socket whose connections begin with a TLS handshake."""

    listening: socket.socket
    served: ServedCertificate


class Arrivals:
    """The half-made connections of one loop, and how many there may be.

    Parameters
    ----------
    poll, connections : the loop's; `connections` by descriptor
    adopt : takes a socket whose proposal is unusual, untouched; False when it has no place for it
    tell : told of what was refused: who, why, and the remedy
    close : ends a connection
    read_again : has a connection read in the next turn, of whose bytes no poll tells
    """

    def __init__(
        self,
        poll: select.epoll,
        connections: dict[int, Connection],
        *,
        intake: Intake,
        negotiator: Negotiator,
        limits: Limits,
        pdu_bytes_max: int,
        adopt: Adopt,
        tell: Tell,
        close: Callable[[Connection], None],
        read_again: Callable[[Connection], None],
    ) -> None:
        self._poll, self._connections = poll, connections
        self._intake, self._negotiator = intake, negotiator
        self._limits, self._pdu_bytes_max = limits, pdu_bytes_max
        self._adopt, self._tell, self._close, self._read_again = adopt, tell, close, read_again
        self._half_made = HalfMade(limits.per_address_per_second)
        self._census = Census(intake.admission.ae_titles)
        self._stalling: dict[str, None] = {}

    def is_held(self, connection: Connection) -> bool:
        """Whether its request may not be read yet."""
        return self._half_made.is_held(connection)

    @property
    def are_held(self) -> bool:
        """Whether any waits for its turn."""
        return self._half_made.are_held

    def admit_due(self, now: float) -> None:
        """Let those speak whose turn has come."""
        for connection in self._half_made.due(now):
            self._await_request(connection)

    def forget(self, now: float) -> None:
        """Drop what is remembered of addresses that were quiet long enough."""
        self._half_made.forget(now)

    def remember_stalling(self, connection: Connection) -> None:
        """Its address waits for our acknowledgements; its next associations get them at once."""
        if len(self._stalling) < STALLING_MAX:
            self._stalling[connection.address] = None

    def left(self, connection: Connection) -> None:
        """A connection was closed."""
        if connection.pace.is_established:
            self._census.left(connection.address, connection.sender.calling_ae)
        else:
            self._census.left(connection.address, None)
            self._half_made.remove(connection)

    def go_on(self, connection: Connection, event: int, now: float) -> None:
        """Something came from a half-made connection. Raises `PeerError` or OSError."""
        begin = self._request if connection.is_private else self._shake_hands
        begin(connection, event, now)

    def accept(self, listening: socket.socket, served: ServedCertificate | None, now: float) -> None:
        """Take the connections that wait at a listening socket, within the caps."""
        for _ in range(ACCEPTED_PER_TURN):
            try:
                sock, peer = listening.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._evict(None)
                return
            address = plain_address(peer[0])
            verdict = self._census.arrival(address, self._limits)
            if verdict == "refuse":
                sock.close()
                continue
            if verdict != "admit":
                if not guards_off.is_on("eviction"):
                    sock.close()
                    continue
                self._evict(address if verdict == "evict-own" else None)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            channel = sock if served is None else TlsSocket(sock, served.context)
            connection = Connection(channel, address, now)
            self._census.arrived(address)
            self._connections[sock.fileno()] = connection
            self._poll.register(sock, _HELD)
            if self._half_made.add(connection, now):
                self._await_request(connection)

    def _evict(self, address: str | None) -> None:
        """Close the oldest half-made connection of an address, or of the one that has most."""
        connection = self._half_made.oldest(address)
        if connection is not None:
            self._close(connection)

    def _await_request(self, connection: Connection) -> None:
        """Its turn has come: wake for what it says."""
        self._poll.modify(connection.sock, _REQUEST if connection.tls is None else READ)
        self._read_again(connection)

    def _shake_hands(self, connection: Connection, event: int, now: float) -> None:
        """Go on with the TLS handshake; then its request may be there already."""
        tls = connection.tls
        assert tls is not None
        if self._half_made.holds_back(connection, now):
            self._poll.modify(connection.sock, _HELD)
            return
        began = time.thread_time()
        try:
            tls.handshake()
        except ssl.SSLError as error:
            self._tell(connection.sender, *in_words(error))
            connection.close_with(b"", now)
            return
        finally:
            self._half_made.charge(connection, time.thread_time() - began, now)
        connection.certificate = tls.certificate
        self._request(connection, event, now)

    def _request(self, connection: Connection, event: int, now: float) -> None:
        """Peek at the association request; answer when it is whole."""
        sock = connection.sock
        head = sock.recv(6, socket.MSG_PEEK)
        size = request_size(head)
        available = len(head) if size is None else len(sock.recv(size, socket.MSG_PEEK))
        if size is None or available < size:
            if not head or event & select.EPOLLRDHUP:
                self._close(connection)
            elif connection.tls is None:
                # Do not wake for each byte of it.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size or 6)
            return
        if connection.tls is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if self._half_made.holds_back(connection, now):
            self._poll.modify(sock, _HELD)
            return
        request = sock.recv(size, socket.MSG_PEEK)
        called_ae, calling_ae = ae_titles(request)
        sender = Sender(calling_ae, called_ae, connection.address)
        rejection = self._intake.admission.associate(
            calling_ae=calling_ae,
            called_ae=called_ae,
            address=connection.address,
            certificate=connection.certificate,
        )
        if rejection is not None:
            self._reject(connection, size, sender, rejection.answer, rejection.reason, rejection.remedy, now)
            return
        shortage = self._census.shortage(connection.address, calling_ae, self._limits)
        if shortage is not None:
            reason = f"all places {shortage} are taken"
            self._reject(connection, size, sender, REJECT_LIMIT, reason, _REMEDIES[shortage], now)
            return
        began = time.thread_time()
        try:
            answer = self._negotiator.answer(request)
        finally:
            self._half_made.charge(connection, time.thread_time() - began, now)
        if isinstance(answer, Accepted):
            self._serve(connection, size, sender, answer, now)
        elif isinstance(answer, Rejected):
            self._reject(connection, size, sender, answer.answer, answer.reason, "Correct the peer.", now)
        else:
            self._hand_over(connection, size, sender, now)

    def _serve(self, connection: Connection, size: int, sender: Sender, answer: Accepted, now: float) -> None:
        connection.sock.recv(size)
        connection.acknowledges_at_once = connection.address in self._stalling
        connection.serve(sender, answer.contexts, answer.answer, pdu_bytes_max=self._pdu_bytes_max, now=now)
        self._census.accepted(connection.address, sender.calling_ae)
        self._half_made.remove(connection)
        self._poll.modify(connection.sock, READ)
        if answer.refused:
            self._tell(sender, *refused_words(answer.refused))

    def _hand_over(self, connection: Connection, size: int, sender: Sender, now: float) -> None:
        sock = connection.sock
        fd = sock.fileno()
        self._poll.unregister(sock)
        sock.setblocking(True)
        if self._adopt(sock, sender):
            del self._connections[fd]
            self._half_made.remove(connection)
            self._census.left(connection.address, None)
            return
        sock.setblocking(False)
        self._poll.register(sock, READ)
        remedy = "Raise listener.unusual_associations_max, or turn extended negotiation off at the peer."
        self._reject(connection, size, sender, REJECT_LIMIT, "too many unusual associations", remedy, now)

    def _reject(
        self,
        connection: Connection,
        size: int,
        sender: Sender,
        answer: tuple[int, int, int],
        reason: str,
        remedy: str,
        now: float,
    ) -> None:
        connection.sock.recv(size)
        self._tell(sender, reason, remedy)
        connection.close_with(reject_pdu(*answer), now)
        self._poll.modify(connection.sock, READ)
