"""A request for storage commitment is judged when the log is applied so far, and ends reported or parked."""

from dataclasses import replace

import pytest

from db import commitments, intake
from db.commitments import (
    commitment_not_reported,
    commitment_reported,
    due_commitments,
    judge_commitments,
    record_commitment,
    report_apart,
    resume_commitments,
    seconds_to_next,
    unreported_commitments,
)
from db.records import AskedCommitment, Mark
from db.timeline import events_of

MR = "1.2.840.10008.5.1.4.1.1.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
HELD, ALSO_HELD, MISSING = "1.2.1.9.1", "1.2.1.9.2", "1.2.1.9.99"
ASKED = AskedCommitment(
    "t1", "PACS1", "10.0.0.1", "1.7.1", ((MR, HELD), (CT, ALSO_HELD), (MR, MISSING)), 100.0
)


def place(epoch: int, offset: int) -> Mark:
    return Mark("instances", 1, epoch, offset)


def judged(db, *, leave_seconds: float = 20.0) -> list[str]:
    return [each.outcome for each in judge_commitments(db, place(9, 0), leave_seconds=leave_seconds)]


def failed(db, token: str = "t1", *, tries_max: int = 2) -> bool:
    return commitment_not_reported(
        db, token, "no answer", tries_max=tries_max, first_wait_seconds=30, wait_seconds_max=600
    )


def lines(db, study_id: int) -> list[str]:
    return [event.text for event in events_of(db, study_id) if event.kind == "commitment"]


def test_each_instance_is_held_missing_or_of_another_class(db, life) -> None:
    study = life.receive()
    record_commitment(db, ASKED, place(1, 5000))
    assert judged(db) == ["021"]
    assert judged(db) == []
    assert lines(db, study.id) == [
        "PACS1 asks for storage commitment of 3 instances, 2 of them not held here"
    ]


def test_request_waits_until_the_log_is_applied_to_where_it_stands(db, life) -> None:
    record_commitment(db, ASKED, place(3, 5000))
    for applied in (place(2, 9000), place(3, 4999)):
        assert judge_commitments(db, applied, leave_seconds=20) == []
    life.receive()  # acknowledged before the request, in the rows only now
    (found,) = judge_commitments(db, place(3, 5000), leave_seconds=20)
    assert found.outcome[0] == "0"


def test_recorded_again_by_a_replay_it_is_one_request(db, life) -> None:
    study = life.receive()
    for _ in range(2):
        record_commitment(db, ASKED, place(1, 5000))
    assert judged(db) == ["021"]
    record_commitment(db, ASKED, place(1, 5000))
    assert judged(db) == []
    assert len(lines(db, study.id)) == 1


def test_bytes_put_aside_are_not_held_for_their_sender_and_are_for_the_first(db, received) -> None:
    first, other = received(sop=HELD), received(sop=HELD, content="other", calling_ae="PACS2")
    intake.record_batch(db, [first, other], place(1, 5000))
    for token, source_ae in (("t1", "PACS1"), ("t2", "PACS2")):
        asked = replace(ASKED, token=token, source_ae=source_ae, references=((MR, HELD),))
        record_commitment(db, asked, place(1, 5000))
    assert judged(db) == ["0", "1"]


def test_report_is_left_to_the_association_of_the_request_first(db, clock) -> None:
    record_commitment(db, ASKED, place(1, 5000))
    judged(db, leave_seconds=20)
    assert due_commitments(db, limit=9) == []
    assert seconds_to_next(db) == 20
    clock.pass_seconds(20)
    (due,) = due_commitments(db, limit=9)
    assert (due.transaction_uid, due.references, due.outcome) == ("1.7.1", ASKED.references, "111")


def test_report_that_the_association_did_not_take_is_due_at_once(db) -> None:
    record_commitment(db, ASKED, place(1, 5000))
    report_apart(db, "t1")  # not judged yet: nothing to report
    judged(db)
    report_apart(db, "t1")
    assert len(due_commitments(db, limit=9)) == 1


def test_reported_request_is_gone_and_told(db, life) -> None:
    study = life.receive()
    record_commitment(db, ASKED, place(1, 5000))
    judged(db)
    commitment_reported(db, "t1")
    commitment_reported(db, "t1")
    assert not failed(db)
    assert unreported_commitments(db) == []
    assert seconds_to_next(db) is None
    assert lines(db, study.id)[-1] == "PACS1 has the report of its storage commitment"


def test_failed_report_waits_longer_each_time_then_is_parked_and_told(db, life, clock) -> None:
    study = life.receive()
    record_commitment(db, ASKED, place(1, 5000))
    judged(db)
    waits = []
    for _ in range(3):
        assert not failed(db, tries_max=4)
        waits.append(seconds_to_next(db))
    assert waits == [30, 60, 120]
    assert failed(db, tries_max=4)
    clock.pass_seconds(1e6)
    assert due_commitments(db, limit=9) == []
    (parked,) = unreported_commitments(db)
    assert (parked.is_parked, parked.attempts, parked.last_error) == (True, 4, "no answer")
    assert lines(db, study.id)[-1] == "PACS1 cannot be told of its storage commitment: no answer"


def test_next_start_makes_everything_due_with_all_tries_again(db) -> None:
    for token in ("t1", "t2"):
        record_commitment(db, replace(ASKED, token=token), place(1, 5000))
    record_commitment(db, replace(ASKED, token="t3"), place(9, 5000))  # not judged yet
    judged(db)
    assert failed(db, tries_max=1)
    resume_commitments(db)
    due = due_commitments(db, limit=9)
    assert sorted((each.token, each.attempts, each.is_parked) for each in due) == [
        ("t1", 0, False),
        ("t2", 0, False),
    ]


def test_one_peer_cannot_fill_the_tables(db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitments, "KEPT_INSTANCES_MAX", 7)
    record_commitment(db, replace(ASKED, token="other", source_ae="PACS2"), place(1, 5000))
    for number in range(4):
        record_commitment(db, replace(ASKED, token=f"t{number}"), place(1, 5000))
    judged(db)
    assert [each.token for each in unreported_commitments(db)] == ["other", "t2", "t3"]
