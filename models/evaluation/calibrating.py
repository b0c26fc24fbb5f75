"""PURE class scores of cases to a block `calibration`: each method tried out of fold, the best one kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from models.calibration import POINTS_MAX, PROBABILITY_MIN, Calibration, Curve, corrected
from models.evaluation.calibration import expected_calibration_error

Method = Literal["temperature", "isotonic", "none"]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
CASES_MIN = 30
METHODS: tuple[Method, ...] = ("none", "temperature", "isotonic")
_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))
# A class that a handful of cases called impossible is not: its log loss would be without bound.
_SHARE_MIN = 0.005


class TooFewScores(ValueError):
    """Cases that cannot tell one correction from another."""


def fit_calibration(
    scores: Floats, truth: Indices, folds: Indices, methods: Sequence[Method] = METHODS
) -> Calibration:
    """The correction with the least log loss out of fold; the simplest of equals.

    Parameters
    ----------
    scores : (n, classes) of cases that the network was not trained on, rows sum to 1
    truth : (n,) class index
    folds : (n,) cases of one patient or group of near-duplicates share a fold
    methods : those to choose from, the simplest first

    Raises
    ------
    TooFewScores
        Fewer than CASES_MIN cases, or one fold only.
    """
    if len(truth) < CASES_MIN or len(np.unique(folds)) < 2:
        raise TooFewScores(f"{len(truth)} cases of known class; at least {CASES_MIN} in two folds are needed")
    tried = {method: _out_of_fold(scores, truth, folds, method) for method in methods}
    # Rounded: a correction that does nothing must not win by a billionth.
    best = min(methods, key=lambda method: round(log_loss(tried[method], truth), 6))
    return _fitted(scores, truth, best).model_copy(
        update={
            "ece_before": round(class_error(scores, truth), 4),
            "ece_after": round(class_error(tried[best], truth), 4),
        }
    )


def class_error(scores: Floats, truth: Indices) -> float:
    """Mean over the classes of the calibration error of each against the rest."""
    classes = range(scores.shape[1])
    return float(np.mean([expected_calibration_error(scores[:, k], truth == k) for k in classes]))


def log_loss(scores: Floats, truth: Indices) -> float:
    """Mean of -log of the score of the true class; the smaller the better."""
    return float(-np.log(np.maximum(scores[np.arange(len(truth)), truth], PROBABILITY_MIN)).mean())


def _out_of_fold(scores: Floats, truth: Indices, folds: Indices, method: Method) -> Floats:
    found = np.empty_like(scores)
    for fold in np.unique(folds):
        inside = folds == fold
        found[inside] = corrected(scores[inside], _fitted(scores[~inside], truth[~inside], method))
    return found


def _fitted(scores: Floats, truth: Indices, method: Method) -> Calibration:
    """A correction of all cases, its errors not yet known."""

    def block(temperature: float | None = None, curves: tuple[Curve, ...] = ()) -> Calibration:
        return Calibration(
            method=method, temperature=temperature, curves=curves, ece_before=0, ece_after=0, n=len(truth)
        )

    if method == "temperature":
        found = minimize_scalar(
            lambda log_t: log_loss(corrected(scores, block(temperature=float(np.exp(log_t)))), truth),
            bounds=_LOG_TEMPERATURE,
            method="bounded",
        )
        return block(temperature=float(np.clip(round(float(np.exp(found.x)), 4), 0.05, 20)))
    if method == "isotonic":
        classes = range(scores.shape[1])
        return block(curves=tuple(isotonic_curve(scores[:, k], truth == k) for k in classes))
    return block()


def isotonic_curve(said: Floats, is_so: NDArray[np.bool_]) -> Curve:
    """The rising share of cases (n,) that are so."""
    return isotonic_curve_of(said, is_so.astype(float), low=_SHARE_MIN, high=1 - _SHARE_MIN)


def isotonic_curve_of(said: Floats, values: Floats, *, low: float = 0.0, high: float = 1.0) -> Curve:
    """The rising curve nearest to cases (n,) of values (n,), all 0 to 1, at most POINTS_MAX points of it."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(said, values)
    x, y = np.round(fitted.X_thresholds_, 6), np.round(fitted.y_thresholds_, 6)
    x, first = np.unique(np.clip(x, 0, 1), return_index=True)
    y = y[first]
    if len(x) > POINTS_MAX:
        kept = np.unique(np.linspace(0, len(x) - 1, POINTS_MAX).round().astype(int))
        x, y = x[kept], y[kept]
    if len(x) == 1:  # All scores are one: the curve is flat.
        x, y = np.array([0.0, 1.0]), np.array([y[0], y[0]])
    return Curve(said=tuple(x.tolist()), so=tuple(np.maximum.accumulate(y).tolist()))
