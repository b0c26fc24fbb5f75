"""PURE FROC: how many lesions are found, at how many false ones per study, as the bar is lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Drawn lesions of all studies, neutral ones left out, and how many there were to find.

    scores : (n,)
    is_hit : (n,) whether it found a lesion that nothing surer had found
    study : (n,) index of its study
    lesions : (studies,) true lesions of each study
    """

    scores: Floats
    is_hit: NDArray[np.bool_]
    study: NDArray[np.int64]
    lesions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrocCurve:
    """Operating points from the highest score down, starting where nothing is drawn."""

    thresholds: Floats
    false_per_study: Floats
    sensitivity: Floats


def froc(candidates: Candidates, times: NDArray[np.int64] | None = None) -> FrocCurve:
    """The curve; equal scores are one operating point.

    Parameters
    ----------
    times : (studies,) how often each study was drawn by a bootstrap; None: once each

    Raises
    ------
    ValueError
        No study, or none with a lesion.
    """
    weights = np.ones(len(candidates.lesions), np.int64) if times is None else times
    lesions, studies = int((candidates.lesions * weights).sum()), int(weights.sum())
    if lesions == 0:
        raise ValueError("sensitivity needs studies with lesions")
    order = np.argsort(-candidates.scores, kind="stable")
    scores, weight = candidates.scores[order], weights[candidates.study[order]]
    hit = candidates.is_hit[order]
    hits, false = np.cumsum(weight * hit), np.cumsum(weight * ~hit)
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.zeros(0, int)
    return FrocCurve(
        np.concatenate([[np.inf], scores[last]]),
        np.concatenate([[0.0], false[last] / studies]),
        np.concatenate([[0.0], hits[last] / lesions]),
    )


def sensitivity_at(curve: FrocCurve, rates: Sequence[float]) -> Floats:
    """Sensitivity at numbers of false lesions per study, linear between operating points.

    Beyond the last operating point nothing more is found, and the curve goes on flat.
    """
    return np.asarray(np.interp(np.asarray(rates), curve.false_per_study, curve.sensitivity))


def cpm(curve: FrocCurve) -> float:
    """Competition performance metric: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false per study.

    Source: LUNA16 (Setio and others, Medical Image Analysis 2017).
    """
    return float(sensitivity_at(curve, CPM_RATES).mean())


@dataclass(frozen=True)
class SizeBand:
    """Lesions from `low` to below `high` (None: no upper end) and how many were found."""

    low: float
    high: float | None
    n: int
    found: int


def sensitivity_by_diameter(
    diameters: Floats, is_found: NDArray[np.bool_], edges: Sequence[float]
) -> tuple[SizeBand, ...]:
    """Counts between successive edges; the last band has no upper end."""
    bands = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        inside = (diameters >= low) & (diameters < (np.inf if high is None else high))
        bands.append(SizeBand(low, high, int(inside.sum()), int(is_found[inside].sum())))
    return tuple(bands)
