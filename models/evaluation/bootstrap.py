"""PURE percentile bootstrap: how far a figure moves when the cases are drawn again, whole groups at a
time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SEED = 45
Indices = NDArray[np.int64]
Figure = Callable[[Indices], float]


def interval(
    figure: Figure,
    groups: Sequence[str],
    *,
    strata: Sequence[str] | None = None,
    seed: int = SEED,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """95 % interval of `figure`, a function of case indices.

    Parameters
    ----------
    figure : may raise ValueError on a draw it is not defined for (one class missing); such draws are left out
    groups : of each case; near-duplicates and slices of one patient are not independent and are drawn
    together
    strata : of each case, the same within a group; each stratum keeps its number of groups (for an AUC, the
    two kinds of case); None draws from all groups alike
    """
    values = []
    for indices in drawn(groups, strata, seed=seed, draws=draws):
        try:
            values.append(figure(indices))
        except ValueError:
            continue
    return percentiles(values)


def widened(ci95: tuple[float, float], groups: int) -> tuple[float, float]:
    """The interval of a share, but not without width where all or none have it.

    Every draw of 21 finds of 21 is 21 of 21, and a bootstrap would call that certain. There the exact
    binomial interval stands instead (Clopper and Pearson, Biometrika 1934). `groups`: how many of them could
    have it.
    """
    possible = 0.025 ** (1 / groups)
    if ci95 == (1.0, 1.0):
        return possible, 1.0
    if ci95 == (0.0, 0.0):
        return 0.0, 1 - possible
    return ci95


@dataclass(frozen=True)
class PairedDifference:
    """What the second figure is above the first on the same cases.

    ci95 : percentile interval of the difference; both figures always saw the same draw
    share_above : share of draws in which the second was larger; ties count half
    """

    value: float
    ci95: tuple[float, float]
    share_above: float


def paired(
    first: Figure,
    second: Figure,
    groups: Sequence[str],
    *,
    strata: Sequence[str] | None = None,
    seed: int = SEED,
    draws: int = DRAWS,
) -> PairedDifference:
    """Difference second - first of two models on the same cases; parameters as of `interval`.

    Two intervals that overlap say little: most of what moves both is which cases were drawn.
    """
    differences = []
    for indices in drawn(groups, strata, seed=seed, draws=draws):
        try:
            differences.append(second(indices) - first(indices))
        except ValueError:
            continue
    everything = np.arange(len(groups))
    ci95 = percentiles(differences)
    above = float(np.mean([0.5 if value == 0 else value > 0 for value in differences]))
    return PairedDifference(second(everything) - first(everything), ci95, above)


def drawn(groups: Sequence[str], strata: Sequence[str] | None, *, seed: int, draws: int) -> Iterator[Indices]:
    """Case indices of each draw: as many groups as there are, with replacement, within each stratum.

    Raises
    ------
    ValueError
        A group has members in two strata.
    """
    names = sorted(set(groups))
    members = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    pools = [np.arange(len(members))]
    if strata is not None:
        by_stratum: dict[str, list[int]] = defaultdict(list)
        for number, member in enumerate(members):
            kinds = {strata[int(index)] for index in member}
            if len(kinds) > 1:
                raise ValueError(f"group {names[number]} lies in the strata {', '.join(sorted(kinds))}")
            by_stratum[kinds.pop()].append(number)
        pools = [np.array(pool) for _, pool in sorted(by_stratum.items())]
    generator = np.random.default_rng(seed)
    flat = np.concatenate(members)
    lengths = np.array([len(member) for member in members])
    starts = np.cumsum(lengths) - lengths
    for _ in range(draws):
        chosen = np.concatenate([pool[generator.integers(0, len(pool), len(pool))] for pool in pools])
        if len(flat) == len(members):  # each group has one member, as patients mostly do
            yield flat[chosen]
            continue
        # All members of each chosen group, one group after the other.
        ends = np.cumsum(lengths[chosen])
        shifts = np.repeat(starts[chosen] - ends + lengths[chosen], lengths[chosen])
        yield flat[np.arange(ends[-1]) + shifts]


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """2.5th and 97.5th percentile; ValueError when there is none."""
    if not values:
        raise ValueError("the figure is not defined on any draw; there are too few cases")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
