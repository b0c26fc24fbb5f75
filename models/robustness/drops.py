"""PURE what a metric loses from one set of answers to another on the same cases, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.evaluation.bootstrap import DRAWS, Figure, paired
from models.evaluation.classification import auc
from models.evaluation.figures import mean_over
from models.manifest import ClassFinding
from models.robustness.answers import Answer

POINTS: Final = 100.0  # of a figure between 0 and 1
METRIC_WORDS: Final = {"dice": "Dice", "accuracy": "accuracy", "auc": "AUC"}


@dataclass(frozen=True)
class Judged:
    """A case as a drop needs it."""

    name: str
    group: str
    true_class: str | None


@dataclass(frozen=True)
class Drop:
    """One metric before and after.

    Parameters
    ----------
    before, after : on the same cases
    points : 100 times their difference, positive where it fell; ci95 of it: None of fewer than five groups
    n : cases with an answer both times
    refused : cases that were refused afterwards, which count nowhere else
    """

    metric: str
    before: float
    after: float
    points: float
    ci95: tuple[float, float] | None
    n: int
    refused: int


def drops_between(
    cases: Sequence[Judged],
    before: Sequence[Answer],
    after: Sequence[Answer],
    classes: Sequence[ClassFinding],
    *,
    draws: int = DRAWS,
) -> tuple[Drop, ...]:
    """Drops of what is defined: Dice of cases with a lesion, accuracy, AUC of the urgent class."""
    both = [k for k in range(len(cases)) if not before[k].is_refused and not after[k].is_refused]
    refused = sum(one.is_refused and not other.is_refused for one, other in zip(after, before, strict=True))
    outlined = [k for k in both if before[k].dice is not None and after[k].dice is not None]
    found = [
        _drop(
            "dice",
            mean_over([before[k].dice for k in outlined]),
            mean_over([after[k].dice for k in outlined]),
            [cases[k] for k in outlined],
            refused,
            draws=draws,
        )
    ]
    if classes and all(cases[k].true_class is not None for k in both):
        part = [cases[k] for k in both]
        found.append(
            _drop(
                "accuracy",
                mean_over([float(before[k].class_name == cases[k].true_class) for k in both]),
                mean_over([float(after[k].class_name == cases[k].true_class) for k in both]),
                part,
                refused,
                draws=draws,
            )
        )
        urgent = next((item.name for item in classes if item.urgent), None)
        if urgent is not None:
            truth = np.array([one.true_class == urgent for one in part])
            scores = [
                np.array([(answers[k].class_scores or {})[urgent] for k in both])
                for answers in (before, after)
            ]
            found.append(
                _drop(
                    "auc",
                    lambda indices: auc(scores[0][indices], truth[indices]),
                    lambda indices: auc(scores[1][indices], truth[indices]),
                    part,
                    refused,
                    strata=[str(flag) for flag in truth],
                    draws=draws,
                )
            )
    return tuple(one for one in found if one is not None)


def _drop(
    metric: str,
    before: Figure,
    after: Figure,
    cases: Sequence[Judged],
    refused: int,
    *,
    strata: Sequence[str] | None = None,
    draws: int,
) -> Drop | None:
    groups = [case.group for case in cases]
    everything = np.arange(len(cases))
    try:
        first, second = before(everything), after(everything)
    except ValueError:
        return None  # not defined: no lesion, or one class only
    ci95 = None
    if len(set(groups)) >= 5:
        ends = paired(after, before, groups, strata=strata, draws=draws).ci95
        ci95 = (POINTS * ends[0], POINTS * ends[1])
    return Drop(metric, first, second, POINTS * (first - second), ci95, len(cases), refused)
