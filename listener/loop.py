"""One epoll loop for all plain associations: accept, deadlines, caps, one commit per turn, then the answers.

A turn reads each readable peer once, commits the spool once for all instances that became complete (group
commit, beside the next turns where that pays) and only then sends (law 1). Nothing here waits for a peer, a
database or a thread.
"""

import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from config import guards_off
from config.logs import logger
from db.records import Mark
from db.spool import SpoolFailed
from listener.admission import OUT_OF_RESOURCES, Refusal, remedy_of
from listener.arrivals import LEFT, READ, Adopt, Arrivals, SecurePort
from listener.commits import Commits, MeasuredPace, Pace
from listener.connection import Connection, Stage
from listener.guard import Limits
from listener.intake import Intake, Sender
from listener.negotiate import Negotiator
from listener.pdu import PeerError, abort_pdu
from listener.served_certificate import ServedCertificate
from listener.submissions import Submission, Submissions

SWEEP_SECONDS = 0.25
REST_SECONDS = 1.0
REPORTS_PER_SWEEP = 50
HELD_SECONDS = 0.02  # between two looks at who waits for its turn

_GONE = select.EPOLLHUP | select.EPOLLERR


@dataclass(frozen=True, slots=True)
class Refused:
    """Something refused that a person should see, with the setting that would allow it."""

    calling_ae: str
    called_ae: str
    address: str
    reason: str
    remedy: str


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
        self._intake, self._limits = intake, limits
        self._listening: dict[int, tuple[socket.socket, ServedCertificate | None]] = {}
        self._report = report
        self._log = logger("listener")
        self._poll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.submissions = Submissions(self.wake)
        self._watched: dict[int, Callable[[], None]] = {self._wakeup: self._woken}
        self._commits = Commits(intake.spool, self.submissions, pace or MeasuredPace(), publish)
        self._muted: set[Connection] = set()  # spoke while they wait for a commit
        self._lively: dict[Connection, float] = {}  # who sent something since the last sweep but one
        self._connections: dict[int, Connection] = {}
        self._arrivals = Arrivals(
            self._poll,
            self._connections,
            intake=intake,
            negotiator=negotiator,
            limits=limits,
            pdu_bytes_max=pdu_bytes_max,
            adopt=adopt,
            tell=self.tell,
            close=self._close,
            read_again=self._read_again,
        )
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
        elif self._arrivals.are_held:
            timeout_seconds = min(timeout_seconds, HELD_SECONDS)
        try:
            events = self._poll.poll(timeout_seconds)
            now = time.monotonic()
            for fd, event in events:
                self._handle(fd, event, now)
            self._arrivals.admit_due(now)
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
            if connection.stage is Stage.REQUESTING and event & LEFT and not guards_off.is_on("hang-up"):
                return
            if event & _GONE or self._arrivals.is_held(connection):
                self._close(connection)
            elif self._commits.holds(connection):
                self._poll.modify(connection.sock, 0)
                self._muted.add(connection)
            elif connection.stage is Stage.REQUESTING:
                self._guarded(connection, now, lambda c: self._arrivals.go_on(c, event, now))
            elif connection.stage is Stage.CLOSING:
                self._discard(connection, event)
            elif connection in self._waiting_to_write:
                self._ready[connection] = None
            elif not connection.is_paused:  # what was read already comes first, so that it stays bounded
                self._guarded(connection, now, lambda c: self._receive(c, now))
        elif fd in self._listening:
            self._arrivals.accept(*self._listening[fd], now)
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
            self._poll.modify(connection.sock, READ)
        except OSError:
            self._close(connection)
            return
        except SpoolFailed:
            raise
        except Exception:  # noqa: BLE001 a bug of ours must cost one peer, not the hospital
            self._log.exception("association aborted by an error of this node", peer=connection.address)
            connection.abort(PeerError("an error of this node"), now)
            self._poll.modify(connection.sock, READ)
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

    def _read_again(self, connection: Connection) -> None:
        if connection.has_unread:
            self._unread[connection] = None

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
        elif connection.acknowledges_at_once and not quick:
            self._arrivals.remember_stalling(connection)

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
        for connection in freed:
            self._ready[connection] = None
            if connection in self._muted:
                self._muted.discard(connection)
                self._poll.modify(connection.sock, READ)
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
                    self._poll.modify(connection.sock, READ)
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
        self._arrivals.forget(now)
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
        self._arrivals.left(connection)
        connection.sock.close()

    def submit(self, submission: Submission) -> bool:
        """Hand over an instance of another thread; False when there is no room for it."""
        return self.submissions.submit(submission)
