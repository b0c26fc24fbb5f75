"""The life of study, job and delivery, and what a study ends as."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.records import DeliveryRecord, JobRecord
from db.states import TABLES, IllegalTransition, next_state, states_before, study_outcome

STATES = {
    "study": {"receiving", "whole", "analysing", "done"},
    "job": {"queued", "running", "done", "failed", "cancelled"},
    "delivery": {"queued", "sending", "delivered", "parked", "dropped"},
}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def _pairs(table: str) -> list[tuple[str, str]]:
    events = {event for _, event in TABLES[table]}
    return list(itertools.product(sorted(STATES[table]), sorted(events)))


@pytest.mark.parametrize(("table", "pair"), [(table, pair) for table in STATES for pair in _pairs(table)])
def test_every_pair_of_state_and_event_is_a_state_or_refused_by_name(table: Any, pair: Any) -> None:
    state, event = pair
    if pair in TABLES[table]:
        assert next_state(table, state, event) in STATES[table]
        assert state in states_before(table, event)
    else:
        with pytest.raises(IllegalTransition, match=f"a {table} that is {state} does not allow '{event}'"):
            next_state(table, state, event)


@pytest.mark.parametrize("table", sorted(STATES))
def test_every_state_can_be_reached_and_no_other_is_named(table: str) -> None:
    first = {"study": "receiving", "job": "queued", "delivery": "queued"}[table]
    reached = {first, *TABLES[table].values()}
    assert reached == STATES[table]
    assert {state for state, _ in TABLES[table]} <= STATES[table]


def test_only_a_claim_makes_a_job_run_and_only_the_running_finish() -> None:
    assert [pair for pair, after in TABLES["job"].items() if after == "running"] == [("queued", "claim")]
    assert [pair for pair, after in TABLES["job"].items() if after == "done"] == [("running", "finish")]


def test_unknown_state_is_named() -> None:
    with pytest.raises(IllegalTransition, match="'lost' is no state of a job"):
        next_state("job", "lost", "claim")


def _job(number: int = 1, **values: Any) -> JobRecord:
    defaults: dict[str, Any] = {
        "id": number,
        "kind": "analyse",
        "study_id": 1,
        "study_uid": "1.2",
        "revision": 1,
        "model": "brain",
        "state": "done",
        "stage": None,
        "priority": 0,
        "run_after": None,
        "attempts": 1,
        "attempts_max": 3,
        "fence": 1,
        "lease_until": None,
        "worker": "w",
        "outcome": "analysed",
        "reason_code": None,
        "reason": None,
        "error": None,
        "remedy": None,
        "findings": {},
        "parameters": {},
        "created_at": AT,
        "started_at": AT,
        "done_at": AT,
    }
    return JobRecord(**{**defaults, **values})


def _plan(**values: Any) -> JobRecord:
    return _job(kind="plan", model=None, **{"outcome": "planned", **values})


def _delivery(state: Any, destination: str = "PACS1", error: str | None = None) -> DeliveryRecord:
    return DeliveryRecord(1, 1, 1, 1, destination, state, 1, None, error, None)


NOT_ANALYSED = {"outcome": "not_analysed", "reason_code": "NO-SPACING", "reason": "No spacing."}


def test_study_without_jobs_has_no_outcome() -> None:
    assert study_outcome([], []) is None


@pytest.mark.parametrize("state", ["queued", "running"])
def test_open_job_keeps_the_study_open_even_beside_a_failed_one(state: str) -> None:
    assert study_outcome([_job(state="failed"), _job(state=state)], []) is None


@pytest.mark.parametrize("state", ["queued", "sending"])
def test_open_delivery_keeps_the_study_open(state: str) -> None:
    assert study_outcome([_plan(), _job()], [_delivery("delivered"), _delivery(state)]) is None


def test_failed_job_fails_the_study_with_error_and_remedy() -> None:
    failed = _job(state="failed", error="out of memory", remedy="Raise worker.memory_gib.")
    assert study_outcome([_plan(), _job(), failed], [_delivery("delivered")]) == (
        "failed",
        "JOB-FAILED",
        "Analysis by brain failed: out of memory. Raise worker.memory_gib.",
    )


def test_parked_delivery_fails_the_study_with_the_peer_s_answer() -> None:
    assert study_outcome(
        [_plan(), _job()], [_delivery("delivered"), _delivery("parked", "P2", "0xA700")]
    ) == (
        "failed",
        "DELIVERY-PARKED",
        "Results could not be delivered to P2: 0xA700.",
    )


def test_all_dropped_is_not_delivered_but_one_that_arrived_is() -> None:
    jobs = [_plan(), _job()]
    dropped = study_outcome(jobs, [_delivery("dropped")])
    assert dropped is not None
    assert dropped.reason_code == "DELIVERY-DROPPED"
    arrived = study_outcome(jobs, [_delivery("dropped", "P2"), _delivery("delivered")])
    assert arrived == ("delivered", None, "Results delivered to PACS1.")


def test_without_destination_the_study_is_delivered_here() -> None:
    outcome = study_outcome([_plan(), _job()], [])
    assert outcome is not None
    assert (outcome.outcome, outcome.reason_code) == ("delivered", None)


def test_refusal_of_an_analysis_comes_before_that_of_the_plan() -> None:
    plan = _plan(reason_code="PARTLY", reason="Some series are of no use.")
    assert study_outcome([plan, _job(**NOT_ANALYSED)], []) == ("not_analysed", "NO-SPACING", "No spacing.")
    assert study_outcome([plan], []) == ("not_analysed", "PARTLY", "Some series are of no use.")


def test_study_whose_jobs_were_all_cancelled_says_so() -> None:
    outcome = study_outcome([_plan(), _job(state="cancelled", outcome=None, reason_code="CANCELLED")], [])
    assert outcome is not None
    assert (outcome.outcome, outcome.reason_code) == ("not_analysed", "CANCELLED")


_jobs = st.lists(
    st.builds(
        _job,
        kind=st.sampled_from(["plan", "analyse"]),
        state=st.sampled_from(sorted(STATES["job"])),
        outcome=st.sampled_from([None, "planned", "analysed", "not_analysed"]),
        reason_code=st.sampled_from([None, "NO-MODEL"]),
    ),
    max_size=4,
)
_deliveries = st.lists(st.builds(_delivery, st.sampled_from(sorted(STATES["delivery"]))), max_size=4)


@given(_jobs, _deliveries)
def test_outcome_is_never_silent_and_never_hides_a_failure(jobs: Any, deliveries: Any) -> None:
    end = study_outcome(jobs, deliveries)
    is_open = any(job.state in ("queued", "running") for job in jobs) or any(
        delivery.state in ("queued", "sending") for delivery in deliveries
    )
    assert (end is None) == (is_open or not jobs)
    if end is None:
        return
    assert end.sentence
    assert end.outcome == "delivered" or end.reason_code
    if any(job.state == "failed" for job in jobs) or any(d.state == "parked" for d in deliveries):
        assert end.outcome == "failed"
    if end.outcome == "delivered":
        assert any(job.state == "done" and job.outcome == "analysed" for job in jobs)
