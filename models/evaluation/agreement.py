"""PURE agreement of two measurements of the same thing, such as a volume by model and by reader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlandAltman:
    """Differences found - truth, in the unit of the measurements.

    bias : mean difference
    limits : bias -+ 1.96 standard deviations (n - 1) of the differences
    relative_bias : bias divided by the mean truth
    """

    bias: float
    limits: tuple[float, float]
    relative_bias: float


def bland_altman(found: NDArray[np.float64], truth: NDArray[np.float64]) -> BlandAltman:
    """Bias and limits of agreement of (n,) pairs.

    Source: Bland and Altman, Lancet 1986. The differences of volumes grow with the volume; the limits say
    nothing about one size alone.

    Raises
    ------
    ValueError
        Fewer than two pairs.
    """
    if len(found) < 2:
        raise ValueError("limits of agreement need at least two pairs")
    difference = found - truth
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    return BlandAltman(bias, (bias - 1.96 * deviation, bias + 1.96 * deviation), bias / float(truth.mean()))


def icc(ratings: NDArray[np.float64]) -> float:
    """Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, a single rater.

    Parameters
    ----------
    ratings : (subjects, raters)

    Raises
    ------
    ValueError
        Fewer than two subjects or raters, or all ratings are the same.

    Source: Shrout and Fleiss, Psychological Bulletin 1979; McGraw and Wong call it ICC(A,1).
    """
    subjects, raters = ratings.shape
    if subjects < 2 or raters < 2:
        raise ValueError("an intraclass correlation needs two subjects and two raters")
    grand = ratings.mean()
    by_subject, by_rater = ratings.mean(1), ratings.mean(0)
    between = raters * float(((by_subject - grand) ** 2).sum()) / (subjects - 1)
    of_raters = subjects * float(((by_rater - grand) ** 2).sum()) / (raters - 1)
    rest = ratings - by_subject[:, None] - by_rater[None] + grand
    error = float((rest**2).sum()) / ((subjects - 1) * (raters - 1))
    below = between + (raters - 1) * error + raters * (of_raters - error) / subjects
    if below == 0:
        raise ValueError("all ratings are the same: nothing can be correlated")
    return float((between - error) / below)
