"""Losses on logits, in float32: soft Dice per image or per batch, binary cross-entropy, side outputs,
classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.unet import Maps

DiceOver = Literal["image", "batch"]
SIDE_WEIGHTS = (0.3, 0.15)  # stride 4, stride 8


def soft_dice_loss(logits: Tensor, mask: Tensor, over: DiceOver) -> Tensor:
    """1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1).

    `image`: mean over the images that have a lesion (0 when none has), so that a small lesion weighs as much
    as a large one. `batch`: one ratio over everything, as volumes per patient are pooled.
    """
    probability = torch.sigmoid(logits.float())
    if over == "batch":
        return 1 - (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
    shared = (probability * mask).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    has_lesion = (mask.sum((1, 2, 3)) > 0).float()
    dice = 1 - (2 * shared + 1) / (total + 1)
    return (dice * has_lesion).sum() / has_lesion.sum().clamp(min=1)


def segmentation_loss(logits: Tensor, mask: Tensor, over: DiceOver) -> Tensor:
    """Dice plus cross-entropy of one map."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits.float(), mask)
    return cross_entropy + soft_dice_loss(logits, mask, over)


def joint_loss(
    maps: Maps,
    mask: Tensor,
    classes: Tensor | None,
    *,
    over: DiceOver,
    class_weight: float,
    label_smoothing: float,
) -> dict[str, Tensor]:
    """Terms of the loss by name; `total` is what is minimised.

    Side outputs are compared with the mask pooled to their size: the share of lesion in each cell is the
    target.
    """
    terms = {"lesion": segmentation_loss(maps.lesion, mask, over)}
    total = terms["lesion"]
    for weight, side in zip(SIDE_WEIGHTS, maps.side, strict=True):
        small = F.interpolate(mask, size=side.shape[2:], mode="area")
        total = total + weight * segmentation_loss(side, small, over)
    if maps.classes is not None and classes is not None:
        terms["class"] = F.cross_entropy(maps.classes.float(), classes, label_smoothing=label_smoothing)
        total = total + class_weight * terms["class"]
    terms["total"] = total
    return terms
