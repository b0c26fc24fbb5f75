"""PURE whether a score of 0.8 is right eight times out of ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ReliabilityBin:
    """Cases of similar probability: how often they were said and how often they were so."""

    low: float
    high: float
    mean_probability: float
    rate: float
    n: int


def reliability(probability: Floats, outcome: Flags, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Bins of equal mass, each with as many cases as the next, from the least probable up.

    Bins of equal width would leave most of them almost empty, and the figure to chance.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return tuple(
        ReliabilityBin(
            float(probability[part[0]]),
            float(probability[part[-1]]),
            float(probability[part].mean()),
            float(outcome[part].mean()),
            len(part),
        )
        for part in parts
    )


def expected_calibration_error(probability: Floats, outcome: Flags, bins: int = BINS) -> float:
    """Mean over bins of equal mass of |probability said - share that was so|, weighted by cases.

    Few cases make it larger than it is: compare it with `error_if_calibrated`.
    """
    if not len(probability):
        raise ValueError("calibration needs cases")
    order = np.argsort(probability, kind="stable")
    count = min(bins, len(order))
    # The first bins hold one case more where the cases do not divide, as in `reliability`.
    numbers = np.arange(count)
    starts = numbers * (len(order) // count) + np.minimum(numbers, len(order) % count)
    gaps = np.add.reduceat(probability[order] - outcome[order], starts)
    return float(np.abs(gaps).sum() / len(probability))


def error_if_calibrated(
    probability: Floats, *, bins: int = BINS, draws: int = 2000, seed: int = 45
) -> tuple[float, float]:
    """(mean, 97.5th percentile) of the calibration error of as many cases if every probability were true."""
    generator = np.random.default_rng(seed)
    errors = [
        expected_calibration_error(probability, generator.random(len(probability)) < probability, bins)
        for _ in range(draws)
    ]
    return float(np.mean(errors)), float(np.percentile(errors, 97.5))


def brier(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Mean over cases of the sum over classes of (probability - truth)^2; 0 is perfect, 2 the worst.

    Parameters
    ----------
    probabilities : (n, classes); of one positive class, give two columns and halve the answer to compare it
    with the two-class definition
    truth : (n,) class index
    """
    wanted = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - wanted) ** 2).sum(1).mean())
