"""PURE figures of lesions as things to be found: sensitivity, false lesions, FROC, average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.average_precision import average_precision
from models.evaluation.bootstrap import DRAWS, SEED, drawn, percentiles, widened
from models.evaluation.figures import FigureMaker, Indices, ReportFigure, known, mean_over, ratio_over
from models.evaluation.froc import (
    CPM_RATES,
    Candidates,
    FrocCurve,
    SizeBand,
    cpm,
    froc,
    sensitivity_at,
    sensitivity_by_diameter,
)
from models.evaluation.measures import CaseMeasures, DrawnLesion
from models.evaluation.scales import Scale


@dataclass(frozen=True)
class RatePoint:
    """Sensitivity at one number of false lesions per study."""

    false_per_study: float
    sensitivity: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class FrocReport:
    """The curve, what it says at the usual rates, and where the shipped setting stands."""

    false_per_study: tuple[float, ...]
    sensitivity: tuple[float, ...]
    at_rates: tuple[RatePoint, ...]
    shipped_false_per_study: float
    shipped_sensitivity: float
    studies: int
    lesions: int


def lesion_figures(cases: Sequence[CaseMeasures], scale: Scale, of: str) -> tuple[ReportFigure, ...]:
    """Figures over all cases, those without a lesion included. `of`: what a case is called."""
    maker = FigureMaker(tuple(case.result.group for case in cases), of)
    there = [len(case.true_lesions) for case in cases]
    found = [sum(lesion.is_found for lesion in case.true_lesions) for case in cases]
    large = [[one for one in case.true_lesions if one.diameter >= scale.headline_diameter] for case in cases]
    candidates = candidates_over(cases)
    size = f"{scale.headline_diameter:g} {scale.length_unit}"

    def curve_mean(indices: Indices) -> float:
        return cpm(froc(candidates, np.bincount(indices, minlength=len(cases))))

    def precision(indices: Indices) -> float:
        drawn = [one for index in indices for one in cases[index].precise]
        return precision_of(drawn, sum(there[index] for index in indices))

    return known(
        [
            maker.make(
                "lesion_sensitivity",
                "lesions found at the shipped setting",
                "share",
                ratio_over(found, there),
                among=[count > 0 for count in there],
                n=sum(there),
                of="lesions",
            ),
            maker.make(
                "lesion_sensitivity_large",
                f"lesions of {size} and more found at the shipped setting",
                "share",
                ratio_over([sum(one.is_found for one in part) for part in large], [len(p) for p in large]),
                n=sum(len(part) for part in large),
                of="lesions",
                among=[bool(part) for part in large],
            ),
            maker.make(
                "false_lesions_per_study",
                "false lesions drawn per study at the shipped setting",
                "mean",
                mean_over([float(case.false_lesions) for case in cases]),
            ),
            maker.make(
                "studies_with_false_lesion",
                "studies with at least one false lesion",
                "share",
                mean_over([float(case.false_lesions > 0) for case in cases]),
            ),
            maker.make(
                "cpm", "mean sensitivity at 1/8 to 8 false lesions per study (CPM)", "mean", curve_mean
            ),
            maker.make(
                "average_precision",
                f"average precision of drawn lesions at IoU {scale.precision_iou:g}",
                "area",
                precision,
            ),
        ]
    )


def froc_report(cases: Sequence[CaseMeasures]) -> FrocReport | None:
    """The curve with intervals by study; None without a lesion."""
    candidates = candidates_over(cases)
    lesions = int(candidates.lesions.sum())
    if not lesions:
        return None
    curve = froc(candidates)
    groups = [case.result.group for case in cases]
    with_lesion = {case.result.group for case in cases if case.true_lesions}
    draws = []
    for indices in drawn(groups, None, seed=SEED, draws=DRAWS):
        times = np.bincount(indices, minlength=len(cases))
        if (candidates.lesions * times).any():
            draws.append(sensitivity_at(froc(candidates, times), CPM_RATES))
    points = tuple(
        RatePoint(rate, float(value), widened(percentiles(values), len(with_lesion)))
        for rate, value, values in zip(
            CPM_RATES, sensitivity_at(curve, CPM_RATES), np.array(draws).T.tolist(), strict=True
        )
    )
    found = sum(lesion.is_found for case in cases for lesion in case.true_lesions)
    false = sum(case.false_lesions for case in cases)
    return FrocReport(*points_of(curve), points, false / len(cases), found / lesions, len(cases), lesions)


def points_of(curve: FrocCurve) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """False lesions per study and sensitivity of every operating point."""
    return tuple(map(float, curve.false_per_study)), tuple(map(float, curve.sensitivity))


def candidates_over(cases: Sequence[CaseMeasures]) -> Candidates:
    """All regions the model might draw, by study."""
    flat = [(index, one) for index, case in enumerate(cases) for one in case.candidates]
    return Candidates(
        np.array([one.score for _, one in flat], float),
        np.array([one.is_hit for _, one in flat], bool),
        np.array([index for index, _ in flat], np.int64),
        np.array([len(case.true_lesions) for case in cases], np.int64),
    )


def precision_of(drawn: Sequence[DrawnLesion], lesions: int) -> float:
    """Average precision of drawn lesions."""
    scores = np.array([one.score for one in drawn], float)
    return average_precision(scores, np.array([one.is_hit for one in drawn], bool), lesions)


def bands_of(cases: Sequence[CaseMeasures], scale: Scale) -> tuple[SizeBand, ...]:
    """How many lesions of each size were found."""
    lesions = [lesion for case in cases for lesion in case.true_lesions]
    return sensitivity_by_diameter(
        np.array([lesion.diameter for lesion in lesions], float),
        np.array([lesion.is_found for lesion in lesions], bool),
        scale.diameter_edges,
    )
