"""What a sorter said of series whose answers are known, and figures of it: each question and source apart.

A series is right where the answer is the true one, or where unknown was said of what is not on the list. A
figure is the mean over patients (or groups of near-duplicates) of the share of their series; the interval
draws patients again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.evaluation.bootstrap import interval, widened
from models.evaluation.gates import StratumFigure
from models.manifest import Evaluation
from models.sorting.answers import UNKNOWN, Probabilities, answer_all
from models.sorting.cases import ONLY_JUDGED, OTHER, QUALITY, View
from models.sorting.degraded import FINE
from models.sorting.manifest import Question

REAL, GENERATED, ELSEWHERE, ODD = "real", "generated", "elsewhere", "odd"
DEGRADED, GENERATED_DEGRADED = "degraded", "generated_degraded"
SOURCES: Final = (REAL, GENERATED, ELSEWHERE, ODD, DEGRADED, GENERATED_DEGRADED)
GENERATED_SOURCES: Final = frozenset({GENERATED, GENERATED_DEGRADED})
SOURCE_WORDS: Final = {
    REAL: "real series of the collections it was trained on, other patients",
    GENERATED: "generated series",
    ELSEWHERE: "real series of scanners it never saw (two MR patients, two CT)",
    ODD: "odd DICOM files of many devices, read by eye",
    DEGRADED: "the real series of the first and third row with heavy noise or blur added",
    GENERATED_DEGRADED: "generated series with heavy noise or blur added",
}
ODD_KIND: Final = "odd-dicom"
METRICS: Final = ("accuracy", "wrong", "missed")


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer to one question about one series."""

    series: str
    group: str
    kind: str
    source: str
    question: str
    truth: str
    said: str
    likeliest: str
    score: float

    @property
    def is_right(self) -> bool:
        """Unknown is right about what is not on the list."""
        return self.said == (UNKNOWN if self.truth == OTHER else self.truth)

    @property
    def is_wrong(self) -> bool:
        """An answer was given, and not the true one."""
        return self.said != UNKNOWN and self.said != self.truth


def source_of(view: View, question: str) -> str:
    """Where a series comes from, as figures are told apart.

    Quality is judged on series as they are and degraded together, everything else apart.
    """
    if question != QUALITY and view.truth.get(QUALITY, FINE) != FINE:
        return GENERATED_DEGRADED if view.is_generated else DEGRADED
    if view.kind == ODD_KIND:
        return ODD
    if view.is_generated:
        return GENERATED
    return ELSEWHERE if view.fold == ONLY_JUDGED else REAL


def judge(
    questions: Sequence[Question],
    views: Sequence[View],
    probabilities: Sequence[Mapping[str, Probabilities]],
) -> list[JudgedAnswer]:
    """What is said of every view to every question whose answer is known."""
    judged = []
    for view, found in zip(views, probabilities, strict=True):
        for one in answer_all(questions, found, view.pixels):
            truth = view.truth.get(one.question)
            if truth is not None:
                judged.append(
                    JudgedAnswer(
                        view.name,
                        view.group,
                        view.kind,
                        source_of(view, one.question),
                        one.question,
                        truth,
                        one.name,
                        one.likeliest,
                        one.score,
                    )
                )
    return judged


def figures(
    judged: Iterable[JudgedAnswer], subset: str, split_sha256: str, questions: Sequence[Question]
) -> tuple[Evaluation, ...]:
    """Share right, wrong, and unknown though the answer is on the list, of each question and source."""
    parts: dict[tuple[str, str], list[JudgedAnswer]] = defaultdict(list)
    for one in judged:
        parts[one.question, one.source].append(one)
    rows = []
    for question in questions:
        for source in SOURCES:
            part = parts.get((question.name, source), [])
            for metric in METRICS if part else ():
                values = {
                    "accuracy": [one.is_right for one in part],
                    "wrong": [one.is_wrong for one in part],
                    "missed": [not one.is_right and not one.is_wrong for one in part],
                }[metric]
                value, ci95, patients = share_by_group(values, [one.group for one in part])
                rows.append(
                    Evaluation.model_validate(
                        {
                            "dataset": source,
                            "split_sha256": split_sha256,
                            "subset": subset,
                            "metric": f"{metric}_{question.name}_{source}",
                            "value": round(value, 4),
                            "ci95": (round(ci95[0], 4), round(ci95[1], 4)),
                            "n": patients,
                            "unit": "patients",
                        }
                    )
                )
    return tuple(rows)


def kinds_of(judged: Iterable[JudgedAnswer], questions: Sequence[Question]) -> tuple[StratumFigure, ...]:
    """Accuracy on real series, of all and of each kind, question by question: what gates on strata judge."""
    real = [one for one in judged if one.source == REAL]
    rows = []
    for question in questions:
        asked = [one for one in real if one.question == question.name]
        parts = {("all", "cases"): asked}
        for one in asked:
            parts.setdefault(("kind", one.kind), []).append(one)
        for (division, part), found in parts.items():
            if found:
                value, ci95, n = share_by_group([one.is_right for one in found], [one.group for one in found])
                rows.append(StratumFigure(division, part, f"accuracy_{question.name}", value, ci95, n))
    return tuple(rows)


def share_by_group(values: Sequence[bool], groups: Sequence[str]) -> tuple[float, tuple[float, float], int]:
    """Mean over groups of the share of true values in each; 95 % interval; number of groups."""
    by_group: dict[str, list[bool]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        by_group[group].append(value)
    shares = np.array([np.mean(found) for found in by_group.values()])
    names = list(by_group)
    ci95 = interval(lambda indices: float(shares[indices].mean()), names)
    return float(shares.mean()), widened(ci95, len(names)), len(names)


def confusion(judged: Iterable[JudgedAnswer], question: str, source: str) -> dict[tuple[str, str], int]:
    """How many series by (truth, said)."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for one in judged:
        if one.question == question and one.source == source:
            counts[one.truth, one.said] += 1
    return dict(counts)


def chosen_threshold(
    scores: Sequence[float], right: Sequence[bool], *, wrong_max: float, least: float
) -> float:
    """The lowest score from which on at most `wrong_max` of the answers are wrong; 1 where there is none.

    Parameters
    ----------
    scores, right : of the likeliest answer to each series; false, too, where nothing of the list is true
    least : never lower than this
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    sorted_scores = np.asarray(scores, dtype=np.float64)[order]
    wrong = np.cumsum(~np.asarray(right, dtype=bool)[order]) / np.arange(1, len(order) + 1)
    # Ties share a fate: only the last of equal scores is a place to cut at.
    is_end = np.append(sorted_scores[1:] != sorted_scores[:-1], True) if len(order) else np.zeros(0, bool)
    fitting = sorted_scores[(wrong <= wrong_max) & is_end]
    return max(least, float(fitting.min())) if len(fitting) else 1.0
