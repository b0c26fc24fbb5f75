"""PURE agreement and outcome of cases to a block `uncertainty`; every figure of cases left out of the fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.calibration import Curve
from models.evaluation.bootstrap import drawn, percentiles
from models.evaluation.calibrating import isotonic_curve_of
from models.uncertainty.block import Uncertainty, Usefulness

Floats = NDArray[np.float64]
SIZE_PERCENT = 90.0
CASES_MIN = 12
SIZE_FACTOR_MAX = 100.0


class TooFewOutlines(ValueError):
    """Cases that cannot tell sure from unsure."""


def fit_uncertainty(
    agreement: Floats,
    dice: Floats,
    size_ratio: Floats,
    folds: NDArray[np.int64],
    groups: Sequence[str],
) -> Uncertainty:
    """The block of cases that the network was not trained on, all with a lesion.

    Parameters
    ----------
    agreement, dice : (n,), 0 to 1
    size_ratio : (n,) true size over drawn size, above 0; infinite where nothing was drawn
    folds, groups : of each case; a group lies in one fold

    Raises
    ------
    TooFewOutlines
        Fewer than CASES_MIN cases, or one fold only.
    """
    if len(dice) < CASES_MIN or len(np.unique(folds)) < 2:
        raise TooFewOutlines(f"{len(dice)} outlines; at least {CASES_MIN} in two folds are needed")
    predicted = np.empty(len(dice))
    for fold in np.unique(folds):
        inside = folds == fold
        curve = isotonic_curve_of(agreement[~inside], dice[~inside])
        predicted[inside] = read_curve(curve, agreement[inside])
    # Isotonic curves are flat in places; within a step the agreement itself still orders the cases.
    confidence = predicted + 1e-6 * agreement
    risk = 1 - dice
    gains = [
        float(risk[one].mean()) - area_of(confidence[one], risk[one])
        for one in drawn(groups, None, seed=45, draws=2000)
    ]
    factors = np.maximum(size_ratio, 1 / size_ratio)
    low, high = percentiles(gains)
    return Uncertainty(
        source="flips",
        dice=isotonic_curve_of(agreement, dice),
        size_factor=round(
            float(min(np.percentile(factors, SIZE_PERCENT, method="higher"), SIZE_FACTOR_MAX)), 3
        ),
        usefulness=Usefulness(
            area=round(area_of(confidence, risk), 4),
            area_by_chance=round(float(risk.mean()), 4),
            gain95=(round(low, 4), round(high, 4)),
            n=len(dice),
        ),
    )


def area_of(confidence: Floats, risk: Floats) -> float:
    """Mean over all coverages of the mean risk among the surest cases; the lower the better."""
    order = np.argsort(-confidence, kind="stable")
    return float((np.cumsum(risk[order]) / np.arange(1, len(risk) + 1)).mean())


def read_curve(curve: Curve, values: Floats) -> Floats:
    """(n,) the curve at the values, linear between its points and flat beyond them."""
    return np.asarray(np.interp(values, curve.said, curve.so))
