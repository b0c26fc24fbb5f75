"""Notices are one row each in any order and number of times, are told once, and go with their study."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from db import retention, tables
from db.notices import (
    KEPT_MAX,
    KEPT_UNKNOWN_MAX,
    held_uids,
    merged,
    notices_of_receiving,
    record_notice,
    unified_step_state,
)
from db.records import ReceivedNotice
from db.timeline import events_of

BEGUN = ReceivedNotice("mpps", "in_progress", "1.7.1", "1.2.1", "SCANNER", "10.0.0.7", 100.0, {})
ENDED = replace(
    BEGUN,
    state="completed",
    study_uid="",
    received_at=200.0,
    named={"1.2.1.1": ("9.1", "9.2"), "1.2.1.2": ("9.3",)},
)
TOLD = "SCANNER: procedure step completed: 3 instances in 2 series"


def told(db, study_id: int) -> list[str]:
    return [event.text for event in events_of(db, study_id) if event.kind == "stated"]


def kept(db) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(tables.NOTICE)).scalar_one())


def test_step_is_one_notice_from_its_begin_to_its_end(db, life) -> None:
    study = life.receive()
    record_notice(db, BEGUN)
    assert notices_of_receiving(db) == {"1.2.1": [BEGUN]}
    record_notice(db, ENDED)
    assert notices_of_receiving(db) == {"1.2.1": [replace(ENDED, study_uid="1.2.1")]}
    assert told(db, study.id) == ["SCANNER: procedure step in progress", TOLD]
    assert {event.source for event in events_of(db, study.id) if event.kind == "stated"} == {"SCANNER"}


@pytest.mark.parametrize("order", [(ENDED, BEGUN), (BEGUN, ENDED, BEGUN, ENDED), (ENDED, ENDED, BEGUN)])
def test_notices_again_or_in_another_order_end_the_same(db, life, order) -> None:
    life.receive()
    for notice in order:
        record_notice(db, notice)
    (found,) = notices_of_receiving(db)["1.2.1"]
    assert (found.state, found.study_uid, found.named) == ("completed", "1.2.1", ENDED.named)
    assert told(db, life.study().id).count(TOLD) == 1


def test_notice_before_its_study_is_told_when_the_study_comes(db, life) -> None:
    record_notice(db, BEGUN)
    record_notice(db, ENDED)
    assert notices_of_receiving(db) == {}
    study = life.receive()
    assert [notice.state for notice in notices_of_receiving(db)["1.2.1"]] == ["completed"]
    assert told(db, study.id) == [TOLD]
    notices_of_receiving(db)
    assert told(db, study.id) == [TOLD]


def test_notice_after_the_end_says_what_is_not_here(db, life) -> None:
    study = life.whole()
    (held, *_) = sorted(held_uids(db, study.id)["1.2.1.1"])
    record_notice(db, replace(ENDED, study_uid="1.2.1", named={"1.2.1.1": (held, "9.8")}))
    record_notice(db, replace(ENDED, study_uid="1.2.1", sop_uid="1.7.2", named={"1.2.1.1": (held,)}))
    assert told(db, study.id) == [
        "SCANNER: procedure step completed: 2 instances in 1 series, 1 of them not here",
        "SCANNER: procedure step completed: 1 instance in 1 series, all here",
    ]


def test_nobody_changes_what_another_peer_stated(db, life) -> None:
    life.receive()
    record_notice(db, BEGUN)
    record_notice(db, replace(ENDED, source_ae="OTHER", study_uid="1.2.1"))
    states = {notice.source_ae: notice.state for notice in notices_of_receiving(db)["1.2.1"]}
    assert states == {"SCANNER": "in_progress", "OTHER": "completed"}


def test_held_are_the_instances_without_our_own(db, life) -> None:
    study = life.receive(images=3)
    life.receive(images=1, own=True, series="1.2.1.99")
    assert len(held_uids(db, study.id)["1.2.1.1"]) == 3


def test_one_peer_cannot_fill_the_table(db, life) -> None:
    life.receive()
    for number in range(KEPT_MAX + 3):
        record_notice(db, replace(BEGUN, sop_uid=f"1.7.{number}"))
    assert kept(db) == KEPT_MAX
    newest = notices_of_receiving(db)["1.2.1"][-1]
    assert newest.sop_uid == f"1.7.{KEPT_MAX + 2}"


def test_notices_of_studies_that_never_come_are_bounded(db) -> None:
    with db.write() as conn:
        row = {"kind": "ian", "source_ae": "PACS", "state": "available", "named": {}, "address": "10.0.0.1"}
        rows = [
            {**row, "sop_uid": f"1.8.{n}", "study_uid": f"1.9.{n}", "received_at": 0.0, "told": False}
            for n in range(KEPT_UNKNOWN_MAX)
        ]
        conn.execute(sa.insert(tables.NOTICE), rows)
    record_notice(db, BEGUN)
    assert kept(db) == KEPT_UNKNOWN_MAX


def test_notices_go_with_their_study(db, life) -> None:
    life.whole("1.2.1")
    life.plan("brain")
    life.commit(life.claim())
    record_notice(db, BEGUN)
    assert kept(db) == 1
    assert retention.forget_study(db, life.study("1.2.1").id) is not None
    assert kept(db) == 0


PUSHED = ReceivedNotice(
    *("ups", "input_incomplete", "1.7.5", "1.2.1", "MANAGER", "10.0.0.9", 100.0), {"1.2.1.1": ("9.1", "9.2")}
)
CANCELED = replace(PUSHED, state="canceled", study_uid="", named={})


def test_step_that_was_pushed_is_replaced_when_it_is_pushed_again_until_it_is_cancelled(db, life) -> None:
    study = life.receive()
    ready = replace(PUSHED, state="input_ready", named={"1.2.1.1": ("9.1",)})
    assert unified_step_state(db, "MANAGER", "1.7.5") is None
    for message in (PUSHED, ready):
        record_notice(db, message)
        assert notices_of_receiving(db) == {"1.2.1": [message]}
        assert unified_step_state(db, "MANAGER", "1.7.5") == message.state
    record_notice(db, CANCELED)
    record_notice(db, PUSHED)
    assert unified_step_state(db, "MANAGER", "1.7.5") == "canceled"
    assert unified_step_state(db, "OTHER", "1.7.5") is None
    assert unified_step_state(db, "MANAGER", "1.7.6") is None
    assert told(db, study.id) == [
        "MANAGER: unified procedure step, its input incomplete: 2 instances in 1 series",
        "MANAGER: unified procedure step, its input ready: 1 instance in 1 series",
        "MANAGER: unified procedure step canceled: 1 instance in 1 series",
    ]


PUSHES = st.lists(
    st.builds(
        replace,
        st.just(PUSHED),
        state=st.sampled_from(["input_ready", "input_incomplete", "input_unavailable", "canceled"]),
        study_uid=st.sampled_from(["", "1.2.1", "1.2.2"]),
        named=st.dictionaries(st.just("1.1"), st.sampled_from([("9.1",), ("9.1", "9.2")])),
    ).map(lambda pushed: replace(pushed, study_uid="", named={}) if pushed.state == "canceled" else pushed),
    min_size=1,
    max_size=5,
)
MESSAGES = st.lists(
    st.builds(
        ReceivedNotice,
        kind=st.just("mpps"),
        state=st.sampled_from(["in_progress", "in_progress", "completed", "discontinued"]),
        sop_uid=st.just("1.7.1"),
        study_uid=st.sampled_from(["", "1.2.1"]),
        source_ae=st.just("SCANNER"),
        address=st.just("10.0.0.7"),
        received_at=st.floats(0, 100),
        named=st.dictionaries(
            st.sampled_from(["1.1", "1.2"]), st.lists(st.sampled_from(["9.1", "9.2"]), min_size=1).map(tuple)
        ),
    ),
    min_size=1,
    max_size=5,
)


def after(messages: list[ReceivedNotice], known: ReceivedNotice | None = None) -> ReceivedNotice:
    for message in messages:
        known = message if known is None else merged(known, message)
    assert known is not None
    return known


@given(MESSAGES, st.integers(0, 4))
def test_replaying_the_end_of_the_log_changes_nothing(messages: list[ReceivedNotice], back: int) -> None:
    once = after(messages)
    assert after(messages[back:], once).state == once.state
    if once.state in ("completed", "discontinued"):
        assert after(messages[back:], once) == once


@given(MESSAGES)
def test_a_step_that_ended_stays_ended_as_it_was(messages: list[ReceivedNotice]) -> None:
    ends = [n for n, message in enumerate(messages) if message.state in ("completed", "discontinued")]
    found = after(messages)
    if ends:
        assert found.state == messages[ends[0]].state
        assert found.named == after(messages[: ends[0] + 1]).named
    else:
        assert found.state == "in_progress"
    assert found.study_uid == max(message.study_uid for message in messages)


@given(PUSHES, st.integers(0, 4))
def test_a_pushed_step_says_what_was_said_last_before_it_was_cancelled_in_any_replay(
    messages: list[ReceivedNotice], back: int
) -> None:
    once = after(messages)
    assert after(messages[back:], once) == once
    states = [message.state for message in messages]
    if "canceled" not in states:
        assert once == messages[-1]
    else:
        said = messages[: states.index("canceled")]
        assert (once.state, once.named) == ("canceled", said[-1].named if said else {})
