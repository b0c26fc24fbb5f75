"""The job table on both databases: claims, leases, fences, attempts, and what people ask for."""

from dataclasses import replace

import pytest

from db import claiming, intake, jobs
from db.records import Claim, SelectionRecord
from db.states import IllegalTransition
from db.worklist import study as study_view


def _claim(db, worker: str = "cpu1", lease_seconds: float = 60.0) -> Claim | None:
    return jobs.claim_next(db, worker=worker, lease_seconds=lease_seconds)


def _events(db, study_uid: str = "1.2.1") -> list[tuple[str, str]]:
    view = study_view(db, study_uid)
    assert view is not None
    return [(event.kind, event.text) for event in view.events]


def test_enqueue_of_the_same_job_returns_the_one_that_is_there(db, life) -> None:
    study = life.receive()
    first = jobs.enqueue(db, "analyse", study.id, 1, "brain", parameters={"series": "1"})
    assert jobs.enqueue(db, "analyse", study.id, 1, "brain", parameters={"series": "2"}) == first
    assert jobs.enqueue(db, "analyse", study.id, 1, "breast") != first
    assert jobs.enqueue(db, "plan", study.id, 1, None) == jobs.enqueue(db, "plan", study.id, 1, None)
    job = jobs.show_job(db, first)
    assert job is not None
    assert job.parameters == {"series": "1"}
    assert jobs.show_job(db, 999) is None


def test_enqueue_inside_a_transaction_that_fails_leaves_no_job(db, life) -> None:
    study = life.receive()

    def enqueue_and_break() -> None:
        with db.write() as conn:
            jobs.enqueue(conn, "plan", study.id, 1, None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        enqueue_and_break()
    assert jobs.list_jobs(db) == []


def test_claim_gives_everything_a_worker_needs(db, life, clock) -> None:
    study = life.whole()
    claim = _claim(db, lease_seconds=60)
    assert claim is not None
    assert (claim.kind, claim.study_id, claim.study_uid, claim.revision) == ("plan", study.id, "1.2.1", 1)
    assert (claim.model, claim.attempts, claim.attempts_max, claim.fence) == (None, 1, 3, 1)
    assert claim.lease_until == clock.now + 60
    assert claim.parameters == {"partial": False, "how": "quiet"}
    assert life.study().state == "analysing"
    assert ("claimed", "planning claimed by cpu1") in _events(db)


def test_nothing_to_claim_is_none(db, life) -> None:
    life.receive()
    assert _claim(db) is None


def test_claim_takes_the_highest_priority_then_the_oldest(db, life) -> None:
    study = life.receive()
    for model, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        jobs.enqueue(db, "analyse", study.id, 1, model, priority=priority)
    assert [claim.model for claim in iter(lambda: _claim(db), None)] == ["b", "d", "a", "c"]


def test_plan_goes_before_analyses_of_its_priority_not_before_urgent_ones(db, life) -> None:
    study = life.receive()
    jobs.enqueue(db, "analyse", study.id, 1, "normal")
    jobs.enqueue(db, "analyse", study.id, 1, "urgent", priority=10)
    life.whole("1.2.2")
    assert [claim.model for claim in iter(lambda: _claim(db), None)] == ["urgent", None, "normal"]


def test_claim_of_one_kind_leaves_the_other(db, life) -> None:
    study = life.whole()
    jobs.enqueue(db, "analyse", study.id, 1, "brain")
    claim = jobs.claim_next(db, worker="gpu1", kinds=("analyse",), lease_seconds=60)
    assert claim is not None
    assert claim.model == "brain"


def test_claim_skips_a_job_with_a_live_lease(db, life, clock) -> None:
    life.whole()
    assert _claim(db) is not None
    clock.pass_seconds(59)
    assert _claim(db, "cpu2") is None


def test_job_whose_lease_ended_is_claimed_by_another_with_a_higher_fence(db, life, clock) -> None:
    life.whole()
    first = life.claim("cpu1")
    clock.pass_seconds(61)
    second = life.claim("cpu2")
    assert second.job_id == first.job_id
    assert second.fence > first.fence
    assert second.attempts == 2
    assert ("expired", "attempt 1 of 3 of cpu1 lost: its lease ended") in _events(db)


def test_job_before_its_time_is_not_claimed(db, life, clock) -> None:
    study = life.receive()
    jobs.enqueue(db, "analyse", study.id, 1, "late", priority=100, run_after=clock.now + 30)
    jobs.enqueue(db, "analyse", study.id, 1, "ready")
    assert life.claim().model == "ready"
    assert _claim(db) is None
    clock.pass_seconds(30)
    assert life.claim().model == "late"


def test_due_job_takes_its_place_by_priority(db, life, clock) -> None:
    study = life.receive()
    jobs.enqueue(db, "analyse", study.id, 1, "due", priority=1, run_after=clock.now + 1)
    jobs.enqueue(db, "analyse", study.id, 1, "low")
    jobs.enqueue(db, "analyse", study.id, 1, "high", priority=2)
    clock.pass_seconds(2)
    assert [claim.model for claim in iter(lambda: _claim(db), None)] == ["high", "due", "low"]


def test_extending_keeps_the_job(db, life, clock) -> None:
    claim = life.analysing()
    for _ in range(5):
        clock.pass_seconds(50)
        assert jobs.extend(db, claim, 60)
    assert jobs.reap_expired(db) == []


def test_old_fence_changes_nothing(db, life, clock) -> None:
    old = life.analysing()
    clock.pass_seconds(61)
    new = life.claim("cpu2")
    before = study_view(db, "1.2.1")
    assert not jobs.extend(db, old, 600)
    assert not jobs.set_stage(db, old, "reading")
    assert not jobs.fail(db, old, error="e", remedy="r")
    assert not jobs.fail(db, old, error="e", remedy="r", retry=False)
    assert not jobs.give_back(db, old)
    assert not life.commit(old, destinations=("PACS1",))
    assert not jobs.finish_plan(db, old, selections=[], analyse=[("x", {})])
    assert study_view(db, "1.2.1") == before
    assert life.commit(new)


def test_fence_of_the_future_changes_nothing(db, life) -> None:
    claim = life.analysing()
    assert not life.commit(replace(claim, fence=claim.fence + 1))


def test_holder_of_a_lapsed_lease_that_nobody_reaped_may_still_finish(db, life, clock) -> None:
    claim = life.analysing()
    clock.pass_seconds(600)
    assert life.commit(claim)
    assert jobs.reap_expired(db) == []


def test_stage_is_visible_while_the_job_runs_and_gone_after(db, life) -> None:
    claim = life.analysing()
    assert jobs.set_stage(db, claim, "predicting")
    job = jobs.show_job(db, claim.job_id)
    assert job is not None
    assert (job.stage, job.worker) == ("predicting", "cpu1")
    life.commit(claim)
    done = jobs.show_job(db, claim.job_id)
    assert done is not None
    assert (done.stage, done.state, done.worker) == (None, "done", "cpu1")


def test_failed_attempt_waits_30_seconds_doubling_then_the_job_is_failed(db, life, clock) -> None:
    claim = life.analysing()
    for wait in (30, 60):
        assert jobs.fail(db, claim, error="out of memory", remedy="Raise worker.memory_gib.")
        clock.pass_seconds(wait - 1)
        assert _claim(db) is None
        clock.pass_seconds(1)
        claim = life.claim()
    assert claim.attempts == 3
    assert jobs.fail(db, claim, error="out of memory", remedy="Raise worker.memory_gib.")
    job = jobs.show_job(db, claim.job_id)
    assert job is not None
    assert (job.state, job.error, job.remedy) == ("failed", "out of memory", "Raise worker.memory_gib.")
    study = life.study()
    assert (study.state, study.outcome, study.reason_code) == ("done", "failed", "JOB-FAILED")
    assert study.reason == "Analysis by brain failed: out of memory. Raise worker.memory_gib."
    assert ("attempt_failed", "attempt 1 of 3 failed: out of memory; next in 30 s") in _events(db)


def test_failure_that_cannot_be_helped_is_final_at_once(db, life) -> None:
    claim = life.analysing()
    assert jobs.fail(db, claim, error="package is damaged", remedy="Install it again.", retry=False)
    assert life.study().outcome == "failed"
    assert _claim(db) is None


def test_worker_chooses_the_wait(db, life, clock) -> None:
    claim = life.analysing()
    jobs.fail(db, claim, error="e", remedy="r", backoff_seconds=2)
    clock.pass_seconds(2)
    assert life.claim().job_id == claim.job_id


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 30), (2, 60), (5, 480), (6, 600), (5000, 600)])
def test_wait_doubles_up_to_ten_minutes(attempts: int, seconds: float) -> None:
    assert claiming.wait_seconds(attempts) == seconds


def test_given_back_job_is_free_at_once_and_the_attempt_is_not_counted(db, life) -> None:
    claim = life.analysing()
    assert jobs.give_back(db, claim)
    again = life.claim("cpu2")
    assert (again.job_id, again.attempts) == (claim.job_id, 1)
    assert again.fence > claim.fence
    assert not jobs.extend(db, claim, 60)


def test_job_that_kills_its_worker_each_time_is_failed(db, life, clock) -> None:
    claim = life.analysing()
    for _ in range(2):
        clock.pass_seconds(61)
        claim = life.claim("cpu2")
    clock.pass_seconds(61)
    assert jobs.reap_expired(db) == [claim.job_id]
    assert _claim(db) is None
    study = life.study()
    assert (study.outcome, study.reason_code) == ("failed", "JOB-FAILED")
    job = jobs.show_job(db, claim.job_id)
    assert job is not None
    assert job.state == "failed"
    assert job.remedy


def test_reaping_frees_many_jobs_of_many_studies(db, life, clock) -> None:
    for n in range(5):
        life.whole(f"1.2.{n}")
    claims = [life.claim() for _ in range(5)]
    clock.pass_seconds(61)
    assert sorted(jobs.reap_expired(db)) == sorted(claim.job_id for claim in claims)
    assert sorted(life.claim().job_id for _ in range(5)) == sorted(claim.job_id for claim in claims)


def test_plan_leads_to_analyses_with_the_selection_kept(db, life) -> None:
    study = life.whole()
    claim = life.claim()
    selections = [
        SelectionRecord(study.id, 1, "brain", "1.2.1.1", True, 1, None, "T2 FLAIR by description"),
        SelectionRecord(study.id, 1, "breast", "1.2.1.1", False, None, "MODALITY", "Needs US."),
    ]
    assert jobs.finish_plan(db, claim, selections=selections, analyse=[("brain", {"series": "1.2.1.1"})])
    view = study_view(db, "1.2.1")
    assert view is not None
    assert list(view.selections) == selections
    assert view.study.state == "analysing"
    analysis = life.claim()
    assert (analysis.kind, analysis.model, analysis.parameters) == ("analyse", "brain", {"series": "1.2.1.1"})


def test_plan_without_analyses_ends_the_study_as_not_analysed(db, life) -> None:
    life.whole()
    life.plan()
    study = life.study()
    assert (study.state, study.outcome, study.reason_code) == ("done", "not_analysed", "NO-MODEL")
    assert study.reason == "No model wants this study."
    assert ("not_analysed", "not analysed: No model wants this study.") in _events(db)


def test_silence_is_refused(db, life) -> None:
    life.whole()
    claim = life.claim()
    with pytest.raises(ValueError, match="say why"):
        jobs.finish_plan(db, claim, selections=[], analyse=[])
    assert jobs.finish_plan(db, claim, selections=[], analyse=[("brain", {})])
    with pytest.raises(ValueError, match="say why"):
        life.commit(life.claim(), outcome="not_analysed")


def test_cancelled_queued_job_does_not_run_and_ends_its_study(db, life) -> None:
    life.whole()
    (plan,) = jobs.list_jobs(db)
    assert jobs.cancel(db, plan.id)
    assert _claim(db) is None
    study = life.study()
    assert (study.outcome, study.reason_code) == ("not_analysed", "CANCELLED")
    assert not jobs.cancel(db, plan.id)


def test_cancelled_running_job_stops_its_worker_and_drops_its_results(db, life) -> None:
    claim = life.analysing()
    assert jobs.cancel(db, claim.job_id, source="person at the page")
    assert not jobs.extend(db, claim, 60)
    assert not life.commit(claim)
    assert life.study().outcome == "not_analysed"


def test_retry_gives_a_failed_job_all_its_attempts_again(db, life, clock) -> None:
    claim = life.analysing()
    jobs.fail(db, claim, error="e", remedy="r", retry=False)
    assert jobs.retry(db, claim.job_id)
    study = life.study()
    assert (study.state, study.outcome) == ("analysing", None)
    again = life.claim()
    assert (again.job_id, again.attempts) == (claim.job_id, 1)
    assert again.fence > claim.fence
    assert not jobs.retry(db, claim.job_id)
    life.commit(again)
    assert life.study().outcome == "delivered"


def test_retry_of_a_superseded_job_is_refused_with_a_remedy(db, life) -> None:
    claim = life.analysing()
    jobs.fail(db, claim, error="e", remedy="r", retry=False)
    life.receive(images=1)
    with pytest.raises(IllegalTransition, match="Retry the newer job"):
        jobs.retry(db, claim.job_id)


def test_unknown_job_is_named(db) -> None:
    with pytest.raises(IllegalTransition, match="there is no job 77"):
        jobs.cancel(db, 77)


def test_priority_of_a_study_moves_what_waits_for_it(db, life) -> None:
    life.whole("1.2.1")
    life.whole("1.2.2")
    assert jobs.set_priority(db, "1.2.2", 5)
    assert not jobs.set_priority(db, "1.2.9", 5)
    assert life.claim().study_uid == "1.2.2"
    assert life.study("1.2.2").priority == 5


def test_listing_filters_by_state_and_study(db, life) -> None:
    life.whole("1.2.1")
    study = life.whole("1.2.2")
    life.claim()
    assert [job.study_uid for job in jobs.list_jobs(db, states=["running"])] == ["1.2.1"]
    assert [job.state for job in jobs.list_jobs(db, study_id=study.id)] == ["queued"]
    assert len(jobs.list_jobs(db, limit=1)) == 1


def test_error_text_with_a_nul_is_stored_not_fatal(db, life) -> None:
    claim = life.analysing()
    assert jobs.fail(db, claim, error="bad \x00 byte \udcff", remedy="r", retry=False)
    job = jobs.show_job(db, claim.job_id)
    assert job is not None
    assert job.error == "bad  byte ?"


def test_new_study_never_gets_the_ids_of_a_forgotten_one(db, life, clock) -> None:
    from db.retention import forget_study

    claim = life.analysing()
    life.commit(claim)
    forget_study(db, claim.study_id)
    again = life.analysing()
    assert again.study_id > claim.study_id
    assert again.job_id > claim.job_id


def test_postgres_uses_its_own_clock_for_leases(postgres_url, open_database, received) -> None:
    db = open_database(postgres_url)
    intake.record_batch(db, [received()], None)
    study = study_view(db, "1.2.1").study
    intake.close_study(db, study.id, 1, how="quiet", partial=False, evidence_text="-")
    before = db.now()
    claim = _claim(db, lease_seconds=1000)
    assert before + 1000 <= claim.lease_until <= db.now() + 1000
    assert claim.created_at.timestamp() <= db.now()
