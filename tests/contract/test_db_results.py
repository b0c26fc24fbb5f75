"""Results and deliveries on both databases: one commit, independent destinations, the study's outcome."""

import pytest
import sqlalchemy as sa

from db import intake, jobs, results
from db.records import NewDelivery
from db.states import IllegalTransition
from db.worklist import study as study_view

TRIES = {"tries_max": 3}


def _claim(db, **options):
    return results.claim_delivery(db, worker="sender", lease_seconds=60, **options)


def _send_all(db, status: str = "delivered", detail: str = "") -> int:
    sent = 0
    while (claim := _claim(db)) is not None:
        assert results.settle_delivery(db, claim, status=status, detail=detail, **TRIES)
        sent += 1
    return sent


def test_results_deliveries_and_job_are_one_commit(db, life) -> None:
    claim = life.analysing()
    findings = {"lesions": [{"number": 1, "score": 0.9}], "headline": "1 lesion · 2.0 mL", "urgent": False}
    assert life.commit(claim, kinds=("SEG", "SR", "SC"), destinations=("PACS1", "PACS2"), findings=findings)
    stored = results.results_of(db, job_id=claim.job_id)
    assert [(r.kind, r.revision, r.model) for r in stored] == [
        (kind, 1, "brain") for kind in ("SEG", "SR", "SC")
    ]
    assert stored[0].location.store == "results-1"
    sends = results.deliveries_of(db, study_id=claim.study_id)
    assert [(s.destination, s.state, s.attempts) for s in sends] == [
        ("PACS1", "queued", 0),
        ("PACS2", "queued", 0),
    ] * 3
    job = jobs.show_job(db, claim.job_id)
    assert job is not None
    assert (job.state, job.outcome, job.findings) == ("done", "analysed", findings)
    assert life.study().state == "analysing"


def test_commit_that_breaks_writes_nothing(db, life) -> None:
    claim = life.analysing()
    with pytest.raises(KeyError):
        life.commit(claim, deliveries=[NewDelivery("no such object", "PACS1")])
    assert results.results_of(db, study_id=claim.study_id) == []
    assert jobs.extend(db, claim, 60)


def test_second_commit_of_a_job_changes_nothing(db, life) -> None:
    claim = life.analysing()
    assert life.commit(claim, destinations=("PACS1",))
    assert not life.commit(claim, destinations=("PACS1",))
    assert len(results.results_of(db, study_id=claim.study_id)) == 2
    assert len(results.deliveries_of(db, study_id=claim.study_id)) == 2


def test_study_is_delivered_when_every_object_reached_every_destination(db, life, clock) -> None:
    life.commit(life.analysing(), destinations=("PACS1", "PACS2"))
    for _ in range(3):
        claim = _claim(db)
        assert results.settle_delivery(db, claim, status="delivered", detail="", **TRIES)
        assert life.study().outcome is None
    clock.pass_seconds(5)
    assert _send_all(db) == 1
    study = life.study()
    assert (study.state, study.outcome) == ("done", "delivered")
    assert study.reason == "Results delivered to PACS1, PACS2."
    assert study.done_at is not None
    assert study.done_at.timestamp() == clock.now


def test_without_destination_results_are_kept_here(db, life) -> None:
    life.commit(life.analysing())
    study = life.study()
    assert (study.outcome, study.reason) == (
        "delivered",
        "Results are kept here; no destination is configured.",
    )


def test_study_waits_for_all_its_analyses(db, life) -> None:
    claim = life.analysing("1.2.1", "brain", "breast")
    life.commit(claim)
    assert life.study().outcome is None
    second = life.claim()
    life.commit(second, outcome="not_analysed", reason_code="MISSING-SLICE", sentence="Slice 7 is missing.")
    assert life.study().outcome == "delivered"


def test_not_analysed_gives_the_first_reason(db, life) -> None:
    claim = life.analysing("1.2.1", "brain", "breast")
    why = {"outcome": "not_analysed", "kinds": (), "findings": {}}
    life.commit(claim, reason_code="MISSING-SLICE", sentence="Slice 7 is missing.", **why)
    life.commit(life.claim(), reason_code="NO-SPACING", sentence="No spacing.", **why)
    study = life.study()
    assert (study.outcome, study.reason_code, study.reason) == (
        "not_analysed",
        "MISSING-SLICE",
        "Slice 7 is missing.",
    )


def test_plan_that_leads_to_nothing_can_send_a_report(db, life) -> None:
    life.whole()
    claim = life.claim()
    report = life.new_result(claim, "SR")
    assert jobs.finish_plan(
        db,
        claim,
        selections=[],
        analyse=[],
        reason_code="NO-MODEL",
        sentence="No model wants this study.",
        results=[report],
        deliveries=[NewDelivery(report.sop_uid, "PACS1")],
    )
    assert life.study().outcome is None
    assert _send_all(db) == 1
    assert life.study().outcome == "not_analysed"


def test_delivery_claim_carries_the_object_and_skips_leased_ones(db, life) -> None:
    life.commit(life.analysing(), destinations=("PACS1",))
    first, second = _claim(db), _claim(db)
    assert [claim.result.kind for claim in (first, second)] == ["SEG", "SR"]
    assert first.study_uid == "1.2.1"
    assert first.destination == "PACS1"
    assert first.attempts == 1
    assert _claim(db) is None


def test_deliveries_to_one_destination_can_be_claimed_together(db, life) -> None:
    life.commit(life.analysing(), destinations=("PACS1", "PACS2"))
    claims = [_claim(db, destination="PACS2"), _claim(db, destination="PACS2")]
    assert {claim.destination for claim in claims} == {"PACS2"}
    assert _claim(db, destination="PACS2") is None
    assert _claim(db).destination == "PACS1"


def test_failed_delivery_waits_doubling_and_is_parked_for_a_person(db, life, clock) -> None:
    life.commit(life.analysing(), kinds=("SEG",), destinations=("PACS1",))
    for wait in (30, 60):
        assert _send_all(db, "retry", "connection refused") == 1
        clock.pass_seconds(wait - 1)
        assert _claim(db) is None
        clock.pass_seconds(1)
    assert _send_all(db, "retry", "connection refused") == 1
    (delivery,) = results.deliveries_of(db, study_id=life.study().id)
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("parked", 3, "connection refused")
    study = life.study()
    assert (study.outcome, study.reason_code) == ("failed", "DELIVERY-PARKED")
    assert study.reason == "Results could not be delivered to PACS1: connection refused."


def test_one_destination_s_trouble_does_not_touch_the_other(db, life) -> None:
    life.commit(life.analysing(), kinds=("SEG",), destinations=("DEAD", "PACS1"))
    dead = _claim(db, destination="DEAD")
    results.settle_delivery(db, dead, status="park", detail="refused class", **TRIES)
    assert _send_all(db) == 1
    assert [s.state for s in results.deliveries_of(db, study_id=dead.result.study_id)] == [
        "parked",
        "delivered",
    ]
    assert life.study().reason_code == "DELIVERY-PARKED"


def test_retried_delivery_that_arrives_heals_the_study(db, life) -> None:
    life.commit(life.analysing(), kinds=("SEG",), destinations=("PACS1",))
    claim = _claim(db)
    results.settle_delivery(db, claim, status="park", detail="no", **TRIES)
    assert results.retry_delivery(db, claim.delivery_id)
    assert not results.retry_delivery(db, claim.delivery_id)
    assert (life.study().state, life.study().outcome) == ("analysing", None)
    again = _claim(db)
    assert again.attempts == 1
    assert again.fence > claim.fence
    results.settle_delivery(db, again, status="delivered", detail="", **TRIES)
    assert life.study().outcome == "delivered"


def test_dropped_delivery_is_not_called_delivered(db, life) -> None:
    life.commit(life.analysing(), kinds=("SEG",), destinations=("PACS1",))
    claim = _claim(db)
    results.settle_delivery(db, claim, status="park", detail="no", **TRIES)
    assert results.drop_delivery(db, claim.delivery_id)
    assert not results.drop_delivery(db, claim.delivery_id)
    assert (life.study().outcome, life.study().reason_code) == ("failed", "DELIVERY-DROPPED")


def test_unknown_delivery_is_named(db) -> None:
    with pytest.raises(IllegalTransition, match="there is no delivery 5"):
        results.drop_delivery(db, 5)


def test_old_fence_settles_nothing(db, life, clock) -> None:
    life.commit(life.analysing(), kinds=("SEG",), destinations=("PACS1",))
    old = _claim(db)
    clock.pass_seconds(61)
    jobs.reap_expired(db)
    new = _claim(db)
    assert new.fence > old.fence
    before = study_view(db, "1.2.1")
    for status in ("delivered", "retry", "park"):
        assert not results.settle_delivery(db, old, status=status, detail="x", **TRIES)
    assert not results.extend_delivery(db, old, 60)
    assert not results.give_back_delivery(db, old)
    assert study_view(db, "1.2.1") == before


def test_given_back_delivery_is_free_at_once_and_the_try_is_not_counted(db, life) -> None:
    life.commit(life.analysing(), kinds=("SEG",), destinations=("PACS1",))
    claim = _claim(db)
    assert results.extend_delivery(db, claim, 60)
    assert results.give_back_delivery(db, claim)
    assert _claim(db).attempts == 1


def test_send_again_queues_every_object_of_the_current_revision(db, life) -> None:
    life.commit(life.analysing(), destinations=("PACS1",))
    _send_all(db)
    assert results.send_again(db, "1.2.1") == 2
    assert life.study().outcome is None
    assert _send_all(db) == 2
    assert life.study().outcome == "delivered"


def test_results_of_an_older_revision_are_named_as_predecessors(db, life) -> None:
    life.commit(life.analysing(), kinds=("SEG", "SR"))
    study = life.receive(images=1)
    intake.close_study(db, study.id, 2, how="quiet", partial=False, evidence_text="-")
    life.plan("brain")
    claim = life.claim()
    before = results.predecessors_of(db, study.id, 2, "brain")
    assert {kind: [r.revision for r in found] for kind, found in before.items()} == {"SEG": [1], "SR": [1]}
    assert results.predecessors_of(db, study.id, 1, "brain") == {}
    assert results.predecessors_of(db, study.id, 2, "other") == {}
    life.commit(claim, predecessors={kind: found[0].sop_uid for kind, found in before.items()})
    newer = results.results_of(db, job_id=claim.job_id)
    assert [r.predecessor_sop_uid for r in newer] == [before["SEG"][0].sop_uid, before["SR"][0].sop_uid]
    assert len(results.results_of(db, study_id=study.id)) == 4


def test_own_uids_are_known_by_object_and_series(db, life) -> None:
    claim = life.analysing()
    life.commit(claim)
    result = results.results_of(db, job_id=claim.job_id)[0]
    assert results.is_result_uid(db, result.sop_uid)
    assert results.is_result_uid(db, result.series_uid)
    assert not results.is_result_uid(db, "1.2.3")
    assert result.series_uid in results.own_series_uids(db)


def test_one_uid_is_never_recorded_as_two_results(db, life) -> None:
    claim = life.analysing("1.2.1", "brain", "breast")
    life.commit(claim, kinds=("SEG",))
    taken = results.results_of(db, job_id=claim.job_id)[0].sop_uid
    second = life.claim()
    with pytest.raises(sa.exc.IntegrityError):
        life.commit(second, results=[life.new_result(second, sop_uid=taken)], deliveries=[])
    assert jobs.extend(db, second, 60)
