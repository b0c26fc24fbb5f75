"""What the two-stage detector is taught, and how far it is from it.

Pure but for the draw of candidates, which comes from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.anchors import drawn, matched
from models.networks.boxes import encoded
from models.networks.detections import Truth

ANCHOR_HIGH, ANCHOR_LOW = 0.6, 0.3  # overlap: an object; background
ANCHORS_DRAWN, ANCHORS_POSITIVE = 128, 0.5  # per image
BOX_OVERLAP = 0.5  # of a proposal with an object
BOXES_DRAWN, BOXES_POSITIVE = 64, 0.35
CODE_KNEE = 1 / 9  # where smooth L1 turns from squared to straight


class Proposed(NamedTuple):
    """What the first stage says of a batch; N anchors over all levels."""

    logits: Tensor  # (B, N)
    codes: Tensor  # (B, N, 4)
    anchors: Tensor  # (N, 4)
    per_level: list[int]


class BoxSample(NamedTuple):
    """Boxes of one image that the second stage learns from."""

    boxes: Tensor  # (n, 4)
    classes: Tensor  # (n,), the number of classes for background
    codes: Tensor  # (n, 4), 0 for background


def proposal_losses(proposed: Proposed, truths: Sequence[Truth]) -> dict[str, Tensor]:
    """Terms of the first stage, each a mean over what was drawn in the whole batch."""
    logits, targets, codes, exact = [], [], [], []
    for own_logits, own_codes, truth in zip(proposed.logits, proposed.codes, truths, strict=True):
        match = matched(proposed.anchors, truth.boxes, high=ANCHOR_HIGH, low=ANCHOR_LOW, best_always=True)
        objects, background = drawn(match, count=ANCHORS_DRAWN, positive_share=ANCHORS_POSITIVE)
        logits.append(own_logits[torch.cat([objects, background])])
        targets.append(torch.cat([torch.ones_like(objects), torch.zeros_like(background)]).float())
        codes.append(own_codes[objects])
        exact.append(encoded(truth.boxes[match[objects]].float(), proposed.anchors[objects]))
    objectness = F.binary_cross_entropy_with_logits(torch.cat(logits), torch.cat(targets))
    return {"objectness": objectness, "proposal": _code_loss(torch.cat(codes), torch.cat(exact))}


@torch.no_grad()
def box_samples(proposals: Tensor, truth: Truth, classes: int) -> BoxSample:
    """Proposals drawn for the second stage; the true boxes are among them, or it would have nothing to learn
    from while the first stage is still blind.
    """
    candidates = torch.cat([proposals, truth.boxes.float()])
    match = matched(candidates, truth.boxes, high=BOX_OVERLAP, low=BOX_OVERLAP, best_always=False)
    objects, background = drawn(match, count=BOXES_DRAWN, positive_share=BOXES_POSITIVE)
    labels = torch.cat([truth.classes[match[objects]], torch.full_like(background, classes)])
    codes = encoded(truth.boxes[match[objects]].float(), candidates[objects])
    nothing = codes.new_zeros(len(background), 4)
    return BoxSample(candidates[torch.cat([objects, background])], labels, torch.cat([codes, nothing]))


def box_losses(logits: Tensor, codes: Tensor, samples: Sequence[BoxSample]) -> dict[str, Tensor]:
    """Terms of the second stage: (N, classes + 1), (N, 4) of all samples in order."""
    labels = torch.cat([sample.classes for sample in samples])
    exact = torch.cat([sample.codes for sample in samples])
    is_object = labels < logits.shape[1] - 1
    # An image without anything drawn has no mean; its loss is 0, with a gradient.
    classes = F.cross_entropy(logits, labels) if len(labels) else logits.sum() * 0
    return {"class": classes, "box": _code_loss(codes[is_object], exact[is_object])}


def _code_loss(codes: Tensor, exact: Tensor) -> Tensor:
    """Mean over objects of the sum over the four numbers."""
    return F.smooth_l1_loss(codes, exact, beta=CODE_KNEE, reduction="sum") / max(1, len(codes))
