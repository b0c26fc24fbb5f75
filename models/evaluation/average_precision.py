"""PURE average precision of drawn lesions at a required IoU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.float64], is_hit: NDArray[np.bool_], lesions: int) -> float:
    """Sum over falling scores of precision times the recall gained, without interpolation.

    Lesions that nothing hit hold the recall below 1. Equal scores are one step.

    Parameters
    ----------
    scores, is_hit : (n,) of all drawn lesions of all studies, matched at the required IoU
    lesions : true lesions of all studies

    Raises
    ------
    ValueError
        There is no true lesion.
    """
    if lesions == 0:
        raise ValueError("average precision needs lesions")
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(is_hit[order])[last]
    precision, recall = hits / (last + 1), hits / lesions
    return float((precision * np.diff(recall, prepend=0.0)).sum())
