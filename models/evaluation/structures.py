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

Volumes = NDArray[np.float64]


@dataclass(frozen=True)
class StructureCase:
    """One structure in one case.

    dice : None where the truth does not have it, see `models.evaluation.overlap.dice`
    found_ml, truth_ml : voxels times voxel volume; in voxels where the volume of one is unknown
    """

    dice: float | None
    found_ml: float
    truth_ml: float

    @property
    def is_false_alarm(self) -> bool:
        """Drawn, though the truth does not have it."""
        return self.truth_ml == 0 and self.found_ml > 0


def structure_cases(
    found: NDArray[Any], truth: NDArray[Any], count: int, *, voxel_ml: float | None
) -> tuple[StructureCase, ...]:
    """Each structure of one case, by its number 1..count.

    Parameters
    ----------
    found, truth : labels (slices, rows, columns), 0 background

    Raises
    ------
    ValueError
        They have different shapes, or a label that is no structure.
    """
    for name, labels in (("found", found), ("truth", truth)):
        if labels.min() < 0 or labels.max() > count:
            raise ValueError(f"{name} has labels up to {int(labels.max())}, there are {count} structures")
    size = voxel_ml if voxel_ml is not None else 1.0
    cases = []
    for number in range(1, count + 1):
        ours, theirs = found == number, truth == number
        cases.append(StructureCase(dice(ours, theirs), float(ours.sum()) * size, float(theirs.sum()) * size))
    return tuple(cases)


def structure_figures(
    names: Sequence[str],
    cases: Sequence[Sequence[StructureCase]],
    maker: FigureMaker,
    *,
    unit: str = "mL",
) -> tuple[ReportFigure, ...]:
    """Figures of each structure: mean Dice, bias and ICC of the volume, false alarms.

    Cases whose truth does not have a structure are in its false alarms alone.

    Parameters
    ----------
    names : of the structures, by number
    cases : of each case, its structures by number
    maker : groups and name of the cases
    """
    figures: list[ReportFigure | None] = []
    for index, name in enumerate(names):
        of_one = [case[index] for case in cases]
        key = metric_name(name)
        there = [case.truth_ml > 0 for case in of_one]
        found = np.array([case.found_ml for case in of_one])
        truth = np.array([case.truth_ml for case in of_one])
        counted = sum(there)
        dices = [case.dice for case in of_one]
        figures += [
            maker.make(f"dice_{key}_mean", f"Dice of {name}, mean", "mean", mean_over(dices), n=counted),
            maker.make(
                f"volume_bias_{key}",
                f"{name}, volume found less true, mean",
                "mean",
                _of_volumes(lambda f, t: bland_altman(f, t).bias, found, truth),
                unit=unit,
                n=counted,
            ),
            maker.make(
                f"volume_relative_bias_{key}",
                f"{name}, the same as a share of the mean true volume",
                "mean",
                _of_volumes(lambda f, t: bland_altman(f, t).relative_bias, found, truth),
                n=counted,
            ),
            maker.make(
                f"volume_icc_{key}",
                f"{name}, agreement of volumes, ICC(2,1)",
                "coefficient",
                _of_volumes(lambda f, t: icc(np.stack([f, t], axis=1)), found, truth),
                n=counted,
            ),
        ]
        if counted < len(of_one):
            alarms = [float(case.is_false_alarm) if case.truth_ml == 0 else None for case in of_one]
            figures.append(
                maker.make(
                    f"false_alarms_{key}",
                    f"{name} drawn where it is not",
                    "share",
                    mean_over(alarms),
                    n=len(of_one) - counted,
                    among=[not one for one in there],
                )
            )
    return known(figures)


def metric_name(label: str) -> str:
    """A label as part of a metric's name: small letters, digits and underscores."""
    plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in label.lower())
    return "_".join(part for part in plain.split("_") if part)


def _of_volumes(
    statistic: Callable[[Volumes, Volumes], float], found: Volumes, truth: Volumes
) -> Callable[[Indices], float]:
    """A statistic of found and true volumes, of the cases drawn whose truth has the structure."""

    def figure(drawn: Indices) -> float:
        there = drawn[truth[drawn] > 0]
        return statistic(found[there], truth[there])

    return figure
