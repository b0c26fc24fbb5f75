"""PURE the figures of named structures that a report shows, and where its cases went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.evaluation.document import FlowStep
from models.evaluation.figures import FigureMaker, ReportFigure, known, mean_over, median_over
from models.evaluation.measures import CaseMeasures
from models.evaluation.scales import Scale
from models.evaluation.structure_metrics import HD95, MISSED, NSD, VOLUME_ERROR, metric_keys
from models.evaluation.structure_rows import StructureRow
from models.evaluation.structures import Volumes, of_volumes, structure_figures, structure_labels


def report_figures(cases: Sequence[CaseMeasures], scale: Scale, of: str) -> tuple[ReportFigure, ...]:
    """All figures: those that packages declare, then borders, errors of volumes, what was missed."""
    maker = FigureMaker(tuple(case.result.group for case in cases), of)
    compared = [case.result.structures for case in cases]
    labels = structure_labels(compared)
    figures: list[ReportFigure | None] = [*structure_figures(compared, maker)]
    for index, (label, key) in enumerate(zip(labels, metric_keys(labels), strict=True)):
        borders = [case.borders[index] for case in cases]
        structures = [case[index] for case in compared]
        there = [one.truth_size > 0 for one in structures]
        tolerance = f"{NSD.words.format(label)} within {scale.tolerance:g} {scale.length_unit}"
        figures += [
            maker.make(
                NSD.metric(key),
                tolerance,
                NSD.statistic,
                mean_over([one.nsd for one in borders]),
                n=sum(there),
            ),
            maker.make(
                HD95.metric(key),
                f"{HD95.words.format(label)}, where it was outlined",
                HD95.statistic,
                median_over([one.hd95 for one in borders]),
                unit=scale.length_unit,
                n=sum(one.hd95 is not None for one in borders),
            ),
            maker.make(
                VOLUME_ERROR.metric(key),
                VOLUME_ERROR.words.format(label),
                VOLUME_ERROR.statistic,
                of_volumes(_error, structures),
                unit=structures[0].unit,
                n=sum(there),
            ),
            maker.make(
                MISSED.metric(key),
                MISSED.words.format(label),
                MISSED.statistic,
                mean_over([float(one.is_missed) if one.truth_size else None for one in structures]),
                n=sum(there),
                among=there,
            ),
        ]
    return known(figures)


def _error(found: Volumes, truth: Volumes) -> float:
    if not len(found):
        raise ValueError("no case has the structure")
    return float(np.abs(found - truth).mean())


def structure_flow(rows: Sequence[StructureRow], word: str) -> tuple[FlowStep, ...]:
    """How many cases have each structure; one line where all have all."""
    if all(row.absent == 0 for row in rows):
        return (FlowStep(rows[0].present, f"{word} with every structure", "their outlines are compared"),)
    steps = []
    for row in rows:
        steps.append(FlowStep(row.present, f"{word} with {row.label}", "their outlines are compared"))
        if row.absent:
            left = row.absent - row.false_alarms
            why = f"no Dice: outlined in {row.false_alarms}, rightly left alone in {left}"
            steps.append(FlowStep(row.absent, f"{word} without {row.label}", why))
    return tuple(steps)
