"""From the rows of a job to the assignment of the analyst, and from what it answers to rows."""

from __future__ import annotations

from collections.abc import Sequence

from config.settings import Settings
from db import jobs
from db.engine import Database
from db.instances import instances_of, series_of
from db.records import Claim, NewDelivery, NewResult, ResultKind, SelectionRecord
from db.results import commit_analysis, predecessors_of
from db.starting_early import finish_early_plan
from db.worklist import study as study_view
from pipeline.assignment import (
    AnalyseAssignment,
    Analysis,
    Assignment,
    EarlyPlan,
    EarlyPlanAssignment,
    Finished,
    Plan,
    PlanAssignment,
    StudyImages,
)


def assignment_of(database: Database, claim: Claim) -> Assignment:
    """What the analyst must know of a job: rows of its study revision; of an early one, those it may know."""
    early = claim.parameters.get("early")
    instances = instances_of(database, claim.study_id, revision=claim.revision)
    series = series_of(database, claim.study_id)
    if early is not None:
        instances = [instance for instance in instances if instance.id <= early["upto"]]
        begun = {instance.series_id for instance in instances}
        series = [one for one in series if one.id in begun]
    study = StudyImages(
        claim.study_id,
        claim.study_uid,
        claim.revision,
        tuple(instances),
        tuple(series),
        is_partial=_was_partial(database, claim),
    )
    if claim.kind == "plan" and early is not None:
        return EarlyPlanAssignment(study, frozenset(early["whole"]))
    if claim.kind == "plan":
        return PlanAssignment(study, claim.created_at)
    results = predecessors_of(database, claim.study_id, claim.revision, _model(claim))
    return AnalyseAssignment(
        study,
        _model(claim),
        tuple(claim.parameters["series"]),
        claim.created_at,
        tuple(record for records in results.values() for record in records),
        is_early=early is not None,
    )


def commit(
    database: Database, settings: Settings, claim: Claim, finished: Finished, results: Sequence[NewResult]
) -> bool:
    """All rows of a finished job in one commit; False: the lease was lost and nothing was written.

    Parameters
    ----------
    results : the objects of `finished`, durable already; each DICOM object goes to every destination of the
    study's sender
    """
    deliveries = _deliveries(database, settings, claim, results) if results else []
    if isinstance(finished, EarlyPlan):
        return finish_early_plan(database, claim, finished.analyses)
    if isinstance(finished, Plan):
        return _commit_plan(database, claim, finished, results, deliveries)
    return _commit_analysis(database, claim, finished, results, deliveries)


def _deliveries(
    database: Database, settings: Settings, claim: Claim, results: Sequence[NewResult]
) -> list[NewDelivery]:
    view = study_view(database, claim.study_uid)
    destinations = settings.destinations_of(view.study.source_ae) if view else ()
    return deliveries_of(results, [peer.name for peer in destinations])


def deliveries_of(results: Sequence[NewResult], destinations: Sequence[str]) -> list[NewDelivery]:
    """Every DICOM object to every destination; a heat map is none and stays here."""
    sent = [result for result in results if result.kind != "HEAT"]
    return [NewDelivery(result.sop_uid, name) for result in sent for name in destinations]


def _commit_plan(
    database: Database,
    claim: Claim,
    plan: Plan,
    results: Sequence[NewResult],
    deliveries: Sequence[NewDelivery],
) -> bool:
    selections = [
        SelectionRecord(
            claim.study_id,
            claim.revision,
            choice.model,
            choice.series_uid,
            choice.taken,
            choice.rank,
            choice.code,
            choice.sentence,
        )
        for choice in plan.choices
    ]
    return jobs.finish_plan(
        database,
        claim,
        selections=selections,
        analyse=[(model, {"series": list(uids)}) for model, uids in plan.analyses],
        reason_code=plan.refusal.code if plan.refusal else None,
        sentence=plan.refusal.sentence if plan.refusal else None,
        results=results,
        deliveries=deliveries,
    )


def _commit_analysis(
    database: Database,
    claim: Claim,
    analysis: Analysis,
    results: Sequence[NewResult],
    deliveries: Sequence[NewDelivery],
) -> bool:
    earlier = predecessors_of(database, claim.study_id, claim.revision, _model(claim))
    predecessors: dict[ResultKind, str] = {kind: found[-1].sop_uid for kind, found in earlier.items()}
    return commit_analysis(
        database,
        claim,
        outcome="analysed" if analysis.refusal is None else "not_analysed",
        reason_code=analysis.refusal.code if analysis.refusal else None,
        sentence=analysis.refusal.sentence if analysis.refusal else None,
        findings=analysis.findings,
        results=results,
        deliveries=deliveries,
        predecessors=predecessors,
    )


def _was_partial(database: Database, claim: Claim) -> bool:
    """How the revision was closed, by its plan: the study's own row may speak of a newer revision."""
    view = study_view(database, claim.study_uid)
    plans = (
        [job for job in view.jobs if job.kind == "plan" and job.revision == claim.revision] if view else []
    )
    return any(bool(plan.parameters.get("partial")) for plan in plans)


def _model(claim: Claim) -> str:
    if claim.model is None:
        raise ValueError(f"job {claim.job_id} analyses without a model")
    return claim.model
