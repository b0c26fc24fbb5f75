"""Boxes in 2D and 3D, pure torch: overlap, suppression, coding against anchors.

A box is (low corner, high corner) in the order of the array's axes, in voxels of the input, where voxel i
covers i to i + 1: (N, 4) as (row, column, row, column) or (N, 6) as (slice, row, column, slice, row, column).
"""

from __future__ import annotations

from math import log

import numpy as np
import torch
from torch import Tensor

GROWTH_MAX = log(1000 / 16)  # a box grows by this factor at most: exp of a wild number is infinite


def centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2d) -> centres (N, d) and sizes (N, d)."""
    low, high = boxes.chunk(2, dim=-1)
    return (low + high) / 2, high - low


def from_centres(centres: Tensor, sizes: Tensor) -> Tensor:
    """Centres (N, d) and sizes (N, d) -> boxes (N, 2d)."""
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each pair: (N, 2d), (M, 2d) -> (N, M); 0 where both are empty."""
    low_a, high_a = a[:, None].chunk(2, dim=-1)
    low_b, high_b = b[None].chunk(2, dim=-1)
    shared = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    size_a, size_b = (high_a - low_a).clamp(min=0).prod(-1), (high_b - low_b).clamp(min=0).prod(-1)
    return shared / (size_a + size_b - shared).clamp(min=1e-9)


def clipped(boxes: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Boxes cut to an image of this shape; one that lies outside becomes empty."""
    most = boxes.new_tensor([*shape, *shape])
    return torch.minimum(boxes.clamp(min=0), most)


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, *, iou: float, count: int) -> Tensor:
    """Indices of the boxes that stay, best first, at most `count`.

    From the best score down, a box goes when it overlaps a kept one of its class by more than `iou`. All
    overlaps are computed at once: at the few hundred candidates we allow this is faster than a loop of
    tensors.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    excess = overlaps(boxes[order], boxes[order]) > iou
    excess &= classes[order][:, None] == classes[order][None]
    rivals = excess.cpu().numpy()
    gone = np.zeros(len(order), bool)
    kept: list[int] = []
    for place in range(len(order)):
        if gone[place]:
            continue
        kept.append(place)
        if len(kept) == count:
            break
        gone |= rivals[place]
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """What leads from each anchor to its box: (N, 2d), (N, 2d) -> (N, 2d).

    Shift of the centre in sizes of the anchor, then the logarithm of the growth, per axis (Girshick, arXiv
    1311.2524).
    """
    centre, size = centres_and_sizes(boxes)
    anchor_centre, anchor_size = centres_and_sizes(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, torch.log(size / anchor_size)], dim=-1)


def decoded(codes: Tensor, anchors: Tensor) -> Tensor:
    """The way back: (N, 2d), (N, 2d) -> (N, 2d)."""
    shift, growth = codes.chunk(2, dim=-1)
    centre, size = centres_and_sizes(anchors)
    return from_centres(centre + shift * size, size * torch.exp(growth.clamp(max=GROWTH_MAX)))
