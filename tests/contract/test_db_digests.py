"""Digests that are made after the rows, and made at once where something comes again, on both databases."""

import hashlib
from dataclasses import replace

import pytest

from db import instances, intake
from db.digests import keep_digests, without_digest
from db.records import BatchOutcome, Location, ReceivedInstance


def later(item: ReceivedInstance) -> ReceivedInstance:
    return replace(item, sha256="")


class Spool:
    """What lies where, by digest, and what was read."""

    def __init__(self, *items: ReceivedInstance) -> None:
        self.digests: dict[Location, str | None] = {item.location: item.sha256 for item in items}
        self.read: list[Location] = []

    def __call__(self, location: Location) -> str | None:
        self.read.append(location)
        return self.digests[location]


def test_rows_without_a_digest_are_found_in_order_and_get_theirs(db, received, life) -> None:
    items = [received(), received(), received()]
    intake.record_batch(db, [later(items[0]), items[1], later(items[2])], None)
    waiting = without_digest(db, after_id=0, limit=10)
    assert [location for _, location in waiting] == [items[0].location, items[2].location]
    first = waiting[0][0]
    assert without_digest(db, after_id=first, limit=10) == waiting[1:]
    assert without_digest(db, after_id=0, limit=1) == waiting[:1]
    keep_digests(db, {first: items[0].sha256, 999_999: "of a row that is gone"})
    assert without_digest(db, after_id=0, limit=10) == waiting[1:]
    kept = {row.sop_uid: row.sha256 for row in instances.instances_of(db, life.study().id)}
    assert kept == {
        items[0].sop_uid: items[0].sha256,
        items[1].sop_uid: items[1].sha256,
        items[2].sop_uid: "",
    }


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize("kept_has_one", [True, False])
def test_instance_that_comes_again_is_judged_by_its_bytes(
    db, received, life, in_one_batch: bool, kept_has_one: bool
) -> None:
    first = received()
    same = replace(received(sop=first.sop_uid), sha256=first.sha256)
    other = received(sop=first.sop_uid, content="other bytes")
    spool = Spool(first, same, other)
    batches = [[first if kept_has_one else later(first)], [later(same)], [later(other)], [later(other)]]
    if in_one_batch:
        batches = [[item for batch in batches for item in batch]]
    outcomes = [intake.record_batch(db, batch, None, digest_of=spool) for batch in batches]
    assert sum(o.new for o in outcomes) == 1
    assert sum(o.conflicts for o in outcomes) == 1
    assert sum(o.repeated for o in outcomes) == 2
    (conflict,) = instances.conflicts_of(db, life.study().id)
    assert (conflict.location, conflict.sha256) == (
        other.location,
        hashlib.sha256(b"other bytes").hexdigest(),
    )


def test_replay_of_the_same_records_reads_no_bytes(db, received) -> None:
    items = [later(received()), later(received())]
    spool = Spool()
    assert intake.record_batch(db, items, None, digest_of=spool) == BatchOutcome(2, 0, 0)
    assert intake.record_batch(db, items, None, digest_of=spool) == BatchOutcome(0, 2, 0)
    assert spool.read == []


def test_what_comes_again_when_the_first_bytes_are_gone_is_kept_aside(db, received, life) -> None:
    first = received()
    again = replace(received(sop=first.sop_uid), sha256=first.sha256)
    spool = Spool(first, again)
    spool.digests[first.location] = None
    intake.record_batch(db, [later(first)], None, digest_of=spool)
    assert intake.record_batch(db, [later(again)], None, digest_of=spool) == BatchOutcome(0, 0, 1)
    (conflict,) = instances.conflicts_of(db, life.study().id)
    assert conflict.location == again.location


def test_instance_without_digest_and_without_bytes_at_hand_is_an_error(db, received) -> None:
    first = later(received())
    again = later(received(sop=first.sop_uid))
    intake.record_batch(db, [first], None)
    with pytest.raises(ValueError, match="no way to make one"):
        intake.record_batch(db, [again], None)
