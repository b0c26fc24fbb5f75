"""A thread that serves the creator of a UPS waits for what rows know of it, and no longer than a bound."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from config.settings import Settings
from db.spool import SpoolWriter
from listener.admission import NOT_AUTHORIZED, OUT_OF_RESOURCES, Admission, Refusal
from listener.intake import Intake, Sender
from listener.step_lookups import StepLookups
from listener.submissions import Submission, Submissions, SubmittedMessage
from listener.unified_steps import NO_SUCH_STEP, canceled

MANAGER, VIEWER = Sender("MANAGER", "PREREAD", "10.0.0.9"), Sender("VIEWER", "PREREAD", "10.0.0.9")
Question = tuple[str, str, str]


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    peers = [
        {
            "name": sender.calling_ae.lower(),
            "ae_title": sender.calling_ae,
            "host": sender.address,
            "may_send": may,
        }
        for sender, may in ((MANAGER, True), (VIEWER, False))
    ]
    admission = Admission(Settings.model_validate({"peers": peers}), {})
    with SpoolWriter(tmp_path, store="instances", segment_bytes=1 << 16) as spool:
        yield Intake(spool, admission=admission, instance_bytes_max=1 << 20, buffered_bytes_max=1 << 20)


def turn(submissions: Submissions, intake: Intake) -> None:
    """One turn of the loop."""
    submissions.step(intake)
    submissions.seal()
    intake.spool.commit()
    submissions.committed()


def at_once(intake: Intake) -> Callable[[Submission], bool]:
    """A loop that takes one turn for each submission."""
    submissions = Submissions(lambda: None)

    def submit(submission: Submission) -> bool:
        is_taken = submissions.submit(submission)
        turn(submissions, intake)
        return is_taken

    return submit


def test_each_thread_gets_the_answer_to_its_own_question(intake: Intake) -> None:
    asked: Queue[Question] = Queue()
    submissions, woken = Submissions(lambda: woken.release()), threading.Semaphore(0)
    lookups = StepLookups(submissions.submit, lambda *question: asked.put(question), answer_seconds=60)
    found: dict[str, object] = {}

    def look_up(uid: str) -> None:
        found[uid] = lookups.state_of(MANAGER, uid)

    threads = [threading.Thread(target=look_up, args=(uid,)) for uid in ("1.1", "1.2", "1.3")]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert woken.acquire(timeout=60)
    turn(submissions, intake)
    for token, source_ae, uid in sorted((asked.get(timeout=60) for _ in threads), key=lambda one: one[2]):
        assert source_ae == "MANAGER"
        lookups.answered("no such token", "canceled")
        lookups.answered(token, {"1.1": "input_ready", "1.2": "canceled"}.get(uid))  # type: ignore[arg-type]
    for thread in threads:
        thread.join(timeout=60)
    missing = found.pop("1.3")
    assert found == {"1.1": "input_ready", "1.2": "canceled"}
    assert isinstance(missing, Refusal)
    assert missing.status == NO_SUCH_STEP


def test_question_waits_its_turn_behind_what_was_submitted_before(intake: Intake) -> None:
    asked: list[Question] = []
    submissions = Submissions(lambda: None)
    lookups = StepLookups(submissions.submit, lambda *question: asked.append(question), answer_seconds=0)
    message = SubmittedMessage(MANAGER, canceled("1.1"))
    assert submissions.submit(message)
    lookups.state_of(MANAGER, "1.1")
    assert not asked, "nobody asks before the loop does"
    turn(submissions, intake)
    assert message.wait(0) is None
    assert [question[1:] for question in asked] == [("MANAGER", "1.1")]


def test_no_answer_in_time_is_a_refusal_that_may_be_tried_again(intake: Intake) -> None:
    submit = at_once(intake)
    refusal = StepLookups(submit, lambda *question: None, answer_seconds=0).state_of(MANAGER, "1.1")
    assert isinstance(refusal, Refusal)
    assert refusal.status == OUT_OF_RESOURCES
    refusal = StepLookups(lambda submission: False, lambda *question: None).state_of(MANAGER, "1.1")
    assert isinstance(refusal, Refusal)
    assert refusal.status == OUT_OF_RESOURCES


def test_answer_may_come_before_the_wait(intake: Intake) -> None:
    submit = at_once(intake)
    lookups = StepLookups(submit, lambda token, source_ae, uid: lookups.answered(token, "input_ready"))
    assert lookups.state_of(MANAGER, "1.1") == "input_ready"


def test_who_may_not_send_is_told_so_and_nobody_is_asked(intake: Intake) -> None:
    asked: list[Question] = []
    submit = at_once(intake)
    refusal = StepLookups(submit, lambda *question: asked.append(question)).state_of(VIEWER, "1.1")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, asked) == (NOT_AUTHORIZED, [])
