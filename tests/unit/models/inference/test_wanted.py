"""Heads become labels and probabilities as asked; what is asked wrongly is refused."""

import numpy as np
import pytest
import torch

from models.inference.wanted import Wanted, labels_of, map_of, probabilities_of


def test_softmax_sums_the_heads_of_a_structure_and_the_likeliest_head_gives_the_label():
    logits = torch.from_numpy(np.random.default_rng(2).normal(size=(4, 3, 3, 3)) * 5).float()
    wanted = Wanted(4, "softmax", ((1, 3), (2,)), maps=(1, 2))
    soft = torch.softmax(logits, 0)
    found = probabilities_of(logits, wanted)
    torch.testing.assert_close(map_of(found, wanted, 1), soft[1] + soft[3])
    torch.testing.assert_close(map_of(found, wanted, 2), soft[2])
    expected = torch.tensor([0, 1, 2, 1])[logits.argmax(0)]
    for values, are_probabilities in ((logits, False), (soft, True)):
        labels = labels_of(values, wanted, are_probabilities=are_probabilities)
        assert labels.dtype == torch.uint8
        assert torch.equal(labels.long(), expected)


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_without_softmax_the_strongest_structure_over_the_threshold_gives_the_label(activation):
    probability = torch.tensor([[0.9, 0.2, 0.65], [0.3, 0.59, 0.7], [0.99, 0.99, 0.99]])
    values = torch.logit(probability) if activation == "sigmoid" else probability
    wanted = Wanted(3, activation, ((0,), (1,)), maps=(1,), threshold=0.6)
    labels = labels_of(values[:, None, None], wanted, are_probabilities=False)
    assert labels.ravel().tolist() == [1, 0, 2]
    again = labels_of(probability[:, None, None], wanted, are_probabilities=True)
    assert again.ravel().tolist() == [1, 0, 2]
    found = map_of(probabilities_of(values, wanted), wanted, 1)
    torch.testing.assert_close(found, probability[0])


def test_a_place_with_no_probability_at_all_has_no_label():
    """Outside of a cut every head is 0, also where every head is a structure."""
    wanted = Wanted(2, "softmax", ((0,), (1,)))
    values = torch.tensor([[0.0, 0.4], [0.0, 0.6]])[:, None, None]
    assert labels_of(values, wanted, are_probabilities=True).ravel().tolist() == [0, 2]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_background_that_is_not_run_has_no_structure(activation):
    wanted = Wanted(4, activation, ((1,), (3,)), maps=(1, 2))
    logits = wanted.background_logits()[:, None, None, None]
    assert labels_of(logits, wanted, are_probabilities=False).item() == 0
    for label in (1, 2):
        assert map_of(probabilities_of(logits, wanted), wanted, label).item() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"structures": ()}, "at least one head"),
        ({"structures": ((1,), ())}, "at least one head"),
        ({"structures": ((1,), (1,))}, "each head once"),
        ({"structures": ((3,),)}, "there are 3"),
        ({"structures": ((1,),), "maps": (2,)}, "maps names"),
        ({"structures": ((1,),), "threshold": 1.0}, "threshold"),
    ],
)
def test_what_does_not_fit_the_heads_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Wanted(3, "softmax", **arguments)
