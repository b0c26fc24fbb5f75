"""One epoll loop for all plain associations: accept, deadlines, caps, one commit per turn, then the answers.

A turn reads each readable peer once, commits the spool once for all instances that became complete (group
commit, beside the next turns where that pays) and only then sends (law 1). Nothing here waits for a peer, a
database or a thread.
"""

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from config import guards_off
from config.logs import logger
from db.records import Mark
from db.spool import SpoolFailed
from listener.admission import OUT_OF_RESOURCES, Refusal, plain_address, remedy_of
from listener.commits import Commits, MeasuredPace, Pace
from listener.connection import Connection, Stage
from listener.guard import Census, Limits, Shortage
from listener.half_made import HalfMade
from listener.handshake_words import in_words
from listener.intake import Intake, Sender
from listener.negotiate import Accepted, Negotiator, Rejected, refused_words
from listener.pdu import REJECT_LIMIT, PeerError, abort_pdu, ae_titles, reject_pdu, request_size
from listener.served_certificate import ServedCertificate
from listener.submissions import Submission, Submissions
from listener.tls_socket import TlsSocket

ACCEPTED_PER_TURN = 64
SWEEP_SECONDS = 0.25
REST_SECONDS = 1.0
REPORTS_PER_SWEEP = 50
SEND_BUFFER_BYTES = 64 << 10  # our answers are short; a peer that reads none may not make us keep many
STALLING_MAX = 1024  # addresses remembered
HELD_SECONDS = 0.02  # between two looks at who waits for its turn

_READ = select.EPOLLIN | select.EPOLLRDHUP
# Edge-triggered: each new part of a request wakes us once; it is only peeked at.
_REQUEST = _READ | select.EPOLLET
_HELD = select.EPOLLRDHUP | select.EPOLLET
_GONE = select.EPOLLHUP | select.EPOLLERR
_LEFT = _GONE | select.EPOLLRDHUP

_REMEDIES: dict[Shortage, str] = {
    "of the address": "Raise listener.connections_per_address_max if so many associations are wanted.",
    "of the AE title": "Raise listener.associations_per_ae_max if so many associations are wanted.",
    "in all": "Raise listener.connections_max if so many associations are wanted.",
}

Adopt = Callable[[socket.socket | TlsSocket, Sender], bool]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something refused that a person should see, with the setting that would allow it."""

    calling_ae: str
    called_ae: str
    address: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SecurePort:
    """A listening socket whose connections begin with a TLS handshake."""

    listening: socket.socket
    served: ServedCertificate


class Loop:
    """The loop over one listening socket, or two.

    Parameters
    ----------
    secure : where TLS is spoken, if anywhere
    adopt : takes a socket whose proposal is unusual, untouched; False when it has no place for it
    report : told of what was refused; must not wait
    publish : told the spool's committed mark after each commit; must not wait
    pace : decides which commits run beside receiving
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        intake: Intake,
        negotiator: Negotiator,
        limits: Limits,
        pdu_bytes_max: int,
        adopt: Adopt,
        report: Callable[[Refused], None],
        publish: Callable[[Mark], None],
        secure: SecurePort | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._intake, self._negotiator = intake, negotiator
        self._listening: dict[int, tuple[socket.socket, ServedCertificate | None]] = {}
        self._limits, self._pdu_bytes_max = limits, pdu_bytes_max
        self._adopt, self._report, self._publish = adopt, report, publish
        self._log = logger("listener")
        self._poll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.submissions = Submissions(self.wake)
        self._watched: dict[int, Callable[[], None]] = {self._wakeup: self._woken}
        self._commits = Commits(intake.spool, self.submissions, pace or MeasuredPace())
        self._muted: set[Connection] = set()  # spoke while they wait for a commit
        self._lively: dict[Connection, float] = {}  # who sent something since the last sweep but one
        self._connections: dict[int, Connection] = {}
        self._half_made = HalfMade(limits.per_address_per_second)
        self._census = Census(intake.admission.ae_titles)
        self._stalling: dict[str, None] = {}
        self._ready: dict[Connection, None] = {}  # to be flushed at the end of the turn
        self._paused: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}  # what they sent is read, and not looked at yet
        self._waiting_to_write: set[Connection] = set()
        self._swept_at = 0.0
        self._told = 0
        self._draining = False
        for sock, served in [(listening, None), *([(secure.listening, secure.served)] if secure else [])]:
            sock.setblocking(False)
            self._poll.register(sock, select.EPOLLIN)
            self._listening[sock.fileno()] = sock, served
        self._poll.register(self._wakeup, select.EPOLLIN)
        if intake.spool.commit_bell is not None:  # it ends a wait, and each turn looks for ended commits
            self._poll.register(intake.spool.commit_bell, select.EPOLLIN)

    def wake(self) -> None:
        """End the present wait; from any thread or a signal handler."""
        os.eventfd_write(self._wakeup, 1)

    def watch(self, fd: int, act: Callable[[], None]) -> None:
        """Call `act` in the loop's thread whenever `fd` is readable."""
        self._watched[fd] = act
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; before `fd` is closed."""
        del self._watched[fd]
        self._poll.unregister(fd)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def turn(self, timeout_seconds: float) -> None:
        """Read once, commit once, answer. Raises `SpoolFailed` after every waiting peer was told."""
        if self._paused or self._unread or self.submissions.are_waiting:
            timeout_seconds = 0.0
        elif self._half_made.are_held:
            timeout_seconds = min(timeout_seconds, HELD_SECONDS)
        try:
            events = self._poll.poll(timeout_seconds)
            now = time.monotonic()
            for fd, event in events:
                self._handle(fd, event, now)
            for connection in self._half_made.due(now):
                self._await_request(connection)
            paused, self._paused = self._paused, {}
            for connection in paused:
                self._guarded(connection, now, lambda c: c.process(self._intake, now))
            unread, self._unread = self._unread, {}
            for connection in unread:
                if connection.sock.fileno() >= 0:
                    self._handle(connection.sock.fileno(), select.EPOLLIN, now)
            self.submissions.step(self._intake)
            self._commit()
        except SpoolFailed:
            self._deny_all()
            raise
        self._flush_ready(now)
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            self._sweep(now)

    def stop_accepting(self) -> None:
        """Take no new connection; end associations as their message under way is complete."""
        self._stop_listening()
        self._draining = True
        for connection in [c for c in self._connections.values() if c.stage is Stage.REQUESTING]:
            self._close(connection)

    def close(self) -> None:
        """Cut what is left."""
        self.submissions.close(Refusal(OUT_OF_RESOURCES, "the listener stops"))
        for connection in list(self._connections.values()):
            self._close(connection)
        self._stop_listening()
        self._poll.close()
        os.close(self._wakeup)

    def _stop_listening(self) -> None:
        for sock, _ in self._listening.values():
            self._poll.unregister(sock)
            sock.close()
        self._listening = {}

    def _woken(self) -> None:
        os.eventfd_read(self._wakeup)

    def _handle(self, fd: int, event: int, now: float) -> None:
        connection = self._connections.get(fd)
        if connection is not None:
            if connection.pace.accepted_at == now:
                return  # the event is of a connection closed in this turn, whose descriptor this one got
            if connection.stage is Stage.REQUESTING and event & _LEFT and not guards_off.is_on("hang-up"):
                return
            if event & _GONE or self._half_made.is_held(connection):
                self._close(connection)
            elif self._commits.holds(connection):
                self._poll.modify(connection.sock, 0)
                self._muted.add(connection)
            elif connection.stage is Stage.REQUESTING:
                begin = self._request if connection.is_private else self._shake_hands
                self._guarded(connection, now, lambda c: begin(c, event, now))
            elif connection.stage is Stage.CLOSING:
                self._discard(connection, event)
            elif connection in self._waiting_to_write:
                self._ready[connection] = None
            elif not connection.is_paused:  # what was read already comes first, so that it stays bounded
                self._guarded(connection, now, lambda c: self._receive(c, now))
        elif fd in self._listening:
            self._accept(*self._listening[fd], now)
        elif fd in self._watched:
            self._watched[fd]()

    def _guarded(self, connection: Connection, now: float, act: Callable[[Connection], None]) -> None:
        """Let a connection act; what it does wrong ends it and nothing else."""
        try:
            act(connection)
        except BlockingIOError:
            return
        except PeerError as error:
            self._log.info("association aborted", peer=connection.address, reason=error.reason)
            connection.abort(error, now)
            self._poll.modify(connection.sock, _READ)
        except OSError:
            self._close(connection)
            return
        except SpoolFailed:
            raise
        except Exception:  # noqa: BLE001 a bug of ours must cost one peer, not the hospital
            self._log.exception("association aborted by an error of this node", peer=connection.address)
            connection.abort(PeerError("an error of this node"), now)
            self._poll.modify(connection.sock, _READ)
        for refusal in connection.refused:
            self.tell(
                connection.sender,
                f"instance refused with {refusal.status:04X}: {refusal.comment}",
                remedy_of(refusal),
            )
        connection.refused.clear()
        if connection.has_output or connection.stage is Stage.CLOSING:
            self._ready[connection] = None
        if connection.has_unread:
            self._look_again(connection)

    def _look_again(self, connection: Connection) -> None:
        """Have what was decrypted read in the next turn: the network does not tell of it again."""
        waits = (
            connection.is_paused or connection in self._waiting_to_write or self._commits.holds(connection)
        )
        if connection.has_unread and connection.stage is Stage.SERVING and not waits:
            self._unread[connection] = None

    def _receive(self, connection: Connection, now: float) -> None:
        self._lively[connection] = now
        quick = connection.acknowledges_at_once
        if not connection.receive(self._intake, now):
            self._close(connection)
        elif connection.acknowledges_at_once and not quick and len(self._stalling) < STALLING_MAX:
            self._stalling[connection.address] = None

    def _accept(self, listening: socket.socket, served: ServedCertificate | None, now: float) -> None:
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
        self._poll.modify(connection.sock, _REQUEST if connection.tls is None else _READ)
        if connection.has_unread:
            self._unread[connection] = None

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
            self.tell(connection.sender, *in_words(error))
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
        self._poll.modify(connection.sock, _READ)
        if answer.refused:
            self.tell(sender, *refused_words(answer.refused))

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
        self._poll.register(sock, _READ)
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
        self.tell(sender, reason, remedy)
        connection.close_with(reject_pdu(*answer), now)
        self._poll.modify(connection.sock, _READ)

    def tell(self, sender: Sender, reason: str, remedy: str) -> None:
        """Report what was refused, within bounds; from any thread."""
        if self._told >= REPORTS_PER_SWEEP:  # a flood of refusals must not become a flood of rows
            return
        self._told += 1
        self._report(Refused(sender.calling_ae, sender.called_ae, sender.address, reason, remedy))

    def _discard(self, connection: Connection, event: int) -> None:
        """A connection that is closing: throw away what still comes, until the peer has seen the end."""
        try:
            if event & select.EPOLLOUT:
                self._ready[connection] = None
            elif not connection.discard():
                self._close(connection)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)

    def _commit(self) -> None:
        """Let answers that wait for a commit wait, and those go that no longer do."""
        self._commits.add([connection for connection in self._ready if connection.awaits_commit])
        freed = self._commits.step(len(self._lively))
        self._publish(self._intake.spool.committed)
        for connection in freed:
            self._ready[connection] = None
            if connection in self._muted:
                self._muted.discard(connection)
                self._poll.modify(connection.sock, _READ)
            self._look_again(connection)

    def _deny_all(self) -> None:
        """The disk failed: nothing that waits may be acknowledged; every peer that waits is told."""
        now = time.monotonic()
        self._commits.clear()
        for connection in list(self._connections.values()):
            if connection.has_output:
                connection.deny()
                connection.close_with(abort_pdu(), now)
                self._ready[connection] = None
        self._flush_ready(now)

    def _flush_ready(self, now: float) -> None:
        ready, self._ready = self._ready, {}
        for connection in ready:
            if connection.sock.fileno() < 0 or self._commits.holds(connection):
                continue
            try:
                done = connection.flush(now)
                if done and connection.is_paused:
                    self._paused[connection] = None
                if done and connection.stage is Stage.CLOSING:
                    connection.finish_output()
                if done and connection in self._waiting_to_write:
                    self._waiting_to_write.discard(connection)
                    self._poll.modify(connection.sock, _READ)
                    self._look_again(connection)
                elif not done and connection not in self._waiting_to_write:
                    # Back-pressure: who does not read its answers is not read either.
                    if not guards_off.is_on("back-pressure"):
                        continue
                    self._waiting_to_write.add(connection)
                    self._poll.modify(connection.sock, select.EPOLLOUT)
            except OSError:
                self._close(connection)

    def _sweep(self, now: float) -> None:
        self._told = 0
        self._half_made.forget(now)
        self._lively = {one: at for one, at in self._lively.items() if now - at < SWEEP_SECONDS}
        for connection in list(self._connections.values()):
            late = connection.pace.overdue(now, self._limits)
            if late is not None:
                if connection.stage is Stage.SERVING:
                    self._log.info("association timed out", peer=connection.address, waited_for=late)
                    connection.close_with(abort_pdu(), now)
                    self._ready[connection] = None
                else:
                    self._close(connection)
            elif connection.stage is Stage.SERVING:
                if self._draining and not connection.is_inside_message and not connection.has_output:
                    connection.close_with(abort_pdu(), now)
                    self._ready[connection] = None
                elif now - connection.pace.progressed_at > REST_SECONDS:
                    connection.rest()
        self._flush_ready(now)

    def _close(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        if fd < 0:
            return
        connection.abandon()
        self._connections.pop(fd, None)
        self._ready.pop(connection, None)
        self._paused.pop(connection, None)
        self._unread.pop(connection, None)
        self._waiting_to_write.discard(connection)
        self._commits.forget(connection)
        self._muted.discard(connection)
        self._lively.pop(connection, None)
        if connection.pace.is_established:
            self._census.left(connection.address, connection.sender.calling_ae)
        else:
            self._census.left(connection.address, None)
            self._half_made.remove(connection)
        connection.sock.close()

    def submit(self, submission: Submission) -> bool:
        """Hand over an instance of another thread; False when there is no room for it."""
        return self.submissions.submit(submission)
