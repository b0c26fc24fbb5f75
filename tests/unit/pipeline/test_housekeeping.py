"""What the clock does: old studies go, their space comes back, parked deliveries are named."""

import pytest
from pipeline_node import breast_image

from db import jobs
from db.instances import ByteStore, instances_of
from db.records import WorkerRecord
from db.retention import finished_studies
from db.segments import segments_in_use
from db.workers import beat, list_workers
from pipeline.housekeeping import Housekeeping, forget_silent_workers, report_parked
from pipeline.result_store import ResultStore

DAY = 86400.0


@pytest.fixture
def store(node):
    made = ResultStore(node.settings.spool_folder, node.database)
    yield made
    made.close()


@pytest.fixture
def housekeeping(node, store):
    def make(**rules):
        retention = node.settings.retention.model_copy(update=rules)
        return Housekeeping(node.settings.model_copy(update={"retention": retention}), store)

    return make


def finish(node, study_uid, *, but=None):
    """Let a study end as not analysed, so that retention may look at it; `but` stays at work."""
    claim = jobs.claim_next(node.database, worker="t", lease_seconds=60)
    if claim.study_uid == but:
        claim = jobs.claim_next(node.database, worker="t", lease_seconds=60)
    assert claim.study_uid == study_uid
    jobs.finish_plan(node.database, claim, selections=[], analyse=[], reason_code="NO-MODEL", sentence="No.")


def studies(node):
    return [s.study_uid for s in finished_studies(node.database, node.database.now() + DAY)]


@pytest.fixture
def three(node):
    """Three finished studies, each received on its own."""
    uids = ["1.2.1", "1.2.2", "1.2.3"]
    for uid in uids:
        node.receive([breast_image(uid)])
        finish(node, uid)
    return uids


def test_young_studies_stay(node, three, housekeeping):
    done = housekeeping(days=1, disk_percent_max=99).retain(node.database)
    assert done.dropped == ()
    assert studies(node) == three


def test_studies_older_than_the_limit_are_dropped(node, three, housekeeping):
    done = housekeeping(days=1e-9, disk_percent_max=99).retain(node.database)
    assert [study.study_uid for study in done.dropped] == three
    assert studies(node) == []


def test_dry_run_names_what_would_go_and_drops_nothing(node, three, housekeeping):
    done = housekeeping(days=1e-9, disk_percent_max=99, dry_run=True).retain(node.database)
    assert [study.study_uid for study in done.dropped] == three
    assert studies(node) == three


def test_oldest_go_first_when_the_disk_is_above_its_mark(node, three, housekeeping, monkeypatch):
    stored = finished_studies(node.database, node.database.now() + DAY)[0].stored_bytes

    class Usage:
        total, used = 100 * stored, 50 * stored + stored // 2

    monkeypatch.setattr("pipeline.housekeeping.shutil.disk_usage", lambda _: Usage)
    done = housekeeping(days=1, disk_percent_max=50).retain(node.database)
    assert [study.study_uid for study in done.dropped] == three[:1]


def test_study_still_at_work_is_never_dropped(node, housekeeping):
    node.receive([breast_image("1.2.1")])
    assert housekeeping(days=1e-9).retain(node.database).dropped == ()


def test_space_of_dropped_studies_comes_back_and_what_stays_is_moved_unharmed(node, housekeeping, store):
    # Small segments: the one that holds the study at work holds little else that stays.
    uids = [f"1.2.{n}" for n in range(1, 15)]
    for uid in uids:
        node.receive([breast_image(uid)], segment_bytes=1 << 18)
    for uid in uids:
        if uid != "1.2.3":
            finish(node, uid, but="1.2.3")
    stored = ByteStore(node.settings.spool_folder)
    (before,) = instances_of(node.database, node.view("1.2.3").study.id)
    raw = stored.read(before.location)
    done = housekeeping(days=1e-9, disk_percent_max=99).retain(node.database)
    assert len(done.dropped) == 13
    assert done.moved == 1
    assert done.retired >= 1
    assert before.location.segment not in segments_in_use(node.database, "instances")
    (after,) = instances_of(node.database, node.view("1.2.3").study.id)
    assert after.location.store == store.name
    assert stored.read(after.location) == raw


def test_moved_records_are_read_at_their_new_place(node, store):
    from db.segments import kept_records

    node.receive([breast_image("1.2.1")])
    (instance,) = instances_of(node.database, node.view("1.2.1").study.id)
    raw = ByteStore(node.settings.spool_folder).read(instance.location)
    at = instance.location
    moved = store.move_here(kept_records(node.database, at.store, at.segment, at.epoch))
    assert moved == 1
    (instance,) = instances_of(node.database, node.view("1.2.1").study.id)
    assert instance.location.store == store.name
    assert ByteStore(node.settings.spool_folder).read(instance.location) == raw


def test_second_writer_takes_the_next_store_and_a_freed_one_is_taken_again(node, store):
    second = ResultStore(node.settings.spool_folder, node.database)
    assert (store.name, second.name) == ("results-0", "results-1")
    second.close()
    third = ResultStore(node.settings.spool_folder, node.database)
    assert third.name == "results-1"
    third.close()


def test_silent_workers_are_forgotten(node, monkeypatch):
    beat(node.database, WorkerRecord(name="w", pid=1, host="h", device="cpu"))
    assert forget_silent_workers(node.database) == 0
    monkeypatch.setattr("pipeline.housekeeping.SILENT_SECONDS", -1.0)
    assert forget_silent_workers(node.database) == 1
    assert list_workers(node.database) == []


def test_no_parked_delivery_is_no_news(node):
    assert report_parked(node.database) == 0


def test_clock_starts_and_stops(node, store):
    housekeeping = Housekeeping(node.settings, store)
    housekeeping.start()
    housekeeping.stop()
