"""PURE figures of a classifier: accuracy, and area under the ROC curve from ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
