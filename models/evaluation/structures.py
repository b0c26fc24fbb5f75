"""PURE figures of named structures: how well each is outlined, and how well its volume agrees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.agreement import bland_altman, icc
from models.evaluation.figures import FigureMaker, Indices, ReportFigure, known, mean_over
from models.evaluation.overlap import dice
from models.evaluation.structure_metrics import (
    DICE,
    FALSE_ALARMS,
    OF_ALL,
    OF_ALL_WORDS,
    RELATIVE_BIAS,
    VOLUME_BIAS,
    VOLUME_ICC,
    Form,
    metric_keys,
)

Volumes = NDArray[np.float64]


@dataclass(frozen=True)
class StructureCase:
    """One structure in one case.

    dice : None where the truth does not have it, see `models.evaluation.overlap.dice`
    found_size, truth_size : voxels times the size of one, in `unit`
    """

    label: str
    dice: float | None
    found_size: float
    truth_size: float
    unit: str

    @property
    def is_false_alarm(self) -> bool:
        """Drawn, though the truth does not have it."""
        return self.truth_size == 0 and self.found_size > 0

    @property
    def is_missed(self) -> bool:
        """Not drawn, though the truth has it."""
        return self.truth_size > 0 and self.found_size == 0


def structure_cases(
    found: NDArray[Any], truth: NDArray[Any], labels: Sequence[str], *, voxel_size: float, unit: str
) -> tuple[StructureCase, ...]:
    """Each structure of one case, by its number: that of the first label is 1.

    Parameters
    ----------
    found, truth : (slices, rows, columns) numbers of structures, 0 background
    voxel_size : of one voxel in `unit`, e.g. mL

    Raises
    ------
    ValueError
        They have different shapes, or a number that is no structure.
    """
    count = len(labels)
    for name, numbers in (("found", found), ("truth", truth)):
        if numbers.min() < 0 or numbers.max() > count:
            raise ValueError(f"{name} has labels up to {int(numbers.max())}, there are {count} structures")
    cases = []
    for number, label in enumerate(labels, start=1):
        ours, theirs = found == number, truth == number
        found_size, truth_size = (float(mask.sum()) * voxel_size for mask in (ours, theirs))
        cases.append(StructureCase(label, dice(ours, theirs), found_size, truth_size, unit))
    return tuple(cases)


def mean_dice(case: Sequence[StructureCase]) -> float | None:
    """Mean over the structures that the truth of a case has; None where it has none."""
    values = [one.dice for one in case if one.dice is not None]
    return float(np.mean(values)) if values else None


def structure_labels(cases: Sequence[Sequence[StructureCase]]) -> tuple[str, ...]:
    """The labels that all cases share.

    Raises
    ------
    ValueError
        The cases are of different packages.
    """
    labels = {tuple(one.label for one in case) for case in cases}
    if len(labels) != 1:
        raise ValueError("the cases do not have the same structures")
    return labels.pop()


def structure_figures(
    cases: Sequence[Sequence[StructureCase]], maker: FigureMaker
) -> tuple[ReportFigure, ...]:
    """Dice over all structures; then of each its Dice, bias and ICC of the volume, false alarms.

    Cases whose truth does not have a structure are in its false alarms alone.

    Parameters
    ----------
    cases : of each case, its structures by number
    maker : groups and name of the cases
    """
    labels = structure_labels(cases)
    means = [mean_dice(case) for case in cases]
    counted = sum(value is not None for value in means)
    figures = [maker.make(OF_ALL, OF_ALL_WORDS, "mean", mean_over(means), n=counted)]
    for index, (label, key) in enumerate(zip(labels, metric_keys(labels), strict=True)):
        figures += _figures_of_one([case[index] for case in cases], label, key, maker)
    return known(figures)


def _figures_of_one(
    cases: Sequence[StructureCase], label: str, key: str, maker: FigureMaker
) -> list[ReportFigure | None]:
    there = [case.truth_size > 0 for case in cases]
    counted = sum(there)

    def of(form: Form, figure: Callable[[Indices], float], unit: str = "") -> ReportFigure | None:
        return maker.make(
            form.metric(key), form.words.format(label), form.statistic, figure, unit=unit, n=counted
        )

    figures = [
        of(DICE, mean_over([case.dice for case in cases])),
        of(VOLUME_BIAS, of_volumes(lambda f, t: bland_altman(f, t).bias, cases), cases[0].unit),
        of(RELATIVE_BIAS, of_volumes(lambda f, t: bland_altman(f, t).relative_bias, cases)),
        of(VOLUME_ICC, of_volumes(lambda f, t: icc(np.stack([f, t], axis=1)), cases)),
    ]
    if counted < len(cases):
        alarms = [
            None if is_there else float(case.found_size > 0)
            for case, is_there in zip(cases, there, strict=True)
        ]
        figures.append(
            maker.make(
                FALSE_ALARMS.metric(key),
                FALSE_ALARMS.words.format(label),
                FALSE_ALARMS.statistic,
                mean_over(alarms),
                n=len(cases) - counted,
                among=[not one for one in there],
            )
        )
    return figures


def of_volumes(
    statistic: Callable[[Volumes, Volumes], float], cases: Sequence[StructureCase]
) -> Callable[[Indices], float]:
    """A statistic of found and true volumes, of the cases drawn whose truth has the structure."""
    found = np.array([case.found_size for case in cases])
    truth = np.array([case.truth_size for case in cases])

    def figure(drawn: Indices) -> float:
        there = drawn[truth[drawn] > 0]
        return statistic(found[there], truth[there])

    return figure
