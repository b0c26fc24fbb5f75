"""Dropping finished studies, and when the segments of their bytes may be used again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from db import instances, intake, results, retention, segments
from db.records import Location, Mark
from db.spool import SpoolWriter
from db.timeline import recent_events
from db.worklist import study as study_view


def _finish(life, study_uid: str, **options) -> int:
    life.whole(study_uid, **options)
    life.plan("brain")
    life.commit(life.claim())
    return life.study(study_uid).id


def _move_mark(db, epoch: int) -> None:
    intake.record_batch(db, [], Mark("instances", epoch, epoch, 4096))


def test_finished_studies_come_oldest_first_with_their_bytes(db, life, clock) -> None:
    old = _finish(life, "1.2.1")
    clock.pass_seconds(100)
    young = _finish(life, "1.2.2")
    life.whole("1.2.3")
    found = retention.finished_studies(db, clock.now + 1)
    assert [(f.study_id, f.study_uid, f.stored_bytes) for f in found] == [
        (old, "1.2.1", 2 * 900 + 2 * 50),
        (young, "1.2.2", 2 * 900 + 2 * 50),
    ]
    assert [f.study_id for f in retention.finished_studies(db, clock.now)] == [old]
    assert len(retention.finished_studies(db, clock.now + 1, limit=1)) == 1


def test_forgotten_study_is_gone_with_all_its_rows_and_leaves_one_nameless_line(db, life, received) -> None:
    first = received(PatientName="DOE^J")
    intake.record_batch(db, [first, received(sop=first.sop_uid, content="other")], None)
    intake.close_study(db, life.study().id, 1, how="quiet", partial=False, evidence_text="-")
    life.plan("brain")
    life.commit(life.claim(), destinations=("PACS1",))
    study_id = life.study().id
    claim = results.claim_delivery(db, worker="w", lease_seconds=60)
    assert retention.forget_study(db, study_id) is None
    assert claim is not None
    while claim is not None:
        results.settle_delivery(db, claim, status="delivered", detail="", tries_max=3)
        claim = results.claim_delivery(db, worker="w", lease_seconds=60)
    assert retention.forget_study(db, study_id) == [("instances", 1, 1), ("results-1", 1, 1)]
    assert study_view(db, "1.2.1") is None
    assert instances.instance_by_uid(db, first.sop_uid) == []
    assert results.results_of(db, study_id=study_id) == []
    (event,) = recent_events(db)
    assert (event.study_id, event.text) == (None, "a finished study of 1 image was dropped by retention")
    assert retention.forget_study(db, study_id) is None


def test_study_that_lives_is_not_forgotten(db, life) -> None:
    study = life.receive()
    assert retention.forget_study(db, study.id) is None
    intake.close_study(db, study.id, 1, how="quiet", partial=False, evidence_text="-")
    assert retention.forget_study(db, study.id) is None
    life.plan("brain")
    assert retention.forget_study(db, study.id) is None
    assert life.study().instances == 2


def test_running_job_of_an_older_revision_keeps_a_study(db, life) -> None:
    claim = life.analysing()
    study = life.receive(images=1)
    intake.close_study(db, study.id, 2, how="quiet", partial=False, evidence_text="-")
    life.plan()
    assert life.study().state == "done"
    assert retention.forget_study(db, study.id) is None
    life.commit(claim)
    assert retention.forget_study(db, study.id) is not None


def test_segment_is_retired_only_when_no_row_points_into_it(db, life) -> None:
    one = _finish(life, "1.2.1", epoch=1, segment=1)
    two = _finish(life, "1.2.2", epoch=1, segment=1)
    _move_mark(db, 2)
    retention.forget_study(db, one)
    assert segments.retire_segments(db, "instances") == []
    retention.forget_study(db, two)
    assert segments.retire_segments(db, "instances") == [(1, 1)]
    assert segments.take_retired(db, "instances") == [(1, 1)]
    assert segments.segments_in_use(db, "instances") == {2}


def test_segment_at_or_behind_the_mark_is_never_retired(db, life) -> None:
    """There may be bytes in it that were acknowledged and have no rows yet."""
    study = _finish(life, "1.2.1", epoch=5, segment=3)
    retention.forget_study(db, study)
    assert segments.retire_segments(db, "instances") == []
    _move_mark(db, 6)
    assert segments.retire_segments(db, "instances") == [(3, 5)]


def test_segment_that_holds_only_repeats_is_retired_too(db, life, received) -> None:
    item = received(epoch=1, segment=1)
    intake.record_batch(db, [item], None)
    intake.record_batch(db, [received(sop=item.sop_uid, epoch=2, segment=2)], None)
    _move_mark(db, 3)
    assert segments.retire_segments(db, "instances") == [(2, 2)]


def test_conflicts_keep_their_segment(db, life, received) -> None:
    item = received(epoch=2, segment=2)
    intake.record_batch(db, [item], None)
    intake.record_batch(db, [received(sop=item.sop_uid, content="x", epoch=1, segment=1)], None)
    _move_mark(db, 3)
    assert segments.retire_segments(db, "instances") == []


def test_retired_segment_is_offered_until_its_new_life_is_recorded(db, life, received) -> None:
    study = _finish(life, "1.2.1", epoch=1, segment=4)
    _move_mark(db, 2)
    retention.forget_study(db, study)
    segments.retire_segments(db, "instances")
    assert segments.take_retired(db, "instances") == segments.take_retired(db, "instances") == [(4, 1)]
    intake.record_batch(db, [received(study="1.2.2", epoch=3, segment=4)], None)
    assert segments.take_retired(db, "instances") == []
    assert segments.segments_in_use(db, "instances") == {2, 4}


def test_removed_file_s_segment_can_be_forgotten(db, life) -> None:
    study = _finish(life, "1.2.1", epoch=1, segment=4)
    _move_mark(db, 2)
    retention.forget_study(db, study)
    segments.retire_segments(db, "instances")
    segments.forget_retired(db, "instances", [(4, 1), (2, 2)])
    assert segments.take_retired(db, "instances") == []
    assert segments.segments_in_use(db, "instances") == {2}


def test_result_segments_before_those_of_the_last_commit_are_retired(db, life) -> None:
    for n, epoch in ((1, 1), (2, 2)):
        life.whole(f"1.2.{n}")
        life.plan("brain")
        claim = life.claim()
        at = Location("results-1", epoch, epoch, 4096, 50)
        life.commit(claim, results=[life.new_result(claim, location=at)], deliveries=[])
    for n in (1, 2):
        retention.forget_study(db, life.study(f"1.2.{n}").id)
    assert segments.retire_segments(db, "results-1") == [(1, 1)]
    assert "results-1" in segments.stores_in_use(db)


def test_record_that_must_stay_is_moved_forward_and_frees_its_segment(db, life, received) -> None:
    gone = _finish(life, "1.2.1", epoch=1, segment=1, images=3)
    life.receive("1.2.2", epoch=1, segment=1, images=1)
    _move_mark(db, 2)
    retention.forget_study(db, gone)
    assert segments.kept_bytes(db, "instances") == {(1, 1): 900}
    (kept,) = segments.kept_records(db, "instances", 1, 1)
    assert kept.kind == "instance"
    copy = Location("kept", 1, 1, 4096, 900)
    stale = replace(kept, location=replace(kept.location, offset=1))
    assert segments.relocate(db, [(kept, copy), (stale, copy), (kept, copy)]) == 1
    (moved,) = instances.instances_of(db, life.study("1.2.2").id)
    assert moved.location == copy
    assert segments.retire_segments(db, "instances") == [(1, 1)]
    assert segments.segments_in_use(db, "kept") == {1}


def test_bytes_are_found_through_their_rows_until_their_segment_has_a_new_life(
    db, life, received, tmp_path: Path
) -> None:
    """The whole circle with real segments: append, record, forget, retire, recycle."""
    store = instances.ByteStore(tmp_path)

    def lives() -> list[tuple[int, int]]:
        return segments.take_retired(db, "instances")

    def append(writer: SpoolWriter, study: str, payload: bytes) -> Location:
        location = writer.append(b"{}", [payload], len(payload))
        writer.commit()
        mark = writer.committed
        item = replace(received(study=study), location=location)
        intake.record_batch(db, [item], mark)
        return location

    payload = b"x" * 20_000
    open_writer: Callable[[], SpoolWriter] = lambda: SpoolWriter(  # noqa: E731
        tmp_path, store="instances", segment_bytes=1 << 17, take_retired=lives, ahead=0
    )
    with open_writer() as writer:
        first = append(writer, "1.2.1", payload)
        assert store.read(first) == payload
        assert store.read_with_meta(first) == (b"{}", payload)
        intake.close_study(db, life.study().id, 1, how="quiet", partial=False, evidence_text="-")
        life.plan()
        retention.forget_study(db, life.study().id)
        assert segments.retire_segments(db, "instances") == []
        kept = []
        while not kept or kept[-1].segment == first.segment:
            kept.append(append(writer, "1.2.2", payload))
        assert segments.retire_segments(db, "instances") == []
        study = life.study("1.2.2")
        intake.close_study(db, study.id, 1, how="quiet", partial=False, evidence_text="-")
        life.plan()
        last = append(writer, "1.2.3", payload)
        retention.forget_study(db, study.id)
        assert segments.retire_segments(db, "instances") == [(first.segment, first.epoch)]
        after = last
        while after.segment != first.segment:
            after = append(writer, "1.2.3", payload)
            assert after.epoch < 10
    assert store.read(last) == payload
    assert store.read(after) == payload
    with pytest.raises(instances.BytesMissing):
        store.read(first)
    assert lives() == []
