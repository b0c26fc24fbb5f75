"""PURE. What a study ended as, one line per (study, model), from what the rows say.

The line is the interface of `preread demo --json`; its names do not change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.records import DeliveryRecord, JobRecord, Outcome, ResultRecord
from db.states import study_outcome
from db.views import StudyView

KINDS = ("SEG", "SR", "SC")  # that are sent; a heat map stays on the node
NO_OUTCOME = "NO-OUTCOME"
NOT_ACCEPTED = "NOT-ACCEPTED"


@dataclass(frozen=True)
class Ended:
    """How one model ended on one study; `model` is None where no model ran.

    `ended_at` is in seconds since 1970: the last delivery, or the end of the study where nothing was sent.
    """

    study_uid: str
    outcome: Outcome
    reason: str | None
    message: str
    model: str | None = None
    series_uid: str | None = None
    results: tuple[ResultRecord, ...] = ()
    findings: Mapping[str, Any] | None = None
    ended_at: float | None = None

    def line(self, *, paths: Mapping[str, str], seconds: float | None) -> dict[str, Any]:
        """The object printed by `--json`.

        Parameters
        ----------
        paths : kept file by SOP Instance UID of the result
        seconds : from the last acknowledgement to the end
        """
        return {
            "study_uid": self.study_uid,
            "outcome": self.outcome,
            "reason": self.reason,
            "message": self.message,
            "model": self.model,
            "series_uid": self.series_uid,
            "results": _first_of_each_kind(self.results, paths),
            "findings": _findings(self.findings),
            "seconds": None if seconds is None else round(seconds, 2),
        }


def ended_study(view: StudyView) -> list[Ended] | None:
    """One entry per model that ran on the newest revision; None while the study is not done."""
    study = view.study
    if study.state != "done":
        return None
    jobs = [job for job in view.jobs if job.revision == study.revision]
    analyses = [job for job in jobs if job.kind == "analyse"]
    if analyses:
        return [_ended_job(view, job) for job in analyses]
    return [
        Ended(
            study_uid=study.study_uid,
            outcome=study.outcome or "failed",
            reason=study.reason_code,
            message=study.reason or "",
            results=tuple(r for r in view.results if r.revision == study.revision and r.kind in KINDS),
            ended_at=study.done_at.timestamp() if study.done_at else None,
        )
    ]


def _ended_job(view: StudyView, job: JobRecord) -> Ended:
    deliveries = [delivery for delivery in view.deliveries if delivery.job_id == job.id]
    judged = study_outcome([job], deliveries)
    assert judged is not None, "a study that is done has no open job"
    findings = job.findings or {}
    headline = str(findings.get("headline") or "")
    return Ended(
        study_uid=view.study.study_uid,
        outcome=judged.outcome,
        reason=judged.reason_code,
        message=headline if judged.outcome == "delivered" and headline else judged.sentence,
        model=job.model,
        # The plan names the series to read, best first; a refusal has no findings that could.
        series_uid=findings.get("series_uid") or next(iter(job.parameters.get("series", ())), None),
        results=tuple(one for one in view.results if one.job_id == job.id and one.kind in KINDS),
        findings=findings,
        ended_at=_last(job, deliveries),
    )


def _last(job: JobRecord, deliveries: Sequence[DeliveryRecord]) -> float | None:
    times = [delivery.delivered_at for delivery in deliveries] or [job.done_at]
    known = [at.timestamp() for at in times if at is not None]
    return max(known) if known else None


def _first_of_each_kind(results: Sequence[ResultRecord], paths: Mapping[str, str]) -> dict[str, str | None]:
    first: dict[str, str | None] = {}
    for kind in KINDS:
        for result in results:
            if result.kind == kind and kind not in first:
                first[kind] = paths.get(result.sop_uid)
    return first


def _findings(findings: Mapping[str, Any] | None) -> dict[str, Any]:
    findings = findings or {}
    return {
        "lesions": [_lesion(lesion) for lesion in findings.get("lesions", [])],
        "class": findings.get("class"),
        "scores": dict(findings.get("scores") or {}),
        **_structures(findings.get("structures") or {}),
    }


def _structures(structures: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model of structures the parts that were outlined; of others nothing."""
    if not structures:
        return {}
    parts = [{"label": one["label"], **_lesion(one)} for one in structures["parts"] if one["found"]]
    return {"structures": parts}


def _lesion(lesion: Mapping[str, Any]) -> dict[str, Any]:
    """Size in the best unit there is; pixels where the image has no scale."""
    size = next(
        (
            {unit: lesion[unit]}
            for unit in ("volume_ml", "area_mm2", "area_px")
            if lesion.get(unit) is not None
        ),
        {},
    )
    return {**size, "long_axis_mm": lesion.get("long_axis_mm"), "score": lesion.get("score")}
