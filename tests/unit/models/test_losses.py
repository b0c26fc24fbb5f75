import math

import pytest
import torch

from models.networks.unet import Maps
from models.training.losses import joint_loss, soft_dice_loss


def logit(p):
    return math.log(p / (1 - p))


def test_dice_loss_equals_its_closed_form():
    mask = torch.zeros(1, 1, 2, 4)
    mask[..., :2] = 1
    logits = torch.full((1, 1, 2, 4), logit(0.25))
    # sum(p m) = 1, sum(p) = 2, sum(m) = 4
    assert soft_dice_loss(logits, mask, "image").item() == pytest.approx(
        1 - (2 * 1 + 1) / (2 + 4 + 1), abs=1e-6
    )
    assert soft_dice_loss(logits, mask, "batch").item() == pytest.approx(1 - 3 / 7, abs=1e-6)


def test_a_perfect_map_costs_nothing_and_the_opposite_nearly_one():
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 2:6] = 1
    sure = (mask * 2 - 1) * 30
    assert soft_dice_loss(sure, mask, "image").item() == pytest.approx(0, abs=1e-4)
    assert soft_dice_loss(-sure, mask, "image").item() > 0.97


def test_a_small_lesion_weighs_as_much_as_a_large_one_per_image_but_not_per_batch():
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, :15] = 1
    mask[1, :, :2, :2] = 1
    logits = (mask * 2 - 1) * 30
    logits[1] = -30  # the small one is missed
    assert soft_dice_loss(logits, mask, "image").item() == pytest.approx(0.5 * (1 - 1 / 5), abs=1e-3)
    assert soft_dice_loss(logits, mask, "batch").item() < 0.02


def test_images_without_lesion_do_not_enter_the_dice_per_image():
    mask = torch.zeros(3, 1, 4, 4)
    assert soft_dice_loss(torch.randn(3, 1, 4, 4), mask, "image").item() == 0


def test_class_loss_counts_with_its_weight():
    mask = torch.zeros(1, 1, 8, 8)
    maps = Maps(
        torch.zeros(1, 1, 8, 8), [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)], torch.zeros(1, 4)
    )
    without = joint_loss(maps, mask, None, over="image", class_weight=2.0, label_smoothing=0.0)
    having = joint_loss(maps, mask, torch.tensor([1]), over="image", class_weight=2.0, label_smoothing=0.0)
    assert (having["total"] - without["total"]).item() == pytest.approx(2 * math.log(4), abs=1e-5)
    assert without["total"].item() == pytest.approx(1.45 * math.log(2), abs=1e-5)
