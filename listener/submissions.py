"""Instances and notices that other threads received (`listener.unusual`) on their way into the loop's intake.

A thread submits and waits; the loop takes them in steps of a few MiB, so that a large one delays nobody, and
answers after the commit.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator

from db.spool import SpoolFull
from listener.admission import NOT_AUTHORIZED, OUT_OF_RESOURCES, Refusal
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
        """Why it was refused; None: it is durable."""
        self._answered.wait(seconds)
        return self.refusal

    def answer(self, refusal: Refusal | None) -> None:
        """Wake the thread; for the loop, after the commit."""
        self.refusal = refusal
        self._answered.set()

    @abstractmethod
    def steps(self, intake: Intake) -> Iterator[None]:
        """Take it in, a step at a time; `refusal` holds the answer at the end."""


class SubmittedNotice(Submission):
    """One notice."""

    def __init__(self, sender: Sender, notice: ReadNotice) -> None:
        super().__init__()
        self._sender, self._notice = sender, notice

    def steps(self, intake: Intake) -> Iterator[None]:
        """Append it to the log, in one step."""
        sender, payload = self._sender, self._notice.payload()
        self.refusal = None
        if not intake.admission.may_send(sender.calling_ae, sender.address):
            self.refusal = Refusal(NOT_AUTHORIZED, "may_send is false for this peer")
        elif len(payload) > intake.spool.inline_bytes_max:  # it has no row that would keep a file of its own
            self.refusal = Refusal(OUT_OF_RESOURCES, "it needs a larger listener.segment_mib")
        else:
            try:
                intake.spool.append(self._notice.meta(sender, intake.clock()), [payload], len(payload))
            except SpoolFull:
                self.refusal = Refusal(OUT_OF_RESOURCES, "disk space is below the reserve; try again later")
        return iter(())


class SubmittedInstance(Submission):
    """One instance."""

    def __init__(self, sender: Sender, announced: Announced, dataset: bytes) -> None:
        super().__init__()
        self._sender, self._announced, self._dataset = sender, announced, dataset

    def steps(self, intake: Intake) -> Iterator[None]:
        """Take the instance in, a step at a time; `refusal` holds the answer at the end."""
        incoming = intake.begin(self._sender, self._announced)
        view = memoryview(self._dataset)
        try:
            for at in range(0, len(view), STEP_BYTES):
                incoming.add(view[at : at + STEP_BYTES])
                incoming.spill()
                yield
            self.refusal = incoming.finish()
        except PeerError as error:
            incoming.abandon()
            self.refusal = Refusal(OUT_OF_RESOURCES, error.reason)


class Submissions:
    """The queue between threads and the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[Submission] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._current: tuple[Submission, Iterator[None]] | None = None
        self._taken: list[Submission] = []

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

    def step(self, intake: Intake) -> None:
        """One step of the oldest submission. For the loop."""
        if self._current is None:
            if not self._waiting:
                return
            submission = self._waiting.popleft()
            self._current = (submission, submission.steps(intake))
        submission, steps = self._current
        if next(steps, self) is self:
            self._taken.append(submission)
            self._current = None

    def committed(self) -> None:
        """What was taken in is durable: wake its threads. For the loop."""
        for submission in self._taken:
            submission.answer(submission.refusal)
        self._taken = []

    def close(self, refusal: Refusal) -> None:
        """Answer everything that is not durable."""
        with self._lock:
            self._closed = True
            current = [self._current[0]] if self._current else []
            left = [*self._taken, *current, *self._waiting]
            self._waiting.clear()
        for submission in left:
            submission.answer(refusal)
