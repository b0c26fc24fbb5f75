import numpy as np
import pytest

from models.training.card_pictures import outline_words

EMPTY = np.zeros((1, 4, 4), bool)
LEFT, RIGHT = EMPTY.copy(), EMPTY.copy()
LEFT[0, :, :2], RIGHT[0, :, 2:] = True, True


@pytest.mark.parametrize(
    ("found", "truth", "words"),
    [
        (LEFT, LEFT, "Dice 1.00"),
        (LEFT, LEFT | RIGHT, "Dice 0.67"),
        (EMPTY, LEFT, "missed"),
        (RIGHT, LEFT, "missed, and outlined elsewhere"),
        (EMPTY, EMPTY, "nothing outlined"),
        (LEFT, EMPTY, "outlined, falsely"),
        (LEFT, None, "outlined"),
        (EMPTY, None, "nothing outlined"),
    ],
)
def test_a_card_says_in_words_how_an_outline_compares_with_the_truth(found, truth, words):
    assert outline_words(found, truth) == words
