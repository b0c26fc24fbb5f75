"""A figure of a report: value, interval, of how many, in which unit; and how a set of them is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import interval, widened

Indices = NDArray[np.int64]
Statistic = Literal["mean", "median", "share", "area", "error", "coefficient"]
GROUPS_MIN = 5  # an interval from fewer groups would only look like one


@dataclass(frozen=True)
class ReportFigure:
    """One figure.

    metric : as gates and packages name it
    words : as a person reads it
    ci95 : percentile bootstrap by group, exact where all or none of a share have it; None where there are
    fewer than five groups
    n, of : of how many of what, e.g. 21 patients
    unit : of the value; empty for a share or index
    """

    metric: str
    words: str
    statistic: Statistic
    value: float
    ci95: tuple[float, float] | None
    n: int
    of: str
    unit: str = ""


@dataclass(frozen=True)
class FigureMaker:
    """Figures over the same cases.

    groups : of each case; strata : of each case, for figures that need both kinds in every draw
    of : what the cases are called
    groups_min : from how many groups on there is an interval
    """

    groups: tuple[str, ...]
    of: str
    strata: tuple[str, ...] | None = None
    groups_min: int = GROUPS_MIN

    def make(
        self,
        metric: str,
        words: str,
        statistic: Statistic,
        figure: Callable[[Indices], float],
        *,
        unit: str = "",
        n: int | None = None,
        of: str | None = None,
        among: Sequence[bool] | NDArray[np.bool_] | None = None,
    ) -> ReportFigure | None:
        """The figure of all cases with its interval; None where it is not defined, such as without lesions.

        Parameters
        ----------
        figure : of case indices; raises ValueError where it is not defined
        n, of : when what is counted is not the cases, e.g. 30 lesions
        among : of each case, whether it counts at all; a case without a lesion has no sensitivity
        """
        try:
            value = figure(np.arange(len(self.groups)))
        except ValueError:
            return None
        ci95 = None
        if len(set(self.groups)) >= self.groups_min:
            ci95 = interval(figure, self.groups, strata=self.strata)
            if statistic == "share":
                counted = None if among is None else len(set(compress(self.groups, among)))
                ci95 = widened(ci95, counted or len(set(self.groups)))
        return ReportFigure(
            metric, words, statistic, value, ci95, len(self.groups) if n is None else n, of or self.of, unit
        )


def known(figures: Sequence[ReportFigure | None]) -> tuple[ReportFigure, ...]:
    """Without those that are not defined."""
    return tuple(figure for figure in figures if figure is not None)


def mean_over(values: Sequence[float | None]) -> Callable[[Indices], float]:
    """Mean of what is known of the cases drawn."""
    return _over(values, np.mean)


def median_over(values: Sequence[float | None]) -> Callable[[Indices], float]:
    """Median of what is known of the cases drawn."""
    return _over(values, np.median)


def _over(
    values: Sequence[float | None], statistic: Callable[[NDArray[np.float64]], np.floating]
) -> Callable[[Indices], float]:
    array = np.array([np.nan if value is None else value for value in values], float)

    def figure(indices: Indices) -> float:
        part = array[indices]
        part = part[~np.isnan(part)]
        if not len(part):
            raise ValueError("no case has a value")
        return float(statistic(part))

    return figure


def ratio_over(above: Sequence[float], below: Sequence[float]) -> Callable[[Indices], float]:
    """Sum of `above` over sum of `below` of the cases drawn: lesions found of lesions there, over all."""
    upper, lower = np.asarray(above, float), np.asarray(below, float)

    def figure(indices: Indices) -> float:
        total = float(lower[indices].sum())
        if total == 0:
            raise ValueError("nothing to divide by")
        return float(upper[indices].sum()) / total

    return figure
