"""PURE: predictions of all sources to the findings of one study, numbered and tracked, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.explanation.attention import CAPTION
from models.predictor import Prediction
from pipeline.reading.source_series import SourceSeries
from pipeline.results.authorship import Authorship
from pipeline.results.findings import Findings, Lesion, ModelIdentity, SourceFindings, TrackedLesion
from pipeline.results.measure import measure
from pipeline.results.predecessors import Predecessor, inherited_tracking
from pipeline.results.source_repair import RepairedSource
from pipeline.results.structures import scores_of, totals_of, without_gaps
from pipeline.results.words import headline, is_urgent

_DECIMALS: Final = 4


def gather_findings(
    kept: Sequence[tuple[SourceSeries, Prediction]],
    repaired: Sequence[RepairedSource],
    authorship: Authorship,
    predecessors: Sequence[Predecessor],
    notes: tuple[str, ...],
) -> Findings:
    """Measure, number and track the lesions or structures of all sources, and choose the source that decides.

    Parameters
    ----------
    kept : each source with its prediction
    repaired : of the same sources
    notes : about the study as a whole
    """
    has_structures = authorship.model.outlines_structures
    found: list[SourceFindings] = []
    numbers: list[tuple[int, ...]] = []
    for source, prediction in kept:
        labels, scores = prediction.labels, prediction.lesion_scores
        if has_structures:
            labels, occurring = without_gaps(labels)
            numbers.append(occurring)
            scores = scores_of(prediction, occurring)
        found.append(
            SourceFindings(
                labels=labels,
                lesions=tuple(measure(labels, source.volume, scores, boxes_of(prediction))),
                class_name=prediction.class_name,
                class_scores=dict(prediction.class_scores or {}),
                notes=(*source.notes, *prediction.notes),
                attention=prediction.attention,
                is_unusual=prediction.likeness.standing != "usual" if prediction.likeness else None,
            )
        )
    if has_structures:
        lesions = _named(found, numbers, repaired, authorship)
    else:
        inherited = inherited_tracking(predecessors, repaired, [one.labels for one in found])
        lesions = _numbered(found, inherited, repaired, authorship)
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


def boxes_of(prediction: Prediction) -> NDArray[np.float64] | None:
    """(lesions, 6) of what a detector drew; None of what was outlined."""
    return None if prediction.detected is None else prediction.detected.of_lesions


def _numbered(
    found: Sequence[SourceFindings],
    inherited: Mapping[tuple[int, int], str],
    repaired: Sequence[RepairedSource],
    authorship: Authorship,
) -> list[TrackedLesion]:
    """The lesions of all sources, numbered over the study; those seen before keep their tracking UID."""
    lesions: list[TrackedLesion] = []
    for index, one in enumerate(found):
        for lesion in one.lesions:
            number = len(lesions) + 1
            uid = inherited.get((index, lesion.label)) or authorship.key.tracking_uid(
                part_of(repaired[index]), lesion.label
            )
            lesions.append(TrackedLesion(number, index, lesion, f"lesion {number}", uid))
    return lesions


def _named(
    found: Sequence[SourceFindings],
    numbers: Sequence[tuple[int, ...]],
    repaired: Sequence[RepairedSource],
    authorship: Authorship,
) -> list[TrackedLesion]:
    """The structures of all sources; what each is does not depend on where it lies, nor does its UID."""
    return [
        TrackedLesion(
            number,
            index,
            lesion,
            authorship.model.plan_of(number).label,
            authorship.key.structure_uid(part_of(repaired[index]), number),
        )
        for index, one in enumerate(found)
        for number, lesion in zip(numbers[index], one.lesions, strict=True)
    ]


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


def findings_json(
    findings: Findings, repaired: Sequence[RepairedSource], heat_uids: Mapping[int, str]
) -> dict[str, Any]:
    """The findings as the job keeps them, for page, command line and worklist.

    Parameters
    ----------
    heat_uids : of the kept heat maps, by the index of their source
    """
    notes = [*findings.notes]
    for one, source in zip(findings.sources, repaired, strict=True):
        notes += [*source.notes, *one.notes]
    has_structures = findings.model.outlines_structures
    deciding = findings.sources[findings.deciding_source]
    attention = {}
    if deciding.attention is not None and findings.deciding_source in heat_uids:
        attention["attention"] = {
            "class": deciding.attention.class_name,
            "method": deciding.attention.method,
            "caption": CAPTION,
            "uid": heat_uids[findings.deciding_source],
        }
    return {
        "lesions": [] if has_structures else [_lesion(one, repaired) for one in findings.lesions],
        **({"structures": _structures(findings, repaired)} if has_structures else {}),
        "class": findings.class_name,
        "scores": {name: round(score, _DECIMALS) for name, score in findings.class_scores.items()},
        "series_uid": repaired[findings.deciding_source].series_uid,
        "notes": list(dict.fromkeys(notes)),
        "urgent": is_urgent(findings),
        "unusual": findings.is_unusual,
        "headline": headline(findings),
        **attention,
    }


def _lesion(tracked: TrackedLesion, repaired: Sequence[RepairedSource]) -> dict[str, Any]:
    lesion = tracked.lesion
    return {
        "number": tracked.number,
        **_size(lesion),
        "long_axis_mm": _rounded(lesion.long_axis_mm),
        "short_axis_mm": _rounded(lesion.short_axis_mm),
        "score": _rounded(lesion.score),
        "tracking_uid": tracked.tracking_uid,
        **_key(tracked, repaired),
    }


def _structures(findings: Findings, repaired: Sequence[RepairedSource]) -> dict[str, Any]:
    """Every structure that was looked for, found or not, and the declared totals of the deciding source."""
    parts = []
    for index in range(len(findings.sources)):
        found = {one.number: one for one in findings.lesions_of(index)}
        for plan in findings.model.structures:
            part: dict[str, Any] = {"number": plan.number, "label": plan.label, "found": False}
            tracked = found.get(plan.number)
            if tracked is not None:
                part |= {
                    "found": True,
                    **_size(tracked.lesion),
                    "score": _rounded(tracked.lesion.score),
                    "tracking_uid": tracked.tracking_uid,
                    **_key(tracked, repaired),
                }
            parts.append(part)
    totals = totals_of(findings, findings.deciding_source)
    return {
        "parts": parts,
        "totals": [{"label": label, "volume_ml": _rounded(volume)} for label, volume in totals.items()],
    }


def _size(lesion: Lesion) -> dict[str, float]:
    if lesion.volume_ml is not None:
        return {"volume_ml": round(lesion.volume_ml, _DECIMALS)}
    if lesion.area_mm2 is not None:
        return {"area_mm2": round(lesion.area_mm2, _DECIMALS)}
    return {"area_px": lesion.area_px}


def _key(tracked: TrackedLesion, repaired: Sequence[RepairedSource]) -> dict[str, Any]:
    key = repaired[tracked.source].references[tracked.lesion.key_slice]
    return {"key_sop_uid": key.sop_uid, "key_frame": key.frame_number}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
