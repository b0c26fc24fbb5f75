"""Another method's figure of each case beside ours: the paired mean difference over the cases both have.

File: CSV with the columns `case,metric,value`; lines that begin with # come first, and say who the method is
and where its figures are from. Metrics: `dice`, of the lesion or the mean over the structures of a case;
`dice_KEY` or `dice_NUMBER` of one structure. Values lie between 0 and 1. Other figures of borders are left
out: programs do not agree on what a border is.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from config.errors import PrereadError
from models.evaluation.bootstrap import paired
from models.evaluation.case_result import CaseResult, result_from
from models.evaluation.figures import GROUPS_MIN, mean_over
from models.evaluation.structure_metrics import metric_keys
from models.training.split import Split

COLUMNS = ("case", "metric", "value")
MARGIN = 0.005  # half a point


class BesideError(PrereadError):
    """A file of another method's figures that cannot be used."""


@dataclass(frozen=True)
class Theirs:
    """Another method's figures.

    words : the file's comments: the method first, then the source
    values : by metric, of each case
    """

    words: tuple[str, ...]
    values: dict[str, dict[str, float]]


@dataclass(frozen=True)
class BesideRow:
    """One figure of both methods on the same cases.

    ours, theirs : means over the shared cases
    difference : ours - theirs; ci95 : percentile interval by group, both from the same draws; None of fewer
    than five groups
    is_not_worse : the whole interval lies above the margin to the bad
    n : shared cases; theirs_only, ours_only : cases that only one of the two has
    over : which of our cases were looked at
    """

    metric: str
    ours: float
    theirs: float
    difference: float
    ci95: tuple[float, float] | None
    is_not_worse: bool
    n: int
    theirs_only: int
    ours_only: int
    over: str


@dataclass(frozen=True)
class BesideReport:
    """A comparison as a report shows it. `margin`: how much worse is not worse."""

    words: tuple[str, ...]
    margin: float
    rows: tuple[BesideRow, ...]


@dataclass(frozen=True)
class Beside:
    """A comparison that is asked for.

    others : results of networks of other folds, each on cases that it did not see
    """

    theirs: Theirs
    others: tuple[CaseResult, ...] = ()
    margin: float = MARGIN

    def check(self, names: Collection[str], labels: Sequence[str]) -> None:
        """Refuse what could not be compared, before anything is predicted.

        Parameters
        ----------
        names : of the cases that will be judged
        labels : of the package's structures by number; none of one that finds lesions

        Raises
        ------
        BesideError
            A metric is not known, or no case is shared.
        """
        known = metrics_of(labels)
        for metric, values in self.theirs.values.items():
            if metric not in known:
                raise BesideError(
                    f"{metric} is no figure of this package", remedy=f"Known: {', '.join(known)}."
                )
            if not any(name in values for name in names):
                raise BesideError(
                    f"{metric}: none of their cases is judged here",
                    remedy=f"Theirs begin with {min(values)}, ours with {min(names)}.",
                )

    def report(self, results: Sequence[CaseResult]) -> BesideReport:
        """Rows over the cases that are judged now, and with `others` over all folds together."""
        rows = set_beside(self.theirs, results, over="cases judged here", margin=self.margin)
        if self.others:
            rows += set_beside(
                self.theirs, [*results, *self.others], over="cases of all folds", margin=self.margin
            )
        return BesideReport(self.theirs.words, self.margin, rows)


def read_others(files: Sequence[Path], split: Split) -> tuple[CaseResult, ...]:
    """Results of other folds, as the stages `evaluate/fold-1` and so on of a training keep them.

    Raises
    ------
    BesideError
        A file cannot be read, or holds a case twice, of the scored fold, or that the split does not have.
    """
    results: dict[str, CaseResult] = {}
    for file in files:
        try:
            read = [result_from(one) for one in json.loads(file.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BesideError(
                "is no file of results",
                where=str(file),
                remedy="Give WORK/evaluate/fold-…/results.json of `models train --out-of-fold`.",
            ) from error
        for one in read:
            if one.name in results or split.folds.get(one.name, 0) <= 0:
                raise BesideError(
                    f"case {one.name} is there twice, or is none of another fold of this split",
                    where=str(file),
                    remedy="Give one file of each other fold of the same training.",
                )
            results[one.name] = one
    return tuple(results.values())


def read_theirs(path: Path) -> Theirs:
    """Read the file.

    Raises
    ------
    BesideError
        It is missing or does not follow the form; names the line.
    """
    remedy = f"Write a CSV with the columns {','.join(COLUMNS)} and values between 0 and 1."
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BesideError("cannot be read as text", where=str(path), remedy=remedy) from error
    comments = tuple(line.lstrip("# ").rstrip() for line in lines if line.startswith("#"))
    # With the place of each in the file, for what is said about it.
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not numbered or tuple(next(csv.reader([numbered[0][1]]))) != COLUMNS:
        raise BesideError(f"does not begin with {','.join(COLUMNS)}", where=str(path), remedy=remedy)
    values: dict[str, dict[str, float]] = {}
    for number, line in numbered[1:]:
        fault = _take(next(csv.reader([line])), values)
        if fault:
            raise BesideError(fault, where=f"{path} line {number}", remedy=remedy)
    if not values:
        raise BesideError("holds no figure", where=str(path), remedy=remedy)
    return Theirs(comments, values)


def _take(row: Sequence[str], values: dict[str, dict[str, float]]) -> str:
    """Put one row where it belongs; what is wrong with it, or nothing."""
    if len(row) != len(COLUMNS):
        return f"has {len(row)} columns"
    case, metric, text = row
    try:
        value = float(text)
    except ValueError:
        return f"{text!r} is no number"
    if not isfinite(value) or not 0 <= value <= 1:
        return f"{text} is not between 0 and 1"
    of_metric = values.setdefault(metric, {})
    if case in of_metric:
        return f"{metric} of {case} is there twice"
    of_metric[case] = value
    return ""


def set_beside(
    theirs: Theirs, results: Sequence[CaseResult], *, over: str, margin: float = MARGIN
) -> tuple[BesideRow, ...]:
    """A row for each of their metrics that any case has in both; `over`: what the results are of."""
    groups = {one.name: one.group for one in results}
    rows = []
    for metric, values in theirs.values.items():
        ours = case_figures(results).get(metric, {})
        shared = [name for name in ours if name in values]
        if not shared:
            continue
        means = [mean_over([one[name] for name in shared]) for one in (values, ours)]
        everything = np.arange(len(shared))
        difference = paired(means[0], means[1], [groups[name] for name in shared])
        ci95 = difference.ci95 if len({groups[name] for name in shared}) >= GROUPS_MIN else None
        rows.append(
            BesideRow(
                metric=metric,
                ours=means[1](everything),
                theirs=means[0](everything),
                difference=difference.value,
                ci95=ci95,
                is_not_worse=ci95 is not None and ci95[0] > -margin,
                n=len(shared),
                theirs_only=len(values) - len(shared),
                ours_only=len(ours) - len(shared),
                over=over,
            )
        )
    return tuple(rows)


def metrics_of(labels: Sequence[str]) -> tuple[str, ...]:
    """What can be compared, of a package with these structures."""
    keys = metric_keys(labels)
    return ("dice", *(f"dice_{one}" for pair in enumerate(keys, start=1) for one in reversed(pair)))


def case_figures(results: Sequence[CaseResult]) -> dict[str, dict[str, float]]:
    """By metric: of each case that has it, its value. A structure goes by its key and by its number."""
    figures: dict[str, dict[str, float]] = {"dice": {}}
    for result in results:
        if result.dice is not None:
            figures["dice"][result.name] = result.dice
        keys = metric_keys([structure.label for structure in result.structures])
        for number, (key, structure) in enumerate(zip(keys, result.structures, strict=True), start=1):
            for name in (f"dice_{key}", f"dice_{number}"):
                of_one = figures.setdefault(name, {})
                if structure.dice is not None:
                    of_one[result.name] = structure.dice
    return figures
