"""Anchors of a feature pyramid, and which box each of them stands for."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from models.networks.boxes import overlaps

BACKGROUND, NEITHER = -1, -2  # in place of a box's index


def anchors_of_level(
    cells: tuple[int, int], stride: int, *, scale: float, ratios: Sequence[float], device: torch.device
) -> Tensor:
    """Boxes (H * W * ratios, 4) in pixels, around each cell's centre; a ratio is height to width.

    They are ordered as a map (B, ratios, H, W) is after moving its second axis to the end.
    """
    side = scale * stride
    sizes = torch.tensor([[side * sqrt(ratio), side / sqrt(ratio)] for ratio in ratios], device=device)
    rows, columns = ((torch.arange(count, device=device) + 0.5) * stride for count in cells)
    centres = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 1, 2)
    return torch.cat([centres - sizes / 2, centres + sizes / 2], -1).reshape(-1, 4)


def matched(candidates: Tensor, boxes: Tensor, *, high: float, low: float, best_always: bool) -> Tensor:
    """The box each candidate stands for: its index, BACKGROUND or NEITHER.

    Parameters
    ----------
    candidates, boxes : (N, 4), (M, 4)
    high, low : overlap from which it is the box; overlap below which it is background
    best_always : the candidates nearest to a box are that box, however little they overlap, so that none
        is left out
    """
    if not len(boxes):
        return torch.full((len(candidates),), BACKGROUND, device=candidates.device)
    overlap = overlaps(candidates, boxes)  # (N, M)
    best, index = overlap.max(1)
    match = torch.where(best >= high, index, torch.where(best < low, BACKGROUND, NEITHER))
    if best_always:
        highest = overlap.amax(0)
        which, box = ((overlap == highest) & (overlap > 0)).nonzero(as_tuple=True)
        match[which] = box
    return match


def drawn(match: Tensor, *, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """Indices of drawn candidates: those that stand for a box, at most `positive_share` of `count`, and
    background for the rest. Draws from torch's global generator.
    """
    boxes, background = (match >= 0).nonzero()[:, 0], (match == BACKGROUND).nonzero()[:, 0]
    boxes = _some(boxes, int(count * positive_share))
    return boxes, _some(background, count - len(boxes))


def _some(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
