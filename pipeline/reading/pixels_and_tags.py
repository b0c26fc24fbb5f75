"""PURE: what the sorter judged from pixels, held against what the headers say.

A very sure answer may stand in for an attribute that is absent or empty. Where a header says otherwise than a
very sure answer, that is told in words and nothing else is done: attributes are wrong less often than a small
network. An answer that is unknown, or not very sure, does nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pydicom.dataset import Dataset

from models.sorting.answers import Given, SeriesAnswers
from models.sorting.manifest import Answer, Question
from pipeline.reading.applicability import holds, is_known


class Standing(Enum):
    """How an answer and a header stand to each other."""

    UNKNOWN = "there is no answer"
    UNSURE = "there is an answer, and it is not very sure"
    STANDS_IN = "very sure, and the header is silent"
    AGREES = "very sure, and the header says the same"
    CONTRADICTS = "very sure, and the header says otherwise"
    OTHER_WORDS = "very sure; the header says neither the same nor plainly another answer, nor can be filled"


@dataclass(frozen=True)
class Remarks:
    """What pixels add to the header of a series.

    Parameters
    ----------
    stand_ins : (attribute, value) that rules may be held against besides the header
    judged : for people, of each stand-in: body part judged from the pixels: head, 0.99 (series-sorter 1.0.0)
    doubts : sentences about answers that contradict the header
    """

    stand_ins: tuple[tuple[str, str], ...] = ()
    judged: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


NOTHING_FOUND: Final = Remarks()


def standing(question: Question, given: Given | None, header: Dataset) -> Standing:
    """How the answer to a question stands to a header; None: nobody was asked."""
    if given is None or not given.is_known:
        return Standing.UNKNOWN
    if not given.is_sure:
        return Standing.UNSURE
    answer = next(one for one in question.answers if one.name == given.name)
    saying = [one.name for one in question.answers if any(holds(test, header) for test in one.said_by)]
    if answer.name in saying:
        return Standing.AGREES
    if saying or any(holds(test, header) for test in answer.denied_by):
        return Standing.CONTRADICTS
    is_fillable = bool(answer.stands_for) and _is_silent(question, answer, header)
    return Standing.STANDS_IN if is_fillable else Standing.OTHER_WORDS


def remarks(questions: Sequence[Question], answers: SeriesAnswers | None, header: Dataset) -> Remarks:
    """What the answers add to a header; nothing where no sorter runs."""
    if answers is None:
        return NOTHING_FOUND
    stand_ins: list[tuple[str, str]] = []
    judged: list[str] = []
    doubts: list[str] = []
    for question in questions:
        given = answers.of(question.name)
        found = standing(question, given, header)
        if given is None or found not in (Standing.STANDS_IN, Standing.CONTRADICTS):
            continue
        answer = next(one for one in question.answers if one.name == given.name)
        words = f"{answer.words}, {given.score:.2f} ({answers.sorter})"
        if found is Standing.CONTRADICTS:
            doubts.append(f"The pixels look like another {question.words} than the header says: {words}.")
        else:
            stand_ins.extend((one.attribute, one.value) for one in answer.stands_for)
            judged.append(f"{question.words} judged from the pixels: {words}")
    return Remarks(tuple(stand_ins), tuple(judged), tuple(doubts))


def completed(header: Dataset, found: Remarks) -> Dataset:
    """A copy of the header with the stand-ins; what came is not changed."""
    whole = Dataset()
    whole.update(header)
    for attribute, value in found.stand_ins:
        # An empty element is shared with the original: another one takes its place.
        whole.pop(attribute, None)
        setattr(whole, attribute, value)
    return whole


def possible_stand_ins(questions: Sequence[Question], header: Dataset) -> list[Remarks]:
    """Every set of stand-ins that answers could make for a header, one answer to a question at most."""
    found = [NOTHING_FOUND]
    for question in questions:
        more = [
            tuple((one.attribute, one.value) for one in answer.stands_for)
            for answer in question.answers
            if answer.stands_for and _is_silent(question, answer, header)
        ]
        found += [Remarks((*one.stand_ins, *values)) for one in found for values in more]
    return found[1:]


def _is_silent(question: Question, answer: Answer, header: Dataset) -> bool:
    attributes = {*question.silent_when, *(one.attribute for one in answer.stands_for)}
    return bool(attributes) and not any(is_known(attribute, header) for attribute in attributes)
