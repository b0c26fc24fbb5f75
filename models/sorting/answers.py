"""PURE: from the probabilities of each question to answers, with "unknown" below the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.sorting.manifest import Question

UNKNOWN = "unknown"
Probabilities = NDArray[np.float64]  # of one question: its answers, then none of these where it has that


@dataclass(frozen=True)
class Given:
    """What was answered to one question.

    name : of the answer, or unknown
    likeliest, score : the answer of the list with the highest probability, and that; whatever `name` is
    is_sure : from the package's `sure` on
    """

    question: str
    name: str
    likeliest: str
    score: float
    is_sure: bool

    @property
    def is_known(self) -> bool:
        """Whether there is an answer."""
        return self.name != UNKNOWN


@dataclass(frozen=True)
class SeriesAnswers:
    """All answers about one series; `sorter`: id and version of the package that gave them."""

    sorter: str
    given: tuple[Given, ...]

    def of(self, question: str) -> Given | None:
        """The answer to a question; None where the package does not ask it."""
        return next((one for one in self.given if one.question == question), None)


def answer_all(
    questions: Sequence[Question], probabilities: Mapping[str, Probabilities], pixels: int
) -> tuple[Given, ...]:
    """The answers to all questions, in order.

    Parameters
    ----------
    probabilities : by question, meaned over slices; an empty mapping where no slice showed anything
    pixels : longer side of the images
    """
    given: dict[str, Given] = {}
    for question in questions:
        found = probabilities.get(question.name)
        when = question.asked_when
        is_asked = when is None or given[when.question].name in when.answers
        if found is None or not is_asked or pixels < question.pixels_min:
            likeliest, score = question.answers[0].name, 0.0
        else:
            best = int(np.argmax(found[: len(question.answers)]))
            likeliest, score = question.answers[best].name, float(found[best])
        is_other = found is not None and question.other and float(found[-1]) >= score
        is_known = score >= question.threshold and score > 0 and not is_other
        name = likeliest if is_known else UNKNOWN
        is_sure = is_known and score >= question.sure
        given[question.name] = Given(question.name, name, likeliest, score, is_sure)
    return tuple(given.values())


def split_outputs(
    questions: Sequence[Question], outputs: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """(k, all outputs) -> (k, outputs of the question) by question: the heads, in the manifest's order."""
    parts: dict[str, NDArray[np.float64]] = {}
    start = 0
    for question in questions:
        parts[question.name] = outputs[:, start : start + question.outputs]
        start += question.outputs
    return parts


def probabilities_of(questions: Sequence[Question], logits: NDArray[np.float64]) -> dict[str, Probabilities]:
    """(k, all outputs) logits of k slices -> probabilities of each question, meaned over slices."""
    if not len(logits):
        return {}
    return {name: _softmax(part).mean(0) for name, part in split_outputs(questions, logits).items()}


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), dtype=np.float64)
