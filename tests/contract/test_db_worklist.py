"""What the page and the command line read, on both databases."""

import pytest

from db import intake, jobs, results, timeline, workers, worklist
from db.records import WorkerRecord


def _findings(headline: str, *, lesions: int = 0, urgent: bool = False, score: float = 0.5, **more):
    found = [{"number": n + 1, "score": score} for n in range(lesions)]
    return {"lesions": found, "headline": headline, "urgent": urgent, **more}


def _analysed(life, study_uid: str, findings, **options) -> None:
    life.whole(study_uid, **options)
    life.plan("brain")
    life.commit(life.claim(), findings=findings, destinations=("PACS1",))


def _send_all(db, status: str = "delivered") -> None:
    while (claim := results.claim_delivery(db, worker="s", lease_seconds=60)) is not None:
        results.settle_delivery(db, claim, status=status, detail="no", tries_max=3)


def _uids(db, **options) -> list[str]:
    return [row.study.study_uid for row in worklist.studies(db, **options)]


@pytest.fixture
def morning(db, life, clock):
    """One study of each fate, a minute apart, in this order."""
    _analysed(life, "1.2.1", _findings("no lesion"), AccessionNumber="A1001", PatientName="DOE^JANE")
    clock.pass_seconds(60)
    _analysed(life, "1.2.2", _findings("2 lesions", lesions=2), AccessionNumber="A1002")
    clock.pass_seconds(60)
    _analysed(life, "1.2.3", _findings("haemorrhage", lesions=1, urgent=True, score=0.9), PatientID="P_3")
    clock.pass_seconds(60)
    _send_all(db)
    life.whole("1.2.4")
    life.plan()
    clock.pass_seconds(60)
    life.whole("1.2.5")
    jobs.fail(db, life.claim(), error="disk full", remedy="Make room.", retry=False)
    clock.pass_seconds(60)
    life.receive("1.2.6")


def test_most_urgent_come_first_then_the_newest(db, morning) -> None:
    assert _uids(db) == ["1.2.3", "1.2.2", "1.2.6", "1.2.5", "1.2.4", "1.2.1"]
    assert _uids(db, limit=2, offset=1) == ["1.2.2", "1.2.6"]


@pytest.mark.parametrize(
    ("chip", "uids"),
    [
        ("attention", ["1.2.3", "1.2.5"]),
        ("findings", ["1.2.3", "1.2.2"]),
        ("none", ["1.2.1"]),
        ("not_analysed", ["1.2.4"]),
        ("failed", ["1.2.5"]),
        ("running", ["1.2.6"]),
    ],
)
def test_chip_shows_its_studies_and_counts_them(db, morning, chip, uids) -> None:
    assert _uids(db, chip=chip) == uids
    assert worklist.counts(db)[chip] == len(uids)


def test_counts_of_all_and_since(db, morning, clock) -> None:
    assert worklist.counts(db)["all"] == 6
    assert worklist.counts(db, since=clock.now)["all"] == 1
    assert _uids(db, since=clock.now - 60) == ["1.2.6", "1.2.5"]


def test_counts_of_nothing_are_zero(db) -> None:
    assert set(worklist.counts(db).values()) == {0}
    assert worklist.studies(db) == []


@pytest.mark.parametrize(
    ("search", "uids"),
    [
        ("a100", ["1.2.2", "1.2.1"]),
        (" jane ", ["1.2.1"]),
        ("P_3", ["1.2.3"]),
        ("P%3", []),
        ("1.2.4", ["1.2.4"]),
        ("1.2", []),
        ("'; DROP TABLE study", []),
    ],
)
def test_search_finds_accession_id_name_and_whole_uid(db, morning, search, uids) -> None:
    assert _uids(db, search=search) == uids


def test_line_says_what_was_found_and_how_far_it_went(db, morning) -> None:
    rows = {row.study.study_uid: row for row in worklist.studies(db)}
    urgent = rows["1.2.3"]
    assert (urgent.headline, urgent.urgent, urgent.has_findings, urgent.score) == (
        "haemorrhage",
        True,
        True,
        0.9,
    )
    assert (urgent.delivered, urgent.deliveries, urgent.destinations) == (2, 2, ("PACS1",))
    assert urgent.models == ("brain",)
    assert urgent.seconds == 60
    assert rows["1.2.1"].has_findings is False
    assert rows["1.2.6"].seconds is None
    assert (rows["1.2.5"].study.outcome, rows["1.2.5"].study.reason) == (
        "failed",
        "Planning the analysis failed: disk full. Make room.",
    )


def test_line_shows_the_stage_of_what_runs(db, life) -> None:
    life.whole()
    assert worklist.studies(db)[0].stage == "queued"
    claim = life.claim()
    assert worklist.studies(db)[0].stage == "running"
    jobs.set_stage(db, claim, "reading")
    assert worklist.studies(db)[0].stage == "reading"


def test_finding_stays_on_top_while_a_late_image_is_analysed(db, life) -> None:
    _analysed(life, "1.2.1", _findings("haemorrhage", lesions=1, urgent=True))
    life.receive("1.2.1", images=1)
    life.receive("1.2.2")
    first = worklist.studies(db)[0]
    assert (first.study.study_uid, first.urgent, first.study.state) == ("1.2.1", True, "receiving")
    assert first.deliveries == 0
    study = life.study()
    intake.close_study(db, study.id, 2, how="quiet", partial=False, evidence_text="-")
    life.plan("brain")
    life.commit(life.claim(), findings=_findings("no lesion"))
    again = {row.study.study_uid: row for row in worklist.studies(db)}["1.2.1"]
    assert (again.headline, again.urgent, again.has_findings) == ("no lesion", False, False)


def test_class_other_than_normal_is_a_finding(db, life) -> None:
    scores = {"malignant": 0.91, "normal": 0.02}
    _analysed(life, "1.2.1", {"class": "malignant", "scores": scores, "headline": "malignant 0.91"})
    _analysed(life, "1.2.2", {"class": "normal", "scores": {"normal": 0.97}, "headline": "normal"})
    rows = worklist.studies(db)
    assert [(row.has_findings, row.score) for row in rows] == [(True, 0.91), (False, 0.97)]


def test_study_view_holds_everything(db, life, received) -> None:
    item = received()
    intake.record_batch(db, [item, received(sop=item.sop_uid, content="x")], None)
    study = life.study()
    intake.close_study(db, study.id, 1, how="quiet", partial=False, evidence_text="1 image, quiet for 30 s")
    life.plan("brain")
    life.commit(life.claim(), destinations=("PACS1",))
    _send_all(db)
    view = worklist.study(db, "1.2.1")
    assert view is not None
    assert [job.kind for job in view.jobs] == ["plan", "analyse"]
    assert [result.kind for result in view.results] == ["SEG", "SR"]
    assert [delivery.state for delivery in view.deliveries] == ["delivered"] * 2
    assert len(view.conflicts) == len(view.series) == 1
    assert [event.kind for event in view.events] == [
        "received",
        "conflict",
        "whole",
        "queued",
        "claimed",
        "queued",
        "claimed",
        "results",
        "delivered",
        "delivered",
        "done",
    ]
    assert view.events[2].text == "whole: 1 image, quiet for 30 s"
    assert worklist.study(db, "1.2.77") is None
    assert worklist.study_uid_of(db, study.id) == "1.2.1"


def test_queue_shows_what_runs_waits_failed_and_is_parked(db, life, clock) -> None:
    _analysed(life, "1.2.1", _findings("x"))
    _send_all(db, "park")
    life.whole("1.2.2")
    jobs.fail(db, life.claim(), error="e", remedy="r", retry=False)
    life.whole("1.2.3")
    running = life.claim()
    life.whole("1.2.4")
    study = life.study("1.2.4")
    jobs.enqueue(db, "analyse", study.id, 1, "late", priority=9, run_after=clock.now + 30)
    workers.beat(db, WorkerRecord("gpu1", 1, "host", "cuda:0"))
    view = worklist.queue(db)
    assert [job.id for job in view.running] == [running.job_id]
    assert [(job.study_uid, job.model) for job in view.waiting] == [("1.2.4", "late"), ("1.2.4", None)]
    assert view.waiting[0].run_after is not None
    assert view.waiting_count == 2
    assert [job.study_uid for job in view.failed] == ["1.2.2"]
    assert [(p.study_uid, p.kind, p.model, p.delivery.last_error) for p in view.parked] == [
        ("1.2.1", "SEG", "brain", "no"),
        ("1.2.1", "SR", "brain", "no"),
    ]
    assert view.sending_count == 0
    assert [worker.name for worker in view.workers] == ["gpu1"]


def test_node_status_counts_and_names_peers(db, life, received, clock) -> None:
    life.receive("1.2.1")
    clock.pass_seconds(100_000)
    life.whole("1.2.2", calling_ae="PACS2", images=3)
    intake.refuse_association(db, calling_ae="X", called_ae="Y", address="z", reason="r", remedy="m")
    status = worklist.node_status(db)
    assert (status.dialect, status.schema_is_current) == (db.dialect, True)
    assert status.database_version[0].isdigit()
    assert [(p.source_ae, p.studies, p.received_last_day) for p in status.peers] == [
        ("PACS1", 1, 0),
        ("PACS2", 1, 3),
    ]
    assert (status.studies, status.instances, status.stored_bytes) == (2, 5, 4500)
    assert (status.queued, status.running, status.failed) == (1, 0, 0)
    assert status.oldest_queued_at is not None
    assert status.oldest_queued_at.timestamp() == clock.now
    assert len(status.refused) == 1


def test_worklist_of_many_studies_asks_a_fixed_number_of_questions(db, life) -> None:
    asked: list[str] = []

    def count(n: int) -> int:
        for number in range(n):
            life.receive(f"1.{n}.{number}", images=1)
        asked.clear()
        worklist.studies(db)
        return len(asked)

    from sqlalchemy import event

    with db.read() as conn:
        engine = conn.engine
    event.listen(engine, "before_cursor_execute", lambda c, cu, statement, *_: asked.append(statement))
    assert count(2) == count(20)


def test_events_of_the_node_have_no_study(db) -> None:
    timeline.note(db, kind="node", text="preread started", source="preread")
    assert timeline.recent_events(db)[0].study_id is None
