"""The wire to the recorder: marks are whole, messages never make the receiver wait, the end is seen."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from db.records import Mark
from listener.commitment import REFERENCES_MAX
from listener.loop import Refused
from listener.recorder_link import STORE, AskedStep, ReceiverEnd, RecorderEnd

REFUSED = Refused("PACS", "PREREAD", "10.0.0.1", "why", "remedy")


@pytest.fixture
def receiver() -> Iterator[ReceiverEnd]:
    with closing(ReceiverEnd()) as end:
        yield end


@pytest.fixture
def recorder(receiver: ReceiverEnd) -> Iterator[RecorderEnd]:
    with closing(RecorderEnd(*(os.dup(fd) for fd in receiver.inherited))) as end:
        yield end


def mark(number: int) -> Mark:
    return Mark(STORE, number, number * 3, number * 5)


def test_mark_is_none_before_it_was_published_and_the_last_one_after(
    receiver: ReceiverEnd, recorder: RecorderEnd
) -> None:
    assert recorder.committed() is None
    for number in (1, 2, 3):
        receiver.publish(mark(number))
    assert recorder.committed() == mark(3)


def test_mark_read_beside_a_writer_is_always_one_that_was_published(
    receiver: ReceiverEnd, recorder: RecorderEnd
) -> None:
    last = 20_000

    def write() -> None:
        for number in range(1, last + 1):
            receiver.publish(mark(number))

    thread = threading.Thread(target=write)
    thread.start()
    before = 0
    while before < last:
        found = recorder.committed()
        if found is not None:
            assert found == mark(found.segment)
            assert found.segment >= before
            before = found.segment
    thread.join()


def test_refusals_arrive_and_too_many_are_dropped_without_waiting(
    receiver: ReceiverEnd, recorder: RecorderEnd
) -> None:
    for _ in range(20_000):
        receiver.report(REFUSED)
    found = recorder.refusals()
    assert found
    assert set(found) == {REFUSED}


def test_stop_and_the_end_of_the_receiver_are_seen(receiver: ReceiverEnd, recorder: RecorderEnd) -> None:
    receiver.report(REFUSED)
    assert recorder.refusals() == [REFUSED]
    assert not recorder.is_stopping
    receiver.stop()
    recorder.refusals()
    assert recorder.is_stopping


def test_receiver_that_is_gone_is_a_stop() -> None:
    receiver = ReceiverEnd()
    with closing(RecorderEnd(*(os.dup(fd) for fd in receiver.inherited))) as recorder:
        recorder.offer([(1, 1)])
        receiver.close()
        recorder.refusals()
        assert recorder.is_stopping


def test_retired_segments_reach_the_receiver(receiver: ReceiverEnd, recorder: RecorderEnd) -> None:
    assert receiver.retired() == ()
    recorder.offer([(4, 9), (5, 11)])
    receiver.receive()
    assert receiver.retired() == ((4, 9), (5, 11))
    receiver.receive()
    assert receiver.retired() == ((4, 9), (5, 11))


def test_what_was_found_and_how_its_report_went_pass_between_the_ends(
    receiver: ReceiverEnd, recorder: RecorderEnd
) -> None:
    taken: list[tuple[str, str]] = []
    receiver.take_judged = lambda token, outcome: taken.append((token, outcome))
    recorder.judged("t1", "012")
    recorder.offer([(1, 2)])
    receiver.receive()
    receiver.receive()
    assert (taken, receiver.retired()) == ([("t1", "012")], ((1, 2),))
    receiver.tried_report("t1", True)
    receiver.report(REFUSED)
    receiver.tried_report("t2", False)
    assert recorder.refusals() == [REFUSED]
    assert recorder.tried_reports() == [("t1", True), ("t2", False)]
    assert recorder.tried_reports() == []


def test_question_about_a_procedure_step_and_its_answer_pass_between_the_ends(
    receiver: ReceiverEnd, recorder: RecorderEnd
) -> None:
    taken: list[tuple[str, str | None]] = []
    receiver.take_step = lambda token, state: taken.append((token, state))
    receiver.ask_step("t1", "MANAGER", "1.2.3")
    receiver.report(REFUSED)
    assert recorder.refusals() == [REFUSED]
    assert recorder.asked_steps() == [AskedStep("t1", "MANAGER", "1.2.3")]
    assert recorder.asked_steps() == []
    recorder.step("t1", "input_ready")
    recorder.step("t2", None)
    receiver.receive()
    receiver.receive()
    assert taken == [("t1", "input_ready"), ("t2", None)]


def test_message_about_the_largest_request_fits(receiver: ReceiverEnd, recorder: RecorderEnd) -> None:
    taken: list[str] = []
    receiver.take_judged = lambda token, outcome: taken.append(outcome)
    recorder.judged("f" * 32, "1" * REFERENCES_MAX)
    receiver.receive()
    assert taken == ["1" * REFERENCES_MAX]
