"""PURE figures of a classifier, those that hide imbalance and those that do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def accuracy(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Share of cases whose class is right."""
    return float((found == truth).mean())


def auc(scores: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> float:
    """Chance that a positive case scores higher than a negative one; ties count half (Mann-Whitney).

    Raises
    ------
    ValueError
        One of the two kinds is missing.
    """
    positives, negatives = scores[is_positive], np.sort(scores[~is_positive])
    if not len(positives) or not len(negatives):
        raise ValueError("the area under the curve needs positive and negative cases")
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    return float((below + not_above).mean() / 2 / len(negatives))


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Operating points from the highest score down, starting where nothing is called positive."""

    thresholds: Floats
    false_positive_rate: Floats
    sensitivity: Floats


def roc(scores: Floats, is_positive: Flags) -> RocCurve:
    """The curve whose area is `auc`; equal scores are one point. Raises as `auc` does."""
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        raise ValueError("the ROC curve needs positive and negative cases")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits, false = np.cumsum(is_positive[order])[last], np.cumsum(~is_positive[order])[last]
    return RocCurve(
        np.concatenate([[np.inf], scores[order][last]]),
        np.concatenate([[0.0], false / negatives]),
        np.concatenate([[0.0], hits / positives]),
    )


def sensitivity(called: Flags, is_positive: Flags) -> float:
    """Share of positive cases that are called so; ValueError without any."""
    if not is_positive.any():
        raise ValueError("sensitivity needs positive cases")
    return float(called[is_positive].mean())


def specificity(called: Flags, is_positive: Flags) -> float:
    """Share of negative cases that are not called positive; ValueError without any."""
    if is_positive.all():
        raise ValueError("specificity needs negative cases")
    return float((~called[~is_positive]).mean())


def predictive_values(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float | None, float | None]:
    """(PPV, NPV) where `prevalence` of those examined are positive, by Bayes; None where nobody is called so.

    A test set's own share of positives is an accident of its making, so it is stated, never assumed.
    """
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    not_false, not_true = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    ppv = true / (true + false) if true + false > 0 else None
    npv = not_false / (not_false + not_true) if not_false + not_true > 0 else None
    return ppv, npv


def confusion(found: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(classes, classes) cases by true class (row) and found class (column)."""
    return np.bincount(truth * classes + found, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(table: NDArray[np.int64]) -> float:
    """Mean over the classes that occur of the share found, from a confusion table."""
    occurring = table.sum(1) > 0
    return float((np.diag(table)[occurring] / table.sum(1)[occurring]).mean())


def macro_f1(table: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur or were found, each class alike, from a confusion table."""
    twice, total = 2 * np.diag(table), table.sum(0) + table.sum(1)
    return float((twice[total > 0] / total[total > 0]).mean())
