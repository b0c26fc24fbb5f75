"""Two ways to drive the listener's intake step by step in one thread: by itself, and under its whole loop."""

import random
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dicom_peer import CT, EXPLICIT, associate_request, comment_of, status_of, store_message

from config.settings import Settings
from db.spool import SpoolWriter
from listener.admission import Admission
from listener.commits import Pace
from listener.intake import Announced, Incoming, Intake, Sender
from listener.loop import Loop
from listener.negotiate import Negotiator
from listener.ports import listen
from listener.service import _limits
from listener.submissions import Submission, Submissions

PEERS = 3
BUFFERED_BYTES_MAX = 12_000  # little, so that small instances stream to their own files, too
SENDER = Sender("SCANNER", "PREREAD", "127.0.0.1")
SETTINGS = Settings.model_validate(
    {
        "peers": [{"name": "scanner", "ae_title": "SCANNER", "addresses": ["127.0.0.0/8"]}],
        "listener": {"connections_per_second": 10_000},
    }
)


@dataclass(eq=False)
class Message:
    """A C-STORE: it comes whole, or says of itself what is not true, or its sender goes away inside it."""

    uid: str
    dataset: bytes
    fate: Literal["whole", "lying", "broken off"] = "whole"


@dataclass
class Traffic:
    """Where a front gets its messages from and whom it tells what became of them."""

    chance: random.Random
    next: Callable[[], Message]
    complete: Callable[[Message], None]  # its last byte is about to be given
    answered: Callable[[Message, bool], None]
    clock: Callable[[], float]


class Front(ABC):
    """One life of the receiver."""

    def __init__(self, spool: SpoolWriter, traffic: Traffic) -> None:
        self.traffic = traffic
        self.intake = Intake(
            spool,
            admission=Admission(SETTINGS, {}),
            instance_bytes_max=1 << 20,
            buffered_bytes_max=BUFFERED_BYTES_MAX,
            clock=traffic.clock,
        )

    @abstractmethod
    def send(self) -> None:
        """Some peers send something."""

    @abstractmethod
    def submit(self, submission: Submission) -> None:
        """What came another way waits for its turn."""

    @abstractmethod
    def turn(self) -> None:
        """Take in, commit, answer."""

    @abstractmethod
    def close(self) -> None:
        """Let go; the process has ended."""


@dataclass
class _UnderWay:
    message: Message
    incoming: Incoming
    given: int = 0


class IntakeAlone(Front):
    """The intake, with the loop's order: take in, commit once, answer."""

    def __init__(self, spool: SpoolWriter, traffic: Traffic) -> None:
        super().__init__(spool, traffic)
        self._submissions = Submissions(lambda: None)
        self._under_way: list[_UnderWay | None] = [None] * PEERS
        self._uncommitted: list[Message] = []
        self._covered: list[Message] | None = None  # by a commit under way

    def send(self) -> None:
        chance = self.traffic.chance
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(PEERS)
            at = self._under_way[place]
            if at is None:
                message = self.traffic.next()
                announced = Announced(CT.encode(), message.uid.encode(), CT, EXPLICIT)
                self._under_way[place] = _UnderWay(message, self.intake.begin(SENDER, announced))
            elif at.message.fate == "broken off" and chance.random() < 0.4:
                at.incoming.abandon()
                self._under_way[place] = None
            elif self._give(at, chance.choice((300, 1000, 5000))):
                self._under_way[place] = None

    def _give(self, at: _UnderWay, size: int) -> bool:
        """Give the next bytes; whether the message is over."""
        message = at.message
        end = len(message.dataset) - (2 if message.fate == "lying" else 0)
        piece = memoryview(message.dataset)[at.given : min(end, at.given + size)]
        at.given += len(piece)
        at.incoming.add(piece)
        at.incoming.spill()
        if at.given < end:
            return False
        if message.fate == "broken off":
            at.incoming.abandon()
            return True
        self.traffic.complete(message)
        if at.incoming.finish() is None:
            self._uncommitted.append(message)
        else:
            self.traffic.answered(message, False)
        return True

    def submit(self, submission: Submission) -> None:
        self._submissions.submit(submission)

    def turn(self) -> None:
        spool, coin = self.intake.spool, self.traffic.chance.random() < 0.5
        self._submissions.step(self.intake)
        if self._covered is not None and not spool.finish_commit():
            return
        self._acknowledge()
        self._covered, self._uncommitted = self._uncommitted, []
        self._submissions.seal()
        if coin and spool.begin_commit():
            return
        spool.commit()
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self._covered is not None:
            self._submissions.committed()
            for message in self._covered:
                self.traffic.answered(message, True)
        self._covered = None

    def close(self) -> None:
        return


class _ChancePace(Pace):
    """Lets the seed decide which commits run beside receiving."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def runs_beside(self, waiting: int, lively: int) -> bool:
        return self._chance.random() < 0.5

    def took(self, seconds: float) -> None:
        return


class WholeLoop(Front):
    """The listener's own loop on real sockets, turned by hand."""

    def __init__(self, spool: SpoolWriter, traffic: Traffic) -> None:
        super().__init__(spool, traffic)
        listening = listen("127.0.0.1", 0, setting="listener")
        self._port = listening.getsockname()[1]
        self._loop = Loop(
            listening,
            intake=self.intake,
            negotiator=Negotiator(pdu_bytes_max=16384),
            limits=_limits(SETTINGS),
            pdu_bytes_max=16384,
            adopt=lambda sock, sender: False,
            report=lambda refused: None,
            publish=lambda mark: None,
            pace=_ChancePace(self.traffic.chance),
        )
        self._peers: list[_Socket] = []

    def send(self) -> None:
        chance = self.traffic.chance
        if len(self._peers) < PEERS:
            self._peers.append(_Socket(self._port, self.traffic))
            return
        for peer in chance.sample(self._peers, chance.randint(1, PEERS)):
            if not peer.send():
                self._peers.remove(peer)

    def submit(self, submission: Submission) -> None:
        self._loop.submit(submission)

    def turn(self) -> None:
        self._loop.turn(0)
        self._listen()

    def _listen(self) -> None:
        for peer in self._peers:
            peer.listen()

    def close(self) -> None:
        self._listen()
        self._loop.close()
        for peer in self._peers:
            peer.close()


class _Socket:
    """A sender with one store outstanding; whatever it does, it never waits."""

    def __init__(self, port: int, traffic: Traffic) -> None:
        self._traffic = traffic
        self._sock = socket.create_connection(("127.0.0.1", port), 10)
        self._sock.setblocking(False)
        self._sock.sendall(associate_request())
        self._is_associated = False
        self._message: Message | None = None
        self._unsent, self._said = b"", b""

    def send(self) -> bool:
        """Send some bytes; False: it went away."""
        chance = self._traffic.chance
        if not self._is_associated:
            return True
        if self._message is None:
            self._message = message = self._traffic.next()
            dataset = message.dataset[: -2 if message.fate == "lying" else None]
            self._unsent = store_message(message.uid, dataset, size=chance.choice((600, 4000)))
        elif not self._unsent:
            return True  # it waits for the answer
        size = chance.choice((300, 2000, 30_000))
        if self._message.fate == "broken off":
            size = min(size, len(self._unsent) // 2)
            if size < 200:
                self.close()
                return False
        elif size >= len(self._unsent):
            self._traffic.complete(self._message)
        self._unsent = self._unsent[self._sock.send(self._unsent[:size]) :]
        return True

    def listen(self) -> None:
        """Read the answers that are there."""
        try:
            self._said += self._sock.recv(4096)
        except (BlockingIOError, ConnectionError):
            return
        while len(self._said) >= 6 and len(self._said) >= 6 + int.from_bytes(self._said[2:6], "big"):
            size = 6 + int.from_bytes(self._said[2:6], "big")
            pdu, self._said = self._said[:size], self._said[size:]
            if pdu[0] == 2:
                self._is_associated = True
            elif pdu[0] == 4:
                assert self._message is not None
                # When a sync fails, what it covered is denied, and may be on the disk nevertheless.
                if comment_of(pdu) != "the disk failed":
                    self._traffic.answered(self._message, status_of(pdu) == 0)
                self._message = None

    def close(self) -> None:
        self._sock.close()
