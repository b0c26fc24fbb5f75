"""PURE what a model's own confidence is good for: keeping silent where it would be wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Share of wrong answers among the surest `coverage` of the cases."""

    coverage: Floats
    risk: Floats
    area: float  # mean risk over all coverages; the lower the better


def risk_coverage(confidence: Floats, is_right: Flags) -> RiskCoverage:
    """What would be left wrong if the model kept silent about its least sure cases.

    Equal confidences are taken in together.

    Raises
    ------
    ValueError
        There is no case.
    """
    if not len(confidence):
        raise ValueError("a risk-coverage curve needs cases")
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    kept = last + 1
    risk = np.cumsum(~is_right[order])[last] / kept
    steps = np.diff(kept, prepend=0)
    return RiskCoverage(kept / len(confidence), risk, float((risk * steps).sum() / len(confidence)))
