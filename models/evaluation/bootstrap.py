"""PURE percentile bootstrap: how far a figure moves when the cases are drawn again, whole groups at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000


def interval(
    figure: Callable[[NDArray[np.int64]], float],
    groups: Sequence[str],
    *,
    seed: int = 45,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """95 % interval of `figure`, a function of case indices.

    Parameters
    ----------
    figure : may raise ValueError on a draw it is not defined for (one class missing); such draws are left out
    groups : of each case; near-duplicates and slices of one patient are not independent and are drawn
    together
    """
    names = sorted(set(groups))
    members = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        chosen = generator.integers(0, len(members), len(members))
        try:
            values.append(figure(np.concatenate([members[index] for index in chosen])))
        except ValueError:
            continue
    if not values:
        raise ValueError("the figure is not defined on any draw; there are too few cases")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
