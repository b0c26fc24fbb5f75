"""The lines of `preread demo --json` say what the rows say, in names that do not change."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from db.records import DeliveryRecord, JobRecord, Location, ResultRecord, StudyRecord
from db.views import StudyView
from preread.demo.outcomes import ended_study
from preread.demo.progress import state_words

STUDY, SERIES = "1.2.3", "1.2.3.4"
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOON.timestamp() + seconds, UTC)


def study(**changed: Any) -> StudyRecord:
    fields: dict[str, Any] = {
        **{"id": 1, "study_uid": STUDY, "revision": 1, "state": "done", "partial": False},
        **{"outcome": "delivered", "reason_code": None, "reason": None, "priority": 0, "source_ae": "PACS1"},
        **dict.fromkeys(("patient_id", "patient_name", "birth_date", "sex", "accession"), ""),
        **dict.fromkeys(("study_date", "study_time", "description", "body_part"), ""),
        **{"modalities": ("MR",), "instances": 3, "received_bytes": 10},
        **{"first_received_at": NOON, "last_received_at": NOON, "whole_at": at(2), "done_at": at(9)},
    }
    return StudyRecord(**{**fields, **changed})


def job(number: int, **changed: Any) -> JobRecord:
    fields: dict[str, Any] = {
        **{"id": number, "kind": "analyse", "study_id": 1, "study_uid": STUDY, "revision": 1},
        **{"model": "brain", "state": "done", "stage": None, "priority": 0, "run_after": None},
        **{"attempts": 1, "attempts_max": 3, "fence": 1, "lease_until": None, "worker": "w"},
        **{"outcome": "analysed", "reason_code": None, "reason": None, "error": None, "remedy": None},
        **{"findings": None, "parameters": {}, "created_at": at(2), "started_at": at(3), "done_at": at(5)},
    }
    return JobRecord(**{**fields, **changed})


def plan(**changed: Any) -> JobRecord:
    return job(1, **{"kind": "plan", "model": None, "outcome": "planned", **changed})


def result(number: int, kind: str, job_id: int = 2) -> ResultRecord:
    place = Location("results-1", 0, 0, 0, 10)
    fields: dict[str, Any] = {"model": "brain", "kind": kind, "sop_uid": f"9.{number}", "sop_class": "1.2"}
    return ResultRecord(
        id=number, job_id=job_id, study_id=1, revision=1, series_uid="9", location=place, sha256="",
        bytes=10, created_at=at(5), predecessor_sop_uid=None, **fields,
    )  # fmt: skip


def delivery(number: int, state: str, seconds: float | None, job_id: int = 2) -> DeliveryRecord:
    delivered_at = at(seconds) if seconds is not None else None
    fields: dict[str, Any] = {"state": state, "destination": "archive", "delivered_at": delivered_at}
    return DeliveryRecord(
        id=number, result_id=number, job_id=job_id, study_id=1, attempts=1, next_at=None,
        last_error="the peer is away", **fields,
    )  # fmt: skip


def view(of: StudyRecord, *jobs: JobRecord, **parts: Any) -> StudyView:
    empty: dict[str, Any] = dict.fromkeys(
        ("series", "selections", "results", "deliveries", "events", "conflicts"), ()
    )
    return StudyView(study=of, jobs=jobs, **{**empty, **parts})


FINDINGS: Mapping[str, Any] = {
    "lesions": [
        {
            **{"number": 1, "volume_ml": 12.5, "area_mm2": None, "long_axis_mm": 31.0, "short_axis_mm": 20.0},
            **{"score": 0.94, "tracking_uid": "9.9", "key_sop_uid": "1.2.3.4.5", "key_frame": None},
        },
        {"number": 2, "area_px": 80.0, "long_axis_mm": None, "score": 0.6},
    ],
    "class": None,
    "scores": {},
    "series_uid": SERIES,
    "headline": "2 lesions",
}


def test_a_delivered_study_is_one_line_with_results_and_findings() -> None:
    parts = {
        "results": (result(1, "SEG"), result(2, "SR"), result(3, "SC"), result(4, "SEG")),
        "deliveries": tuple(delivery(number, "delivered", 6.0 + number) for number in (1, 2, 3, 4)),
    }
    entries = ended_study(view(study(), plan(), job(2, findings=FINDINGS), **parts))
    assert entries is not None
    [entry] = entries
    assert entry.ended_at == at(10).timestamp()
    assert entry.line(
        paths={"9.1": "/out/1.dcm", "9.2": "/out/2.dcm", "9.3": "/out/3.dcm"}, seconds=7.126
    ) == {
        "study_uid": STUDY,
        "outcome": "delivered",
        "reason": None,
        "message": "2 lesions",
        "model": "brain",
        "series_uid": SERIES,
        "results": {"SEG": "/out/1.dcm", "SR": "/out/2.dcm", "SC": "/out/3.dcm"},
        "findings": {
            "lesions": [
                {"volume_ml": 12.5, "long_axis_mm": 31.0, "score": 0.94},
                {"area_px": 80.0, "long_axis_mm": None, "score": 0.6},
            ],
            "class": None,
            "scores": {},
        },
        "seconds": 7.13,
    }


def test_each_model_of_a_study_has_a_line_of_its_own() -> None:
    refused = job(
        3,
        model="breast",
        outcome="not_analysed",
        reason_code="MISSING-SLICE",
        reason="A gap.",
        parameters={"series": ["7.8", "7.7"]},
    )
    parts = {
        "results": (result(1, "SEG"),),
        "deliveries": (delivery(1, "delivered", 6.0),),
    }
    entries = ended_study(view(study(), plan(), job(2, findings=FINDINGS), refused, **parts))
    assert entries is not None
    said = [(e.model, e.outcome, e.reason, e.message, e.series_uid) for e in entries]
    assert said == [
        ("brain", "delivered", None, "2 lesions", SERIES),
        ("breast", "not_analysed", "MISSING-SLICE", "A gap.", "7.8"),
    ]


def test_a_study_no_model_wants_is_one_line_without_a_model() -> None:
    of = study(outcome="not_analysed", reason_code="NO-MODEL", reason="No model wants it.")
    entries = ended_study(view(of, plan(outcome="not_analysed")))
    assert entries is not None
    [entry] = entries
    line = entry.line(paths={}, seconds=None)
    assert (line["model"], line["outcome"], line["reason"]) == (None, "not_analysed", "NO-MODEL")
    assert line["results"] == {}
    assert line["findings"] == {"lesions": [], "class": None, "scores": {}}
    assert entry.ended_at == at(9).timestamp()


def test_a_parked_delivery_is_a_failure_of_its_model() -> None:
    parts = {"results": (result(1, "SEG"),), "deliveries": (delivery(1, "parked", None),)}
    entries = ended_study(view(study(outcome="failed"), plan(), job(2, findings=FINDINGS), **parts))
    assert entries is not None
    assert [(e.outcome, e.reason) for e in entries] == [("failed", "DELIVERY-PARKED")]


def test_only_the_newest_revision_counts() -> None:
    entries = ended_study(
        view(study(revision=2), plan(), job(2), job(3, revision=2, kind="plan", model=None))
    )
    assert entries is not None
    assert [entry.model for entry in entries] == [None]


@pytest.mark.parametrize("state", ["receiving", "whole", "analysing"])
def test_a_study_that_is_not_done_has_no_line(state: str) -> None:
    assert ended_study(view(study(state=state, outcome=None))) is None


@pytest.mark.parametrize(
    ("of", "jobs", "deliveries", "words"),
    [
        (study(state="receiving"), (), (), "received, waiting for more images"),
        (study(state="whole"), (plan(state="queued"),), (), "queued"),
        (study(state="analysing"), (plan(state="running", stage="headers"),), (), "choosing series: headers"),
        (
            study(state="analysing"),
            (plan(), job(2, state="running", stage="predicting")),
            (),
            "predicting (brain)",
        ),
        (
            study(state="analysing"),
            (plan(), job(2)),
            (delivery(1, "delivered", 3.0), delivery(2, "sending", None)),
            "delivering 1/2",
        ),
        (study(outcome="not_analysed"), (), (), "not analysed"),
    ],
)
def test_the_progress_table_says_what_a_study_is_doing(
    of: StudyRecord, jobs: tuple[JobRecord, ...], deliveries: tuple[DeliveryRecord, ...], words: str
) -> None:
    assert state_words(view(of, *jobs, deliveries=deliveries)) == words
