import math

import pytest
import torch
from monai.losses.focal_loss import FocalLoss
from torch.nn import functional as F

from models.training.losses import focal_cross_entropy, label_dice_loss, label_terms

LABELS = torch.tensor([[[0, 1, 1, 2]], [[0, 0, 0, 2]]])  # (B, 1, 4)


def random_logits():
    return torch.randn(2, 3, 1, 4, generator=torch.Generator().manual_seed(1))


def test_without_focus_it_is_the_cross_entropy_of_torch_weighted_or_not():
    weights = torch.tensor([0.2, 1.0, 3.0])
    logits = random_logits()
    assert torch.allclose(focal_cross_entropy(logits, LABELS), F.cross_entropy(logits, LABELS))
    assert torch.allclose(
        focal_cross_entropy(logits, LABELS, weights=weights), F.cross_entropy(logits, LABELS, weight=weights)
    )


def test_with_focus_it_is_the_focal_loss_of_monai_times_the_classes_it_divides_by():
    logits = random_logits()
    theirs = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)(logits, LABELS[:, None])
    assert torch.allclose(focal_cross_entropy(logits, LABELS, gamma=2.0), 3 * theirs)


def test_focus_makes_what_is_known_count_less():
    known = torch.tensor([[4.0, 0.0]])
    unknown = torch.tensor([[0.0, 4.0]])
    target = torch.tensor([0])

    def share(gamma):
        return focal_cross_entropy(known, target, gamma=gamma) / focal_cross_entropy(
            unknown, target, gamma=gamma
        )

    assert share(2.0) < 0.01 * share(0.0)


def test_shares_of_classes_are_a_target_too():
    logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
    shares = torch.tensor([[0.4, 0.6]])
    wanted = -(0.4 * math.log(0.25) + 0.6 * math.log(0.75))
    assert focal_cross_entropy(logits, shares).item() == pytest.approx(wanted)
    hard = F.one_hot(torch.tensor([1]), 2).float()
    assert torch.allclose(
        focal_cross_entropy(logits, hard, gamma=2.0),
        focal_cross_entropy(logits, torch.tensor([1]), gamma=2.0),
    )


def sure(labels):
    return F.one_hot(labels, 3).movedim(-1, 1).float() * 60


def test_dice_of_labels_equals_its_closed_form():
    uniform = torch.zeros(2, 3, 1, 4)  # probability 1/3 everywhere
    # Over the batch: label 1 has 2 of 8 voxels, label 2 has 2.
    dice = (2 * (2 / 3) + 1) / (8 / 3 + 2 + 1)
    assert label_dice_loss(uniform, LABELS, over="batch", background=False).item() == pytest.approx(1 - dice)
    background = (2 * (4 / 3) + 1) / (8 / 3 + 4 + 1)
    assert label_dice_loss(uniform, LABELS, over="batch", background=True).item() == pytest.approx(
        1 - (2 * dice + background) / 3
    )


def test_a_perfect_map_costs_nothing_and_a_missed_label_its_share():
    assert label_dice_loss(sure(LABELS), LABELS, over="batch", background=False).item() == pytest.approx(0)
    missed = torch.where(LABELS == 2, 0, LABELS)
    lost = label_dice_loss(sure(missed), LABELS, over="batch", background=False).item()
    assert lost == pytest.approx(0.5 * (1 - 1 / 3))


def test_over_images_a_small_label_weighs_as_much_as_a_large_one():
    labels = torch.zeros(2, 1, 100, dtype=torch.long)
    labels[0, 0, :90], labels[1, 0, :2] = 1, 1
    found = labels.clone()
    found[1] = 0
    logits = F.one_hot(found, 2).movedim(-1, 1).float() * 60
    batch = label_dice_loss(logits, labels, over="batch", background=False).item()
    image = label_dice_loss(logits, labels, over="image", background=False).item()
    assert batch < 0.02
    assert image == pytest.approx(0.5 * (1 - 1 / 3))


def terms(outputs, side_weights, weights=None):
    return label_terms(
        outputs,
        LABELS,
        side_weights=side_weights,
        over="batch",
        background=False,
        weights=weights,
        gamma=0.0,
    )


def test_coarser_outputs_count_with_their_weights_and_are_compared_at_their_size():
    fine, coarse = random_logits(), torch.zeros(2, 3, 1, 2)
    alone = terms([fine], (1.0,))
    only_coarse = terms([torch.zeros(2, 3, 1, 2)], (1.0,))["total"]
    both = terms([fine, coarse], (1.0, 0.5))
    assert both["total"].item() == pytest.approx((2 * alone["total"].item() + only_coarse.item()) / 3)
    assert both["dice"] == alone["dice"]
    assert alone["total"].item() == pytest.approx((alone["dice"] + alone["cross_entropy"]).item())


def test_a_heavier_label_raises_its_part_of_the_cross_entropy():
    logits = sure(torch.where(LABELS == 2, 0, LABELS))  # label 2 is missed
    even = terms([logits], (1.0,))["cross_entropy"]
    heavy = terms([logits], (1.0,), torch.tensor([1.0, 1.0, 9.0]))["cross_entropy"]
    assert heavy > 2 * even
