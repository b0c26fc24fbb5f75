"""What something else received (`listener.unusual`, `listener.door`) on its way into the loop's intake.

Whoever received one submits it and waits; the loop takes them in steps of a few MiB, so that a large one
delays nobody and many small ones share a commit, and answers after the commit.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator

from db.spool import SpoolFull
from listener.admission import NOT_AUTHORIZED, OUT_OF_RESOURCES, Refusal
from listener.commitment import CommitmentRequest
from listener.intake import Announced, Intake, Sender
from listener.notices import ReadNotice
from listener.pdu import PeerError

STEP_BYTES = 4 << 20
WAITING_MAX = 64


class Submission(ABC):
    """Something of another thread that shall be durable."""

    def __init__(self) -> None:
        self._answered = threading.Event()
        self.refusal: Refusal | None = Refusal(OUT_OF_RESOURCES, "the listener stops")

    def wait(self, seconds: float) -> Refusal | None:
        """Why it was refused; None: it is durable. Without an answer in time it is not yet."""
        if not self._answered.wait(seconds):
            return Refusal(OUT_OF_RESOURCES, f"no commit within {seconds:g} s")
        return self.refusal

    def answer(self, refusal: Refusal | None) -> None:
        """Wake the thread; for the loop, after the commit."""
        self.refusal = refusal
        self._answered.set()

    @abstractmethod
    def steps(self, intake: Intake) -> Iterator[int]:
        """Take it in; the bytes of each step. `refusal` holds the answer at the end."""


class SubmittedMessage(Submission):
    """One notice, or one request for storage commitment."""

    def __init__(self, sender: Sender, message: ReadNotice | CommitmentRequest) -> None:
        super().__init__()
        self._sender, self._message = sender, message

    def steps(self, intake: Intake) -> Iterator[int]:
        """Append it to the log, in one step."""
        sender, payload = self._sender, self._message.payload()
        self.refusal = None
        allowed, setting = intake.admission.may_send, "may_send"
        if isinstance(self._message, CommitmentRequest):
            allowed, setting = intake.admission.may_ask_commitment, "may_ask_commitment"
        if not allowed(sender.calling_ae, sender.address):
            self.refusal = Refusal(NOT_AUTHORIZED, f"{setting} is false for this peer")
        elif len(payload) > intake.spool.inline_bytes_max:  # it has no row that would keep a file of its own
            self.refusal = Refusal(OUT_OF_RESOURCES, "it needs a larger listener.segment_mib")
        else:
            try:
                intake.spool.append(self._message.meta(sender, intake.clock()), [payload], len(payload))
            except SpoolFull:
                self.refusal = Refusal(OUT_OF_RESOURCES, "disk space is below the reserve; try again later")
        return iter(())


class SubmittedQuestion(Submission):
    """Something to ask the recorder; it is asked when all that was acknowledged before is published to it.

    The loop publishes how far the log is durable after it answered, in the same turn: a thread that asks by
    itself could be faster.

    Parameters
    ----------
    ask : returns at once
    """

    def __init__(self, sender: Sender, ask: Callable[[], None]) -> None:
        super().__init__()
        self._sender, self._ask = sender, ask

    def steps(self, intake: Intake) -> Iterator[int]:
        """Ask, if the sender may; there is nothing to take in."""
        if intake.admission.may_send(self._sender.calling_ae, self._sender.address):
            self.refusal = None
            self._ask()
        else:
            self.refusal = Refusal(NOT_AUTHORIZED, "may_send is false for this peer")
        return iter(())


class SubmittedInstance(Submission):
    """One instance."""

    def __init__(self, sender: Sender, announced: Announced, dataset: bytes) -> None:
        super().__init__()
        self.sender, self._announced, self._dataset = sender, announced, dataset

    def pieces(self) -> Iterator[memoryview]:
        """The dataset in steps. Raises `PeerError` when it cannot be read."""
        view = memoryview(self._dataset)
        for at in range(0, len(view), STEP_BYTES):
            yield view[at : at + STEP_BYTES]

    def steps(self, intake: Intake) -> Iterator[int]:
        """Take the instance in; the bytes of each step. `refusal` holds the answer at the end."""
        incoming = intake.begin(self.sender, self._announced)
        try:
            for piece in self.pieces():
                incoming.add(piece)
                incoming.spill()
                yield len(piece)
            self.refusal = incoming.finish()
        except PeerError as error:
            incoming.abandon()
            self.refusal = Refusal(OUT_OF_RESOURCES, error.reason)


class Submissions:
    """The queue before the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[Submission] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._current: tuple[Submission, Iterator[int]] | None = None
        self._taken: list[Submission] = []  # wait for the next commit
        self._sealed: list[Submission] = []  # wait for the commit that was begun

    def submit(self, submission: Submission) -> bool:
        """Queue something; False when too many wait or the loop ended."""
        with self._lock:
            if self._closed or len(self._waiting) >= WAITING_MAX:
                return False
            self._waiting.append(submission)
        self._wake()
        return True

    @property
    def are_waiting(self) -> bool:
        """Whether there is something to do. For the loop."""
        return self._current is not None or bool(self._waiting)

    @property
    def await_commit(self) -> bool:
        """Whether an answer waits for the spool's commit. For the loop."""
        return bool(self._taken)

    def step(self, intake: Intake) -> None:
        """The oldest submissions, one step's bytes of them. For the loop."""
        taken_bytes = 0
        while taken_bytes < STEP_BYTES:
            if self._current is None:
                if not self._waiting:
                    return
                submission = self._waiting.popleft()
                self._current = (submission, submission.steps(intake))
            submission, steps = self._current
            step_bytes = next(steps, None)
            if step_bytes is None:
                self._taken.append(submission)
                self._current = None
            else:
                taken_bytes += step_bytes

    def seal(self) -> None:
        """A commit is begun, which covers what was taken in so far. For the loop."""
        self._sealed += self._taken
        self._taken = []

    def committed(self) -> None:
        """What was sealed is durable: answer it. For the loop."""
        sealed, self._sealed = self._sealed, []
        for submission in sealed:
            submission.answer(submission.refusal)

    def close(self, refusal: Refusal) -> None:
        """Answer everything that is not durable."""
        with self._lock:
            self._closed = True
            current = [self._current[0]] if self._current else []
            left = [*self._sealed, *self._taken, *current, *self._waiting]
            self._waiting.clear()
        for submission in left:
            submission.answer(refusal)
