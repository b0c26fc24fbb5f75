"""What starts early stands if the plan of the whole study starts the same; else a new revision begins."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import intake, jobs
from db.engine import Database
from db.records import Claim, JobRecord
from db.requests import cancel, retry
from db.results import predecessors_of
from db.starting_early import finish_early_plan, queue_early_plan, stands
from db.worklist import studies
from db.worklist import study as study_view

Life = Any  # of this folder's conftest

STUDY, FLAIR, T1 = "1.2.1", "1.2.1.1", "1.2.1.2"


@pytest.fixture
def begun(db: Database, life: Life) -> Life:
    """A study that receives: a FLAIR series of two images that is whole, and the first of another series."""
    life.receive(images=2, series=FLAIR)
    life.receive(images=1, series=T1)
    return life


def queue(life: Life, series: str = FLAIR, *, instances: int = 2, revision: int = 1) -> bool:
    return queue_early_plan(
        life.db,
        life.study().id,
        revision,
        series,
        whole={series: instances},
        because="procedure step of SCANNER names its 2 instances",
        source="mpps",
    )


def start(life: Life, *analyse: tuple[str, str]) -> None:
    """An early plan that leads to these analyses."""
    assert queue(life)
    assert finish_early_plan(life.db, life.claim(), analyse or (("brain", FLAIR),))


def close(life: Life, *, partial: bool = False) -> None:
    study = life.study()
    assert intake.close_study(
        life.db, study.id, study.revision, how="quiet", partial=partial, evidence_text="silence"
    )


def plan(life: Life, **series: str) -> None:
    """The plan of the whole study: the series of each model."""
    claim = life.claim()
    assert (claim.kind, "early" in claim.parameters) == ("plan", False)
    assert jobs.finish_plan(
        life.db,
        claim,
        selections=[],
        analyse=[(model, {"series": [uid]}) for model, uid in series.items()],
        reason_code=None if series else "NO-MODEL",
        sentence=None if series else "No model wants this study.",
    )


def jobs_of(life: Life, revision: int | None = None) -> list[JobRecord]:
    view = study_view(life.db, STUDY)
    assert view is not None
    return [job for job in view.jobs if revision in (None, job.revision)]


def analyses(life: Life) -> list[tuple[int, str | None, str, Any]]:
    found = [job for job in jobs_of(life) if job.kind == "analyse"]
    return sorted((job.revision, job.model, job.state, job.parameters["series"]) for job in found)


def told(life: Life) -> list[str]:
    view = study_view(life.db, STUDY)
    assert view is not None
    return [event.text for event in view.events]


def claim_analysis(life: Life) -> Claim:
    claim = life.claim()
    assert claim.kind == "analyse"
    return claim


def test_early_plan_is_of_the_receiving_revision_and_says_what_it_may_look_at(begun: Life) -> None:
    assert queue(begun)
    claim = begun.claim()
    assert (claim.kind, claim.model, claim.revision) == ("plan", None, 1)
    early = claim.parameters["early"]
    assert early["whole"] == [FLAIR]
    begun.receive(images=1, series=T1)
    assert begun.study().state == "receiving"
    view = study_view(begun.db, STUDY)
    assert view is not None
    (job,) = view.jobs
    assert (job.is_early_plan, job.model) == (True, None)
    words = "whole while the study still receives: procedure step of SCANNER names its 2 instances"
    assert words in told(begun)


def test_a_series_is_planned_early_once(begun: Life) -> None:
    assert queue(begun)
    assert not queue(begun)
    assert len(jobs_of(begun)) == 1


def test_nothing_is_queued_when_more_came_or_the_study_was_closed(begun: Life) -> None:
    assert not queue(begun, instances=1)
    assert not queue(begun, revision=2)
    close(begun)
    assert not queue(begun)
    assert [job.kind for job in jobs_of(begun)] == ["plan"]


def test_early_analysis_runs_and_shows_its_findings_while_the_study_receives(begun: Life) -> None:
    start(begun)
    claim = claim_analysis(begun)
    assert (claim.model, claim.parameters["series"]) == ("brain", [FLAIR])
    assert begun.commit(claim, findings={"lesions": [], "headline": "no lesion", "urgent": True})
    assert begun.study().state == "receiving"
    (row,) = studies(begun.db, limit=10)
    assert row.urgent


def test_what_started_early_stands_and_is_not_run_again(begun: Life) -> None:
    start(begun)
    begun.commit(claim_analysis(begun))
    begun.receive(images=3, series=T1)
    close(begun)
    plan(begun, brain=FLAIR)
    assert analyses(begun) == [(1, "brain", "done", [FLAIR])]
    study = begun.study()
    assert (study.revision, study.state, study.outcome) == (1, "done", "delivered")


def test_models_that_did_not_start_early_start_with_the_whole_study(begun: Life) -> None:
    start(begun)
    begun.commit(claim_analysis(begun))
    close(begun)
    plan(begun, brain=FLAIR, other=T1)
    assert analyses(begun) == [(1, "brain", "done", [FLAIR]), (1, "other", "queued", [T1])]
    assert begun.study().state == "analysing"


def test_other_choice_of_the_whole_study_begins_a_revision_whose_results_name_the_earlier(
    begun: Life,
) -> None:
    start(begun)
    begun.commit(claim_analysis(begun), kinds=("SR",))
    close(begun, partial=True)
    plan(begun, brain=T1)
    study = begun.study()
    assert (study.revision, study.state, study.partial) == (2, "whole", True)
    plan(begun, brain=T1)
    assert analyses(begun) == [(1, "brain", "done", [FLAIR]), (2, "brain", "queued", [T1])]
    claim = claim_analysis(begun)
    (earlier,) = predecessors_of(begun.db, study.id, 2, "brain")["SR"]
    assert earlier.revision == 1
    begun.commit(claim)
    assert (begun.study().state, begun.study().outcome) == ("done", "delivered")
    assert any("started early on other images" in text for text in told(begun))
    (replanned,) = [job for job in jobs_of(begun, 2) if job.kind == "plan"]
    assert replanned.parameters == {"partial": True, "how": "quiet"}


def test_an_image_that_came_after_the_proof_begins_a_revision(begun: Life) -> None:
    start(begun)
    begun.commit(claim_analysis(begun))
    begun.receive(images=1, series=FLAIR)
    close(begun)
    plan(begun, brain=FLAIR)
    assert begun.study().revision == 2


def test_an_object_that_is_no_image_changes_nothing(begun: Life) -> None:
    start(begun)
    begun.commit(claim_analysis(begun))
    begun.receive(images=1, series=FLAIR, is_image=False)
    close(begun)
    plan(begun, brain=FLAIR)
    assert begun.study().revision == 1


def test_early_analysis_that_runs_while_the_choice_changes_ends_in_its_own_revision(begun: Life) -> None:
    start(begun)
    running = claim_analysis(begun)
    close(begun)
    plan(begun, brain=T1)
    assert begun.commit(running)
    assert (begun.study().revision, begun.study().state) == (2, "whole")
    plan(begun, brain=T1)
    assert analyses(begun) == [(1, "brain", "done", [FLAIR]), (2, "brain", "queued", [T1])]


def test_model_that_the_whole_study_does_not_want_any_more_begins_a_revision(begun: Life) -> None:
    start(begun)
    begun.commit(claim_analysis(begun))
    close(begun)
    plan(begun)
    plan(begun)
    study = begun.study()
    assert (study.revision, study.outcome, study.reason_code) == (2, "not_analysed", "NO-MODEL")


def test_early_analysis_that_still_waits_is_given_the_new_choice(begun: Life) -> None:
    start(begun)
    close(begun)
    plan(begun, brain=T1)
    assert begun.study().revision == 1
    assert analyses(begun) == [(1, "brain", "queued", [T1])]
    assert "early" not in claim_analysis(begun).parameters


def test_early_analysis_that_still_waits_and_is_not_wanted_does_not_run(begun: Life) -> None:
    start(begun)
    close(begun)
    plan(begun)
    assert [state for _, _, state, _ in analyses(begun)] == ["cancelled"]
    study = begun.study()
    assert (study.revision, study.outcome, study.reason_code) == (1, "not_analysed", "NO-MODEL")


def test_early_analysis_that_a_person_cancelled_stays_so(begun: Life) -> None:
    start(begun)
    (job,) = [job for job in jobs_of(begun) if job.kind == "analyse"]
    assert cancel(begun.db, job.id)
    close(begun)
    plan(begun, brain=T1)
    assert begun.study().revision == 1
    assert begun.study().reason_code == "CANCELLED"


def test_failed_early_analysis_can_be_retried_while_the_study_receives(begun: Life) -> None:
    start(begun)
    claim = claim_analysis(begun)
    assert jobs.fail(begun.db, claim, error="broken", remedy="repair", retry=False)
    assert retry(begun.db, claim.job_id)
    assert begun.study().state == "receiving"
    assert begun.commit(claim_analysis(begun))


def test_early_plan_that_waits_when_the_study_closes_is_not_run(begun: Life) -> None:
    assert queue(begun)
    close(begun)
    plan(begun, brain=FLAIR)
    assert claim_analysis(begun).parameters == {"series": [FLAIR]}
    (early,) = [job for job in jobs_of(begun) if job.is_early_plan]
    assert (early.state, early.reason_code) == ("cancelled", "SUPERSEDED")


def test_early_plan_that_ends_after_the_study_was_closed_starts_nothing(begun: Life) -> None:
    assert queue(begun)
    claim = begun.claim()
    close(begun)
    assert finish_early_plan(begun.db, claim, [("brain", FLAIR)])
    assert analyses(begun) == []


def test_early_plan_starts_nothing_when_the_series_grew_since(begun: Life) -> None:
    assert queue(begun)
    claim = begun.claim()
    begun.receive(images=1, series=FLAIR)
    assert finish_early_plan(begun.db, claim, [("brain", FLAIR)])
    assert analyses(begun) == []


def test_a_model_starts_early_once(begun: Life) -> None:
    start(begun)
    assert queue(begun, T1, instances=1)
    claim = begun.claim()
    assert finish_early_plan(begun.db, claim, [("brain", T1), ("other", T1)])
    assert analyses(begun) == [(1, "brain", "queued", [FLAIR]), (1, "other", "queued", [T1])]


def test_early_plan_of_a_lost_lease_changes_nothing(begun: Life, clock: Any) -> None:
    assert queue(begun)
    lost = begun.claim(lease_seconds=1)
    clock.pass_seconds(2)
    jobs.reap_expired(begun.db)
    assert not finish_early_plan(begun.db, lost, [("brain", FLAIR)])
    assert analyses(begun) == []


def test_failed_early_plan_does_not_fail_the_study(begun: Life) -> None:
    assert queue(begun)
    assert jobs.fail(begun.db, begun.claim(), error="broken", remedy="repair", retry=False)
    close(begun)
    plan(begun, brain=FLAIR)
    begun.commit(claim_analysis(begun))
    assert begun.study().outcome == "delivered"


def test_late_image_after_all_was_delivered_is_planned_with_the_whole_revision(begun: Life) -> None:
    start(begun)
    begun.commit(claim_analysis(begun))
    close(begun)
    plan(begun, brain=FLAIR)
    begun.receive(images=1, series=T1)
    close(begun)
    plan(begun, brain=FLAIR)
    assert analyses(begun) == [(1, "brain", "done", [FLAIR]), (2, "brain", "queued", [FLAIR])]


SERIES = st.lists(st.sampled_from("ab"), max_size=2)


@given(SERIES, st.none() | SERIES, st.integers(0, 9), st.integers(0, 9))
def test_stands_only_with_the_same_series_in_the_same_order_and_nothing_new_in_them(
    started: list[str], wanted: list[str] | None, upto: int, newest: int
) -> None:
    parameters = {"series": started, "early": {"upto": upto}}
    new = None if wanted is None else {"series": wanted}
    assert stands(parameters, new, newest) == (started == wanted and newest <= upto)
