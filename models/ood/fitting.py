"""PURE feature vectors of training cases to statistics and limits (scikit-learn; to make a package only).

Every distance that decides a limit is of a case whose fold was left out when its statistics were fitted: a
handful of cases in hundreds of dimensions lie near their own mean, whoever they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.ood.block import COMPONENTS_MAX, OodLimits
from models.ood.statistics import FeatureStatistics, Floats

NEAR_PERCENT, FAR_PERCENT = 95.0, 99.5
CASES_MIN = 12
# Of the spread along one direction on average: below that a direction is rounding, not variation.
REST_SHARE_MIN = 1e-6


class TooFewCases(ValueError):
    """Cases that do not say what usual is; the message says how many are needed."""


def fit_statistics(vectors: Floats) -> tuple[FeatureStatistics, float]:
    """Statistics of (n, c) vectors, and the shrinkage that Ledoit and Wolf's formula chose.

    Raises
    ------
    TooFewCases
        Fewer than CASES_MIN, or vectors that do not differ.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    n, c = vectors.shape
    spread = float(vectors.var(0).sum())
    if n < CASES_MIN or spread <= 0:
        raise TooFewCases(f"{n} cases with a spread of {spread:g} do not say what is usual")
    k = min(COMPONENTS_MAX, n - 2, c - 1)
    pca = PCA(n_components=k, svd_solver="full").fit(vectors)
    axes = np.asarray(pca.components_, np.float64)
    centred = vectors - vectors.mean(0)
    scores = centred @ axes.T
    covariance = LedoitWolf(assume_centered=True).fit(scores)
    # Cholesky of the precision: |scores @ L|^2 = scores P scores^T.
    whitening = np.linalg.cholesky(np.linalg.inv(covariance.covariance_))
    rest = float(((centred - scores @ axes) ** 2).sum(1).mean()) / (c - k)
    floor = REST_SHARE_MIN * spread / c
    statistics = FeatureStatistics(vectors.mean(0), axes, whitening, max(rest, floor))
    return statistics, float(covariance.shrinkage_)


def cross_fitted_distances(vectors: Floats, folds: NDArray[np.int64]) -> Floats:
    """(n,) distance of each case by statistics of the cases of all other folds.

    Parameters
    ----------
    vectors : (n, c)
    folds : (n,) fold of each case; cases of one patient or group of near-duplicates share one
    """
    distances = np.empty(len(vectors))
    for fold in np.unique(folds):
        inside = folds == fold
        distances[inside] = fit_statistics(vectors[~inside])[0].distance(vectors[inside])
    return distances


def limits_of(distances: Floats, is_unseen: NDArray[np.bool_]) -> OodLimits:
    """The two percentiles of the cross-fitted distances (n,) of cases that the network has not seen either.

    Where too few of them are unseen, all count: a network spreads what it was trained on wider than what it
    was not, and limits from those let too much pass.
    """
    part = distances[is_unseen] if is_unseen.sum() >= CASES_MIN else distances
    near, far = (percentile_of(part, percent) for percent in (NEAR_PERCENT, FAR_PERCENT))
    return OodLimits(near=near, far=max(far, float(np.nextafter(near, np.inf))))


def percentile_of(distances: Floats, percent: float) -> float:
    """A percentile of the next case's distance, from n earlier ones.

    Of twenty cases the largest is a poor 99.5th percentile: one in twenty new ones would pass it. So it is at
    least the percentile of Student's prediction for the logarithm, which knows how few they are.
    """
    logs = np.log(np.maximum(distances, np.finfo(np.float64).tiny))
    n = len(logs)
    widening = stats.t.ppf(percent / 100, n - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / n)
    among = float(np.percentile(distances, percent, method="higher"))
    return max(among, float(np.exp(logs.mean() + widening)))
