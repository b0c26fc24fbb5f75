"""Losses on logits, in float32: soft Dice per image or per batch, cross-entropy plain, weighted and focal,
side outputs, classes.

Dice over many labels is MONAI's. Its DiceCELoss and FocalLoss are not used: the one weights the Dice by the
class weights of the cross-entropy, too, the other divides by the number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.unet import Maps
from models.training.settings import DiceOver

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


def focal_cross_entropy(
    logits: Tensor, target: Tensor, *, weights: Tensor | None = None, gamma: float = 0.0
) -> Tensor:
    """Cross-entropy in which what is known already counts by (1 - p) ** gamma.

    The mean is weighted: rare classes with large weights raise their share, not the loss. With `gamma` 0
    this is torch's cross_entropy.

    Parameters
    ----------
    logits : (B, C, ...)
    target : (B, ...) indices of classes, or (B, C, ...) shares that sum to 1
    weights : (C,)

    Source: Lin et al., ICCV 2017.
    """
    known = F.log_softmax(logits.float(), 1)
    if target.dim() < logits.dim():
        picked = known.gather(1, target[:, None])  # (B, C, ...) -> (B, 1, ...)
        mass = torch.ones_like(picked) if weights is None else weights[target][:, None]
    else:
        picked = known
        mass = target if weights is None else target * weights.view(-1, *[1] * (logits.dim() - 2))
    return -(mass * (1 - picked.exp()) ** gamma * picked).sum() / mass.sum()


def label_dice_loss(logits: Tensor, labels: Tensor, *, over: DiceOver, background: bool) -> Tensor:
    """1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1), meaned over labels and, over images, over these.

    Parameters
    ----------
    logits : (B, C, ...); softmax is taken over C
    labels : (B, ...) indices
    """
    from monai.losses.dice import DiceLoss  # loaded for networks on a grid only

    loss = DiceLoss(
        include_background=background,
        to_onehot_y=True,
        softmax=True,
        batch=over == "batch",
        smooth_nr=1.0,
        smooth_dr=1.0,
    )
    value: Tensor = loss(logits.float(), labels[:, None])
    return value


def label_terms(
    outputs: Sequence[Tensor],
    labels: Tensor,
    *,
    side_weights: Sequence[float],
    over: DiceOver,
    background: bool,
    weights: Tensor | None,
    gamma: float,
) -> dict[str, Tensor]:
    """Dice and cross-entropy of the finest output; `total` has those of coarser ones, too, weights summing
    to 1.

    Parameters
    ----------
    outputs : (B, C, ...) logits, finest first
    labels : (B, ...) indices; coarser outputs are compared with the nearest labels
    """
    terms: dict[str, Tensor] = {}
    total = torch.zeros((), device=labels.device)
    for share, logits in zip(side_weights, outputs, strict=True):
        wanted = labels
        if logits.shape[2:] != labels.shape[1:]:
            sized = F.interpolate(labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")
            wanted = sized[:, 0].long()
        dice = label_dice_loss(logits, wanted, over=over, background=background)
        entropy = focal_cross_entropy(logits, wanted, weights=weights, gamma=gamma)
        terms = terms or {"dice": dice, "cross_entropy": entropy}
        total = total + share / sum(side_weights) * (dice + entropy)
    return {**terms, "total": total}
