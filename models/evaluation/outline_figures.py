"""PURE figures of outlines: surfaces, sizes and agreement, and how many cases each row holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.evaluation.agreement import bland_altman, icc
from models.evaluation.figures import (
    FigureMaker,
    Indices,
    ReportFigure,
    known,
    mean_over,
    median_over,
)
from models.evaluation.measures import CaseMeasures
from models.evaluation.overlap import OutlineCounts, count_outlines
from models.evaluation.scales import Scale


def outline_counts(cases: Sequence[CaseMeasures]) -> OutlineCounts:
    """Cases compared, false alarms, and nothing drawn where nothing is."""
    return count_outlines(
        [case.kind for case in cases],
        [case.result.false_voxels if case.kind == "false_alarm" else 0 for case in cases],
    )


def outline_figures(cases: Sequence[CaseMeasures], scale: Scale, of: str) -> tuple[ReportFigure, ...]:
    """Figures over the cases with a truth. `of`: what a case is called."""
    compared = [case for case in cases if case.kind == "compared"]
    if not compared:
        return ()
    maker = FigureMaker(tuple(case.result.group for case in compared), f"{of} with a lesion")
    found = np.array([case.found_size for case in compared])
    truth = np.array([case.truth_size for case in compared])
    with_distance = sum(case.hd95 is not None for case in compared)
    unit = scale.length_unit

    def bias(indices: Indices) -> float:
        return bland_altman(found[indices], truth[indices]).bias

    def relative_bias(indices: Indices) -> float:
        return bland_altman(found[indices], truth[indices]).relative_bias

    def agreement(indices: Indices) -> float:
        return icc(np.column_stack([found[indices], truth[indices]]))

    def missed(indices: Indices) -> float:
        return float(np.mean([compared[index].result.dice == 0 for index in indices]))

    tolerance = f"within {scale.tolerance:g} {unit}"
    return known(
        [
            maker.make(
                "iou_mean", "intersection over union", "mean", mean_over([case.iou for case in compared])
            ),
            maker.make(
                "nsd_mean",
                f"share of the borders that agree {tolerance} (NSD)",
                "mean",
                mean_over([case.nsd for case in compared]),
            ),
            maker.make(
                "hd95_median",
                "95th percentile of border distance, where both drew something",
                "median",
                median_over([case.hd95 for case in compared]),
                unit=unit,
                n=with_distance,
            ),
            maker.make("missed_share", "cases of which nothing was outlined", "share", missed),
            maker.make("size_bias", "size by model minus size by reader", "mean", bias, unit=scale.size_unit),
            maker.make("size_bias_relative", "the same as a share of the mean size", "mean", relative_bias),
            maker.make("size_icc", "agreement on size, ICC(2,1)", "coefficient", agreement),
        ]
    )
