"""PURE figures that a detector's package declares: sensitivity at numbers of false findings, by studies.

The candidates of every case are kept with it, so the whole curve can be drawn again for any part of the
cases, and for any draw of a bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detection_prediction import DetectedBoxes
from models.evaluation.detections import hits_of_boxes
from models.evaluation.froc import CPM_RATES, Candidates, cpm, froc, sensitivity_at
from models.evaluation.lesions import diameters, numbered
from models.training.cases import Case

SMALL_MM, LARGE_MM = 6.0, 8.0


@dataclass(frozen=True)
class JudgedBoxes:
    """What a detector found in one case, and what there was; plain values, to be kept as JSON.

    Parameters
    ----------
    scores : of every candidate, the surest first
    hits : of every candidate the index of the lesion it found; -1: false, or found before
    diameters_mm : of every true lesion: of the ball of equal volume
    shown : how many of the candidates are drawn at the shipped setting
    """

    scores: Sequence[float]
    hits: Sequence[int]
    diameters_mm: Sequence[float]
    shown: int


def judged_boxes(case: Case, detected: DetectedBoxes) -> JudgedBoxes:
    """Compare all candidates with the truth; diameters in voxels' widths where the spacing is unknown."""
    lesions = numbered(case.mask)
    found, _ = hits_of_boxes(detected.boxes, lesions)
    voxel_mm3 = 1000 * case.volume.voxel_ml if case.volume.voxel_ml is not None else 1.0
    return JudgedBoxes(
        [round(float(score), 6) for score in detected.scores],
        [int(number) - 1 for number in found],
        [round(float(size), 3) for size in diameters(lesions, voxel_mm3)],
        # Those before the last one that is drawn are drawn, or hidden by a surer one.
        max(detected.drawn, default=-1) + 1,
    )


def detection_rows(cases: Sequence[JudgedBoxes]) -> dict[str, Callable[[NDArray[np.int64]], float]]:
    """Figures by name, each a function of which cases are drawn (repeats allowed).

    CPM and sensitivity at 1 false finding in each study; the same CPM of lesions from 6 mm, from 8 mm;
    sensitivity and false findings at the shipped setting. One without lesions is not among them; on a draw
    without lesions a figure raises ValueError.
    """
    rows: dict[str, Callable[[NDArray[np.int64]], float]] = {}
    for name, least in (("cpm", 0.0), ("cpm_from_6_mm", SMALL_MM), ("cpm_from_8_mm", LARGE_MM)):
        if any(size >= least for case in cases for size in case.diameters_mm):
            rows[name] = _cpm_of(candidates_of(cases, least))
    if "cpm" not in rows:
        return rows
    whole = candidates_of(cases)

    def at_one(indices: NDArray[np.int64]) -> float:
        return float(sensitivity_at(froc(whole, np.bincount(indices, minlength=len(cases))), [1.0])[0])

    def found(indices: NDArray[np.int64]) -> float:
        hit = sum(sum(one >= 0 for one in cases[i].hits[: cases[i].shown]) for i in indices)
        there = sum(len(cases[i].diameters_mm) for i in indices)
        if not there:
            raise ValueError("sensitivity needs studies with lesions")
        return hit / there

    def false(indices: NDArray[np.int64]) -> float:
        return float(np.mean([sum(one < 0 for one in cases[i].hits[: cases[i].shown]) for i in indices]))

    return rows | {
        "sensitivity_at_1_false": at_one,
        "lesions_found": found,
        "false_findings_per_study": false,
    }


def candidates_of(cases: Sequence[JudgedBoxes], least_mm: float = 0.0) -> Candidates:
    """All candidates; with `least_mm` smaller lesions are neutral: neither to find nor false when found."""
    scores: list[float] = []
    hits: list[bool] = []
    study: list[int] = []
    for index, case in enumerate(cases):
        for score, hit in zip(case.scores, case.hits, strict=True):
            if hit >= 0 and case.diameters_mm[hit] < least_mm:
                continue
            scores.append(score)
            hits.append(hit >= 0)
            study.append(index)
    return Candidates(
        np.array(scores, float),
        np.array(hits, bool),
        np.array(study, np.int64),
        np.array([sum(size >= least_mm for size in case.diameters_mm) for case in cases], np.int64),
    )


def _cpm_of(candidates: Candidates) -> Callable[[NDArray[np.int64]], float]:
    def value(indices: NDArray[np.int64]) -> float:
        return cpm(froc(candidates, np.bincount(indices, minlength=len(candidates.lesions))))

    return value


def sensitivities(cases: Sequence[JudgedBoxes]) -> dict[float, float]:
    """Sensitivity at each of the seven numbers of false findings that CPM is the mean of."""
    curve = froc(candidates_of(cases))
    return {
        rate: float(value) for rate, value in zip(CPM_RATES, sensitivity_at(curve, CPM_RATES), strict=True)
    }
