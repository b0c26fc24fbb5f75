"""An archive is asked twice, later again, never in a flood; of its answer only what can come here counts."""

import select
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.identity import own_uid
from config.settings import PeerSettings
from listener.completeness import Count
from listener.evidence import (
    AGAIN_SECONDS,
    Answer,
    Asking,
    Inquiries,
    answered,
    due_at,
    expected_of,
    renewed,
    unanswered,
)
from listener.peers import CountedSeries, NotCounted

HELD = {"1.1": 5, "1.2": 3}
PACS = PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, ask_counts=True)


def test_archive_that_fits_is_asked_twice_within_the_quiet_period() -> None:
    asking = Asking(100.0)
    assert due_at(asking, 300) == 105
    asking = answered(asking, "PACS", HELD, HELD, 106)
    assert asking.count == Count("PACS", HELD)
    assert due_at(asking, 300) == 116
    asking = answered(asking, "PACS", HELD, HELD, 117)
    assert asking.count == Count("PACS", HELD, is_stable=True)
    assert due_at(asking, 300) is None


def test_short_quiet_period_leaves_room_for_both_questions() -> None:
    first = due_at(Asking(100.0), 3)
    assert first == 101
    assert due_at(answered(Asking(100.0), "PACS", HELD, HELD, first), 3) == 102


def test_another_answer_begins_the_count_of_equal_ones_anew() -> None:
    asking = answered(Asking(0.0), "PACS", {"1.1": 4}, HELD, 1)
    asking = answered(asking, "PACS", HELD, HELD, 2)
    assert asking.count == Count("PACS", HELD, is_stable=False)


def test_new_instance_makes_the_count_a_statement_without_proof() -> None:
    asking = answered(answered(Asking(0.0), "PACS", HELD, HELD, 1), "PACS", HELD, HELD, 2)
    later = renewed(asking, 50.0)
    assert later.count == Count("PACS", HELD, is_stable=False)
    assert due_at(later, 300) == 55
    assert answered(later, "PACS", HELD, HELD, 56).count == Count("PACS", HELD, is_stable=False)


@given(st.integers(1, 40), st.floats(1, 1000))
def test_questions_that_settle_nothing_become_rare(times: int, quiet: float) -> None:
    asking, now = Asking(0.0), 0.0
    for _ in range(times):
        at = due_at(asking, quiet)
        assert at is not None
        assert at > now
        now = at
        asking = unanswered(asking, now) if times % 2 else answered(asking, "PACS", {"1.1": 9}, HELD, now)
    at = due_at(asking, quiet)
    assert at == now + min(AGAIN_SECONDS[1], AGAIN_SECONDS[0] * 2.0 ** (times - 1))


def test_failure_keeps_what_was_said_before() -> None:
    asking = answered(Asking(0.0), "PACS", {"1.1": 9}, HELD, 1)
    assert unanswered(asking, 2).count == asking.count


def test_no_question_while_one_is_under_way() -> None:
    assert due_at(replace(Asking(0.0), is_waiting=True), 30) is None


def test_own_results_and_mere_objects_are_not_expected() -> None:
    counted = [
        CountedSeries("1.1", "CT", 5),
        CountedSeries("1.3", "CT", 2),
        CountedSeries("1.4", "CT", 0),
        CountedSeries("1.5", "PR", 1),
        CountedSeries("1.2", "SR", 3),
        CountedSeries(own_uid(b"a series"), "SEG", 1),
        CountedSeries("1.6", "OT", 1),
    ]
    assert expected_of(counted, HELD, frozenset({"1.6"}), None) == {"1.1": 5, "1.3": 2, "1.2": 3}


def answer_of(inquiries: Inquiries) -> Answer:
    poll = select.poll()
    poll.register(inquiries.bell, select.POLLIN)
    assert poll.poll(30_000), "no answer"
    assert inquiries.silence()
    (answer,) = inquiries.answers()
    return answer


def test_answer_rings_and_says_what_was_asked() -> None:
    def ask(peer: PeerSettings, study_uid: str, *, calling_ae: str) -> tuple[CountedSeries, ...]:
        return (CountedSeries(f"{peer.name} {study_uid} {calling_ae}", "CT", 7),)

    inquiries = Inquiries("PREREAD", ask)
    assert not inquiries.silence()
    assert inquiries.ask("1.2", PACS, 5.0)
    answer = answer_of(inquiries)
    assert answer.counted == (CountedSeries("pacs 1.2 PREREAD", "CT", 7),)
    assert not inquiries.answers()


@pytest.mark.parametrize("error", [NotCounted("rejected us"), RuntimeError("of a library")])
def test_archive_that_fails_is_left_alone_for_a_while(error: Exception) -> None:
    asked = []

    def ask(peer: PeerSettings, study_uid: str, *, calling_ae: str) -> tuple[CountedSeries, ...]:
        asked.append(study_uid)
        raise error

    inquiries = Inquiries("PREREAD", ask)
    failures = []
    for study_uid in ("1.2", "1.3"):
        inquiries.ask(study_uid, PACS, 0.0)
        failures.append(answer_of(inquiries).failure)
    assert asked == ["1.2"]
    assert failures[0] in ("rejected us", "gave an answer that cannot be read")
    assert failures[1] == failures[0]


def test_asking_never_waits_for_an_archive_that_hangs() -> None:
    free = threading.Event()

    def ask(peer: PeerSettings, study_uid: str, *, calling_ae: str) -> tuple[CountedSeries, ...]:
        free.wait(30)
        return ()

    inquiries = Inquiries("PREREAD", ask)
    assert all(inquiries.ask(f"1.{n}", PACS, 0.0) for n in range(400))
    assert not inquiries.answers()
    free.set()
