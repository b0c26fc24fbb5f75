"""Instances becoming rows, and a whole study becoming one plan job, on both databases."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from db import instances, intake, jobs
from db.engine import Database
from db.records import BatchOutcome, Mark
from db.worklist import study as study_view

EVIDENCE: dict[str, Any] = {"how": "quiet", "partial": False, "evidence_text": "no image for 30 s"}


def _kinds(db: Database, study_uid: str = "1.2.1") -> list[str]:
    view = study_view(db, study_uid)
    assert view is not None
    return [event.kind for event in view.events]


def test_first_images_make_a_receiving_study_with_its_attributes(db, received, life, clock) -> None:
    items = [
        received(PatientName="DOE^J", StudyDescription="Brain", SeriesDescription="FLAIR", SeriesNumber="4"),
        received(series="1.2.1.2", Modality="SR", is_image=False),
    ]
    assert intake.record_batch(db, items, None) == BatchOutcome(new=2, repeated=0, conflicts=0)
    study = life.study()
    assert (study.state, study.revision, study.instances, study.received_bytes) == ("receiving", 1, 2, 1800)
    assert (study.patient_id, study.patient_name, study.description) == ("A1", "DOE^J", "Brain")
    assert study.modalities == ("MR", "SR")
    assert study.source_ae == "PACS1"
    assert study.last_received_at.timestamp() == clock.now
    first, second = instances.series_of(db, study.id)
    assert (first.modality, first.description, first.number, first.instances) == ("MR", "FLAIR", 4, 1)
    assert second.modality == "SR"
    stored = instances.instances_of(db, study.id)
    assert [(i.sop_uid, i.location, i.sha256) for i in stored] == [
        (i.sop_uid, i.location, i.sha256) for i in items
    ]
    assert stored[0].instance_number == 7


def test_rehearsal_leaves_nothing(db, received, life) -> None:
    intake.rehearse_batch(db)
    assert study_view(db, "2.25.3") is None
    assert instances.instance_by_uid(db, "2.25.1") == []
    assert intake.read_mark(db, "rehearsal") is None
    assert intake.record_batch(db, [received()], None) == BatchOutcome(1, 0, 0)


def test_replaying_a_batch_changes_nothing(db, received, life) -> None:
    items = [received(), received(), received(study="1.2.2")]
    items.append(replace(received(sop=items[0].sop_uid, content="other bytes")))
    items.append(received(sop=items[1].sop_uid))
    mark = Mark("instances", 1, 1, 90000)
    assert intake.record_batch(db, items, mark) == BatchOutcome(3, 1, 1)
    before = [study_view(db, uid) for uid in ("1.2.1", "1.2.2")]
    assert intake.record_batch(db, items, mark) == BatchOutcome(0, 5, 0)
    assert [study_view(db, uid) for uid in ("1.2.1", "1.2.2")] == before
    assert intake.read_mark(db, "instances") == mark


def test_batch_cut_at_any_point_and_replayed_gives_the_same_rows(db, received, life) -> None:
    items = [received(), received(), received(series="1.2.1.5"), received()]
    intake.record_batch(db, items[:3], None)
    intake.record_batch(db, items[1:], None)
    study = life.study()
    assert study.instances == 4
    assert [series.instances for series in instances.series_of(db, study.id)] == [3, 1]
    assert [i.sop_uid for i in instances.instances_of(db, study.id)] == [
        items[n].sop_uid for n in (0, 1, 3, 2)
    ]


def test_mark_never_moves_back(db, received) -> None:
    for epoch, offset in ((1, 500), (2, 100), (1, 900), (2, 50)):
        intake.record_batch(db, [received()], Mark("instances", 1, epoch, offset))
    assert intake.read_mark(db, "instances") == Mark("instances", 1, 2, 100)


def test_same_instance_with_other_bytes_is_kept_aside_and_the_first_stays(db, received, life) -> None:
    first = received()
    intake.record_batch(db, [first], None)
    other = received(sop=first.sop_uid, content="other", calling_ae="PACS2")
    assert intake.record_batch(db, [other], None) == BatchOutcome(0, 0, 1)
    again = received(sop=first.sop_uid, content="other", calling_ae="PACS2")
    assert intake.record_batch(db, [again], None) == BatchOutcome(0, 1, 0)
    study = life.study()
    assert [i.location for i in instances.instances_of(db, study.id)] == [first.location]
    conflict, *more = instances.conflicts_of(db, study.id)
    assert not more
    assert (conflict.location, conflict.sha256, conflict.calling_ae) == (
        other.location,
        other.sha256,
        "PACS2",
    )
    assert _kinds(db).count("conflict") == 1
    assert study.instances == 1


def test_uid_of_another_study_s_instance_is_recorded_in_both_and_shown(db, received, life) -> None:
    first = received()
    intake.record_batch(db, [first, received(study="1.2.2", sop=first.sop_uid, content="x")], None)
    assert life.study("1.2.2").instances == 1
    assert "conflict" in _kinds(db, "1.2.2")
    assert len(instances.instance_by_uid(db, first.sop_uid)) == 2


def test_sending_a_whole_study_again_makes_no_second_job(db, received, life) -> None:
    items = [received(), received()]
    intake.record_batch(db, items, None)
    study = life.study()
    intake.close_study(db, study.id, 1, **EVIDENCE)
    for _ in range(3):
        again = [received(sop=item.sop_uid) for item in items]
        assert intake.record_batch(db, again, None) == BatchOutcome(0, 2, 0)
    assert life.study().revision == 1
    assert len(jobs.list_jobs(db)) == 1
    assert _kinds(db).count("repeated") == 1


def test_repeat_does_not_restart_the_quiet_period(db, received, life, clock) -> None:
    item = received()
    intake.record_batch(db, [item], None)
    clock.pass_seconds(20)
    intake.record_batch(db, [received(sop=item.sop_uid)], None)
    (receiving,) = intake.receiving_studies(db)
    assert receiving.last_received_at == clock.now - 20


def test_late_image_opens_a_revision_and_supersedes_what_waits(db, received, life) -> None:
    study = life.whole()
    life.receive(images=1, calling_ae="PACS2")
    study = life.study()
    assert (study.state, study.revision, study.source_ae) == ("receiving", 2, "PACS2")
    (plan,) = jobs.list_jobs(db)
    assert (plan.state, plan.reason_code) == ("cancelled", "SUPERSEDED")
    assert intake.close_study(db, study.id, 2, **EVIDENCE)
    assert [(job.revision, job.state) for job in jobs.list_jobs(db)] == [(2, "queued"), (1, "cancelled")]
    stored = instances.instances_of(db, study.id)
    assert [i.revision for i in stored] == [1, 1, 2]
    assert instances.instances_of(db, study.id, revision=1) == stored[:2]
    assert "late" in _kinds(db)


def test_running_job_of_an_older_revision_may_finish_and_its_results_remain(db, life) -> None:
    claim = life.analysing("1.2.1", "brain", "breast")
    life.receive(images=1)
    waiting = [job for job in jobs.list_jobs(db) if job.model == "breast"]
    assert waiting[0].state == "cancelled"
    assert life.commit(claim)
    study = life.study()
    assert (study.state, study.revision, study.outcome) == ("receiving", 2, None)


def test_plan_of_an_older_revision_starts_nothing(db, life) -> None:
    life.whole()
    claim = life.claim()
    life.receive(images=1)
    assert jobs.finish_plan(db, claim, selections=[], analyse=[("brain", {})])
    assert [job.kind for job in jobs.list_jobs(db)] == ["plan"]
    assert life.study().state == "receiving"


def test_own_results_coming_back_are_kept_and_start_nothing(db, received, life) -> None:
    study = life.whole()
    echo = received(series="2.25.1", own=True, is_image=False, Modality="SEG")
    assert intake.record_batch(db, [echo], None).new == 1
    after = life.study()
    assert (after.revision, after.state, after.instances) == (1, "whole", study.instances)
    assert after.last_received_at == study.last_received_at
    assert "SEG" not in after.modalities
    assert len(instances.instances_of(db, study.id)) == 2
    assert len(instances.instances_of(db, study.id, own=True)) == 3
    assert [series.own for series in instances.series_of(db, study.id)] == [False, True]


def test_study_of_own_results_alone_is_visible_and_never_closed(db, received, life) -> None:
    intake.record_batch(db, [received(own=True, is_image=True)], None)
    study = life.study()
    assert (study.state, study.revision, study.outcome) == ("done", 0, "not_analysed")
    assert study.reason_code == "OWN-RESULTS"
    assert intake.receiving_studies(db) == []
    life.receive(images=1)
    assert (life.study().state, life.study().revision, life.study().outcome) == ("receiving", 1, None)


def test_late_report_of_others_is_kept_without_a_new_revision(db, received, life) -> None:
    life.whole()
    intake.record_batch(db, [received(Modality="KO", is_image=False)], None)
    study = life.study()
    assert (study.revision, study.state, study.instances) == (1, "whole", 3)


def test_receiving_studies_tell_what_completeness_needs(db, received, life, clock) -> None:
    life.receive()
    start = clock.now
    clock.pass_seconds(3)
    items = [received(series="1.2.1.2", Modality="US"), received(series="2.25.7", own=True, is_image=False)]
    intake.record_batch(db, items, None)
    (receiving,) = intake.receiving_studies(db)
    assert receiving.source_ae == "PACS1"
    assert (receiving.first_received_at, receiving.last_received_at) == (start, start + 3)
    assert [tuple(series) for series in receiving.series] == [
        ("1.2.1.1", "MR", 2, start),
        ("1.2.1.2", "US", 1, start + 3),
    ]


def test_deadline_of_a_late_revision_runs_from_its_own_first_image(db, life, clock) -> None:
    life.whole()
    clock.pass_seconds(100_000)
    began_at = clock.now
    life.receive(images=1)
    clock.pass_seconds(5)
    life.receive(images=1)
    (receiving,) = intake.receiving_studies(db)
    assert (receiving.first_received_at, receiving.last_received_at) == (began_at, clock.now)


def test_closing_makes_exactly_one_plan_job(db, life) -> None:
    study = life.receive()
    assert intake.close_study(db, study.id, 1, how="timeout", partial=True, evidence_text="12 hours passed")
    assert not intake.close_study(db, study.id, 1, **EVIDENCE)
    (plan,) = jobs.list_jobs(db)
    assert (plan.kind, plan.state, plan.revision) == ("plan", "queued", 1)
    assert plan.parameters == {"partial": True, "how": "timeout"}
    assert life.study().partial
    assert _kinds(db) == ["received", "whole", "queued"]


def test_closing_misses_when_another_image_came_first(db, life) -> None:
    study = life.whole()
    life.receive(images=1)
    assert not intake.close_study(db, study.id, 1, **EVIDENCE)


def test_asking_again_makes_the_next_revision_of_the_same_images(db, life) -> None:
    claim = life.analysing()
    life.commit(claim)
    assert life.study().outcome == "delivered"
    assert intake.requeue_study(db, "1.2.1", source="person at the page") == 2
    study = life.study()
    assert (study.state, study.revision, study.outcome) == ("whole", 2, None)
    plan = life.claim()
    assert (plan.kind, plan.revision) == ("plan", 2)
    assert len(instances.instances_of(db, study.id, revision=2)) == 2
    assert "asked_again" in _kinds(db)


def test_study_closed_as_partial_stays_partial_when_asked_again(db, life) -> None:
    study = life.receive()
    assert intake.close_study(db, study.id, 1, how="timeout", partial=True, evidence_text="1 missing")
    assert intake.requeue_study(db, "1.2.1") == 2
    assert life.study().partial
    assert [job.parameters["partial"] for job in jobs.list_jobs(db) if job.kind == "plan"] == [True, True]
    life.receive(images=1)
    assert not life.study().partial


def test_asking_again_is_refused_while_images_come_and_for_unknown_studies(db, received, life) -> None:
    life.receive()
    assert intake.requeue_study(db, "1.2.1") is None
    assert intake.requeue_study(db, "1.2.999") is None
    intake.record_batch(db, [received(study="1.2.5", own=True)], None)
    assert intake.requeue_study(db, "1.2.5") is None


def test_hostile_text_is_stored_not_fatal(db, received, life) -> None:
    item = received(
        PatientName="A\x00B\udc80C", Modality="M\\R", InstanceNumber="9e99999", SeriesNumber="99999999999"
    )
    assert intake.record_batch(db, [item, item], None).new == 1
    study = life.study()
    assert study.patient_name == "AB?C"
    assert study.modalities == ("MR",)
    assert instances.instances_of(db, study.id)[0].instance_number is None
    assert instances.series_of(db, study.id)[0].number is None


def test_uid_with_a_nul_is_the_same_instance_each_time(db, received) -> None:
    item = received(sop="1.2\x00.3")
    assert intake.record_batch(db, [item], None).new == 1
    assert intake.record_batch(db, [item], None).repeated == 1


def test_batch_larger_than_one_lookup_is_recorded_whole(db, received, life) -> None:
    items = [received() for _ in range(1100)]
    assert intake.record_batch(db, items, None).new == 1100
    assert intake.record_batch(db, items, None).repeated == 1100
    assert life.study().instances == 1100


@pytest.mark.parametrize(("point", "recorded"), [("K6", 0), ("K7", 0), ("K8", 1)])
def test_kill_around_the_transaction_leaves_all_of_it_or_nothing(
    database_url, db, received, life, point, recorded
) -> None:
    item = received()
    code = (
        "from db.engine import Database; from db.intake import record_batch; from db.records import *\n"
        f"record_batch(Database.open({database_url!r}), [{item!r}], Mark('instances', 1, 1, 9999))"
    )
    environment = {**os.environ, "PREREAD_KILL_POINT": point}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60)
    assert killed.returncode == 137
    assert len(instances.instance_by_uid(db, item.sop_uid)) == recorded
    assert (intake.read_mark(db, "instances") is not None) == bool(recorded)
    outcome = intake.record_batch(db, [item], Mark("instances", 1, 1, 9999))
    assert outcome == BatchOutcome(1 - recorded, recorded, 0)
    assert life.study().instances == 1


def test_refused_associations_are_counted_and_bounded(db, clock) -> None:
    reason = {"reason": "calling AE title unknown", "remedy": "Add it to peers."}
    for _ in range(3):
        intake.refuse_association(db, calling_ae="EVIL", called_ae="PREREAD", address="10.0.0.9", **reason)
        clock.pass_seconds(1)
    (refused,) = intake.list_refused(db)
    assert (refused.calling_ae, refused.count, refused.remedy) == ("EVIL", 3, "Add it to peers.")
    assert refused.last_at.timestamp() == clock.now - 1


def test_peer_that_tries_names_does_not_fill_the_table(db, monkeypatch) -> None:
    monkeypatch.setattr("db.refusals.KEPT_MAX", 5)
    for n in range(8):
        intake.refuse_association(
            db, calling_ae=f"AE{n}", called_ae="X", address="10.0.0.9", reason="unknown", remedy="none"
        )
    assert [refused.calling_ae for refused in intake.list_refused(db)] == ["AE7", "AE6", "AE5", "AE4", "AE3"]
