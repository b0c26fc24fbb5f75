"""From what was read and predicted to the objects and findings of a job; and the report of a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydicom.dataset import Dataset

from config.settings import Settings
from models.package import Package
from models.predictor import Prediction
from pipeline.assignment import AnalyseAssignment, Analysis, Plan, PlanAssignment, WrittenObject
from pipeline.reading.refusals import Refusal
from pipeline.reading.source_series import SourceSeries
from pipeline.reading.study_series import ReadBytes, headers_of
from pipeline.results.predecessors import Predecessor
from pipeline.results.result_set import ResultSet, build_not_analysed_set, build_result_set

PARTIAL_NOTE: Final = "The study may be incomplete: it was closed while more images were expected."
EARLY_NOTE: Final = "Begun when this series was whole; other images of the study were still awaited."
CITED_MAX: Final = 200  # images cited by the report of a refusal


def write_results(
    assignment: AnalyseAssignment,
    package: Package,
    slot: int,
    sources: Sequence[SourceSeries],
    predictions: Sequence[Prediction],
    settings: Settings,
    read_bytes: ReadBytes,
) -> Analysis:
    """SEG, report and picture of an analysis, or why none can cite these images."""
    notes = [EARLY_NOTE] if assignment.is_early else []
    if assignment.study.is_partial:
        notes.append(PARTIAL_NOTE)
    made = build_result_set(
        sources,
        predictions,
        package,
        node=settings.node,
        revision=assignment.study.revision,
        job_created_at=assignment.created_at,
        predecessors=[
            Predecessor(record.kind, read_bytes(record.location)) for record in assignment.predecessors
        ],
        slot=slot,
        sr_class=settings.results.sr_class,
        secondary_capture=settings.results.secondary_capture,
        empty_segmentation=settings.results.empty_segmentation,
        notes=tuple(notes),
    )
    if isinstance(made, Refusal):
        return Analysis(made, {}, ())
    return Analysis(None, made.findings, _written(made))


def report_refused_analysis(
    assignment: AnalyseAssignment,
    package: Package,
    slot: int,
    analysis: Analysis,
    settings: Settings,
    read_bytes: ReadBytes,
) -> Analysis:
    """A refused analysis with a small report, where the site wants one and images can be cited."""
    if analysis.refusal is None or not settings.results.not_analysed_report:
        return analysis
    objects = _refusal_report(
        assignment, assignment.series_uids, analysis.refusal, package, slot, settings, read_bytes
    )
    return replace(analysis, objects=objects)


def report_refused_plan(
    assignment: PlanAssignment, plan: Plan, settings: Settings, read_bytes: ReadBytes
) -> Plan:
    """As `report_refused_analysis`, for a study that no model wants."""
    if plan.refusal is None or not settings.results.not_analysed_report:
        return plan
    series = tuple(series.series_uid for series in assignment.study.series)
    objects = _refusal_report(assignment, series, plan.refusal, None, 0, settings, read_bytes)
    return replace(plan, objects=objects)


def _refusal_report(
    assignment: AnalyseAssignment | PlanAssignment,
    series_uids: Sequence[str],
    refusal: Refusal,
    package: Package | None,
    slot: int,
    settings: Settings,
    read_bytes: ReadBytes,
) -> tuple[WrittenObject, ...]:
    study = assignment.study
    images = sorted(
        (i for i in study.instances if i.is_image and i.series_uid in series_uids), key=lambda i: i.sop_uid
    )
    found = headers_of(images[:CITED_MAX], read_bytes)
    headers = [header for header in found if isinstance(header, Dataset)]
    if not headers:
        return ()
    made = build_not_analysed_set(
        headers,
        refusal,
        package=package,
        node=settings.node,
        revision=study.revision,
        job_created_at=assignment.created_at,
        slot=slot,
        sr_class=settings.results.sr_class,
    )
    return () if isinstance(made, Refusal) else _written(made)


def _written(made: ResultSet) -> tuple[WrittenObject, ...]:
    return tuple(
        WrittenObject(one.kind, one.sop_uid, one.sop_class, one.series_uid, one.part10)
        for one in made.objects
    )
