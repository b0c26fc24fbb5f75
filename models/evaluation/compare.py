"""PURE one package against another on the same cases: differences with intervals, never two intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.bootstrap import Indices, PairedDifference, paired
from models.evaluation.class_figures import ClassCases
from models.evaluation.classification import accuracy, auc
from models.evaluation.figures import mean_over, ratio_over
from models.evaluation.measures import CaseMeasures
from models.evaluation.structure_metrics import DICE, OF_ALL, VOLUME_ERROR, metric_keys
from models.evaluation.structures import mean_dice, structure_labels


@dataclass(frozen=True)
class PairedRow:
    """One figure of two packages.

    higher_is_better : what a difference above 0 means
    difference : second - first
    """

    metric: str
    first: float
    second: float
    difference: PairedDifference
    n: int
    of: str
    higher_is_better: bool

    def is_not_worse(self, margin: float) -> bool:
        """Whether the whole interval of the difference is better than `margin` to the bad."""
        low, high = self.difference.ci95
        return low > -margin if self.higher_is_better else high < margin

    @property
    def verdict(self) -> str:
        """What the interval says of the second package."""
        low, high = self.difference.ci95
        if low <= 0 <= high:
            return "not told apart"
        return "better" if (low > 0) == self.higher_is_better else "worse"


def compare_cases(
    first: Sequence[CaseMeasures],
    second: Sequence[CaseMeasures],
    classes: tuple[ClassCases, ClassCases],
    of: str,
) -> tuple[PairedRow, ...]:
    """Rows where both packages have the figure.

    Parameters
    ----------
    first, second : of the same cases in the same order
    classes : of the same images or slices in the same order
    of : what a case is called

    Raises
    ------
    ValueError
        The cases are not the same.
    """
    check_same(first, second)
    groups = [case.result.group for case in first]
    there = [float(len(case.true_lesions)) for case in first]
    rows = [
        row_of(
            "dice",
            [mean_over([case.result.dice for case in cases]) for cases in (first, second)],
            groups,
            n=sum(case.result.dice is not None for case in first),
            of=of,
        ),
        row_of(
            "lesion_sensitivity",
            [ratio_over(found_in(cases), there) for cases in (first, second)],
            groups,
            n=round(sum(there)),
            of="lesions",
        ),
        row_of(
            "false_lesions_per_study",
            [mean_over([float(case.false_lesions) for case in cases]) for cases in (first, second)],
            groups,
            n=len(first),
            of=of,
            higher_is_better=False,
        ),
        *class_rows(*classes),
    ]
    return tuple(row for row in rows if row is not None)


def compare_structures(
    first: Sequence[CaseMeasures], second: Sequence[CaseMeasures], of: str
) -> tuple[PairedRow, ...]:
    """Dice over all structures, then Dice and error of the volume of each that both packages have.

    Raises
    ------
    ValueError
        The cases are not the same.
    """
    check_same(first, second)
    groups = [case.result.group for case in first]
    found = [[case.result.structures for case in cases] for cases in (first, second)]
    labels = [structure_labels(one) for one in found]
    shared = [label for label in labels[0] if label in labels[1]]
    dices = [[mean_dice([one for one in case if one.label in shared]) for case in cases] for cases in found]
    rows = [dice_row(OF_ALL, dices, groups, of)]
    for label, key in zip(shared, metric_keys(shared), strict=True):
        pair = [[case[own.index(label)] for case in cases] for cases, own in zip(found, labels, strict=True)]
        rows.append(dice_row(DICE.metric(key), [[one.dice for one in cases] for cases in pair], groups, of))
        off = [
            [abs(one.found_size - one.truth_size) if one.truth_size else None for one in cases]
            for cases in pair
        ]
        rows.append(
            row_of(
                VOLUME_ERROR.metric(key),
                [mean_over(values) for values in off],
                groups,
                n=sum(value is not None for value in off[0]),
                of=of,
                higher_is_better=False,
            )
        )
    return tuple(row for row in rows if row is not None)


def dice_row(
    metric: str, dices: Sequence[Sequence[float | None]], groups: Sequence[str], of: str
) -> PairedRow | None:
    """Mean Dice of both packages."""
    n = sum(value is not None for value in dices[0])
    return row_of(metric, [mean_over(values) for values in dices], groups, n=n, of=of)


def check_same(first: Sequence[CaseMeasures], second: Sequence[CaseMeasures]) -> None:
    """The same cases in the same order; ValueError otherwise."""
    names = [[case.result.name for case in cases] for cases in (first, second)]
    if names[0] != names[1]:
        raise ValueError("two packages can only be compared on the same cases in the same order")


def class_rows(first: ClassCases, second: ClassCases) -> list[PairedRow | None]:
    """Area under the curve and accuracy."""
    positive = first.is_positive
    strata = ["yes" if flag else "no" for flag in positive] if first.is_stratified else None

    def area(cases: ClassCases) -> Callable[[Indices], float]:
        scores = cases.positive_scores
        return lambda indices: auc(scores[indices], positive[indices])

    def right(cases: ClassCases) -> Callable[[Indices], float]:
        return lambda indices: accuracy(cases.found[indices], cases.truth[indices])

    return [
        row_of(
            "class_auc",
            [area(first), area(second)],
            first.groups,
            n=len(positive),
            of=first.of,
            strata=strata,
        ),
        row_of("accuracy", [right(first), right(second)], first.groups, n=len(positive), of=first.of),
    ]


def found_in(cases: Sequence[CaseMeasures]) -> list[float]:
    """Lesions found in each case."""
    return [float(sum(lesion.is_found for lesion in case.true_lesions)) for case in cases]


def row_of(
    metric: str,
    figures: Sequence[Callable[[Indices], float]],
    groups: Sequence[str],
    *,
    n: int,
    of: str,
    higher_is_better: bool = True,
    strata: Sequence[str] | None = None,
) -> PairedRow | None:
    """A figure of both; None where it is not defined."""
    everything = np.arange(len(groups))
    try:
        values = [figure(everything) for figure in figures]
        difference = paired(figures[0], figures[1], groups, strata=strata)
    except ValueError:
        return None
    return PairedRow(metric, values[0], values[1], difference, n, of, higher_is_better)
