"""What a sorter answers, and when it says that it does not know."""

import numpy as np
import pytest
from tiny_sorter import QUESTIONS, SURE, THRESHOLD

from models.sorting.answers import UNKNOWN, answer_all, probabilities_of, split_outputs

BODY, MODALITY, CONTRAST, QUALITY = (question.name for question in QUESTIONS)


def spread(best: int, score: float, count: int) -> np.ndarray:
    found = np.full(count, (1 - score) / (count - 1))
    found[best] = score
    return found


def said(pixels: int = 256, **probabilities: np.ndarray) -> dict[str, tuple[str, bool]]:
    level = {question.name: np.full(question.outputs, 1 / question.outputs) for question in QUESTIONS}
    given = answer_all(QUESTIONS, {**level, **probabilities}, pixels)
    return {one.question: (one.name, one.is_sure) for one in given}


@pytest.mark.parametrize(
    ("score", "name", "is_sure"),
    [
        (THRESHOLD - 0.01, UNKNOWN, False),
        (THRESHOLD, "breast", False),
        (SURE - 0.01, "breast", False),
        (SURE, "breast", True),
    ],
)
def test_an_answer_below_the_threshold_is_unknown_and_one_from_sure_on_is_sure(score, name, is_sure):
    assert said(body_part=spread(1, score, 4))[BODY] == (name, is_sure)


def test_none_of_these_is_unknown_however_likely():
    assert said(body_part=spread(3, 0.99, 4))[BODY] == (UNKNOWN, False)


def test_contrast_is_only_asked_of_t1():
    contrast = spread(0, 0.99, 2)
    assert said(modality=spread(1, 0.99, 5), contrast=contrast)[CONTRAST] == ("with", True)
    for other in (0, 2, 3, 4):
        assert said(modality=spread(other, 0.99, 5), contrast=contrast)[CONTRAST] == (UNKNOWN, False)


def test_quality_of_a_small_image_is_not_judged():
    fine = spread(0, 0.99, 3)
    assert said(pixels=127, quality=fine)[QUALITY] == (UNKNOWN, False)
    assert said(pixels=128, quality=fine)[QUALITY] == ("fine", True)


def test_a_series_that_shows_nothing_is_unknown_in_everything():
    assert {one.name for one in answer_all(QUESTIONS, {}, 256)} == {UNKNOWN}


def test_each_head_has_its_own_outputs_in_the_order_of_the_questions():
    outputs = np.arange(sum(question.outputs for question in QUESTIONS), dtype=float)[None]
    parts = split_outputs(QUESTIONS, outputs)
    assert [part.shape[1] for part in parts.values()] == [4, 5, 2, 3]
    assert np.array_equal(np.concatenate(list(parts.values()), 1), outputs)


def test_probabilities_are_meaned_over_slices_and_not_the_logits():
    logits = np.zeros((2, 14))
    logits[0, 0], logits[1, 1] = 50.0, 50.0
    found = probabilities_of(QUESTIONS, logits)
    assert found[BODY] == pytest.approx([0.5, 0.5, 0, 0], abs=1e-9)
    assert all(part.sum() == pytest.approx(1) for part in found.values())
