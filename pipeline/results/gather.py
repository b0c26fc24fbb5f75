"""PURE: predictions of all sources to the findings of one study, numbered and tracked, and their JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from models.predictor import Prediction
from pipeline.reading.source_series import SourceSeries
from pipeline.results.authorship import Authorship
from pipeline.results.findings import Findings, ModelIdentity, SourceFindings, TrackedLesion
from pipeline.results.measure import measure
from pipeline.results.predecessors import Predecessor, inherited_tracking
from pipeline.results.source_repair import RepairedSource
from pipeline.results.words import headline, is_urgent

_DECIMALS: Final = 4


def gather_findings(
    kept: Sequence[tuple[SourceSeries, Prediction]],
    repaired: Sequence[RepairedSource],
    authorship: Authorship,
    predecessors: Sequence[Predecessor],
    notes: tuple[str, ...],
) -> Findings:
    """Measure, number and track the lesions of all sources, and choose the source that decides.

    Parameters
    ----------
    kept : each source with its prediction
    repaired : of the same sources
    notes : about the study as a whole
    """
    found = [
        SourceFindings(
            labels=prediction.labels,
            lesions=tuple(measure(prediction.labels, source.volume, prediction.lesion_scores)),
            class_name=prediction.class_name,
            class_scores=dict(prediction.class_scores or {}),
            notes=(*source.notes, *prediction.notes),
        )
        for source, prediction in kept
    ]
    inherited = inherited_tracking(predecessors, repaired, [one.labels for one in found])
    lesions: list[TrackedLesion] = []
    for index, one in enumerate(found):
        for lesion in one.lesions:
            number = len(lesions) + 1
            uid = inherited.get((index, lesion.label)) or authorship.key.tracking_uid(
                part_of(repaired[index]), lesion.label
            )
            lesions.append(TrackedLesion(number, index, lesion, f"lesion {number}", uid))
    deciding = _deciding(found, authorship.model)
    return Findings(
        model=authorship.model,
        sources=tuple(found),
        lesions=tuple(lesions),
        class_name=found[deciding].class_name,
        class_scores=found[deciding].class_scores,
        deciding_source=deciding,
        notes=notes,
    )


def _deciding(found: Sequence[SourceFindings], model: ModelIdentity) -> int:
    """The most suspicious source: by its class, then suspicious scores, then the size of its lesions."""

    def suspicion(index: int) -> tuple[bool, float, float, int]:
        one = found[index]
        plan = model.class_plan(one.class_name)
        urgent = sum(one.class_scores.get(c.name, 0.0) for c in model.classes if c.urgent)
        positive = sum(one.class_scores.get(c.name, 0.0) for c in model.classes if not c.negative)
        return bool(plan and plan.urgent), urgent, positive, sum(lesion.voxels for lesion in one.lesions)

    # Of equals the first: max keeps it.
    return max(range(len(found)), key=suspicion)


def part_of(repaired: RepairedSource) -> str:
    """Tells the SEGs of a set apart: each 2D image has its own, since viewers show one SEG of a series."""
    if repaired.is_placed:
        return ""
    first = repaired.references[0]
    return first.sop_uid if first.frame_number is None else f"{first.sop_uid} {first.frame_number}"


def findings_json(findings: Findings, repaired: Sequence[RepairedSource]) -> dict[str, Any]:
    """The findings as the job keeps them, for page, command line and worklist."""
    lesions = []
    for tracked in findings.lesions:
        lesion = tracked.lesion
        key = repaired[tracked.source].references[lesion.key_slice]
        if lesion.volume_ml is not None:
            size = {"volume_ml": round(lesion.volume_ml, _DECIMALS)}
        elif lesion.area_mm2 is not None:
            size = {"area_mm2": round(lesion.area_mm2, _DECIMALS)}
        else:
            size = {"area_px": lesion.area_px}
        lesions.append(
            {
                "number": tracked.number,
                **size,
                "long_axis_mm": _rounded(lesion.long_axis_mm),
                "short_axis_mm": _rounded(lesion.short_axis_mm),
                "score": _rounded(lesion.score),
                "tracking_uid": tracked.tracking_uid,
                "key_sop_uid": key.sop_uid,
                "key_frame": key.frame_number,
            }
        )
    notes = [*findings.notes]
    for one, source in zip(findings.sources, repaired, strict=True):
        notes += [*source.notes, *one.notes]
    return {
        "lesions": lesions,
        "class": findings.class_name,
        "scores": {name: round(score, _DECIMALS) for name, score in findings.class_scores.items()},
        "series_uid": repaired[findings.deciding_source].series_uid,
        "notes": list(dict.fromkeys(notes)),
        "urgent": is_urgent(findings),
        "headline": headline(findings),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
