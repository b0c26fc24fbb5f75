"""The part of a map that lies under a box, at a fixed size: RoIAlign, from torch's own bilinear sampling.

Source: He, Mask R-CNN, arXiv 1703.06870: no coordinate is rounded. A value belongs to its cell's centre.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 2  # per bin and axis


def roi_align(maps: Tensor, boxes: Sequence[Tensor], *, stride: int, size: int) -> Tensor:
    """Each box's content, the boxes of the first image first.

    Parameters
    ----------
    maps : (B, C, H, W)
    boxes : of each image (n, 4), pixels of the input
    stride : input pixels per cell
    size : bins along each axis

    Returns
    -------
    (sum of n, C, size, size); what lies beyond the map repeats its edge
    """
    steps = size * SAMPLES
    at = (torch.arange(steps, device=maps.device, dtype=torch.float32) + 0.5) / steps
    found = []
    for one, inside in zip(maps.float(), boxes, strict=True):
        count = len(inside)
        low, high = inside.float().chunk(2, dim=1)  # (n, 2) row, column
        points = low[:, :, None] + (high - low)[:, :, None] * at  # (n, 2, steps) pixels
        extent = points.new_tensor(one.shape[1:])[None, :, None] * stride
        points = 2 * points / extent - 1  # grid_sample: -1 and 1 are the outer edges of the map
        rows = points[:, 0, :, None].expand(count, steps, steps)
        columns = points[:, 1, None, :].expand(count, steps, steps)
        grid = torch.stack([columns, rows], -1).reshape(1, count * steps, steps, 2)
        sampled = F.grid_sample(one[None], grid, padding_mode="border", align_corners=False)
        # (1, C, n * steps, steps) -> (n, C, steps, steps)
        apart = sampled.reshape(one.shape[0], count, steps, steps).transpose(0, 1)
        found.append(F.avg_pool2d(apart, SAMPLES))
    return torch.cat(found)


def pyramid_align(
    levels: Sequence[Tensor], strides: Sequence[int], boxes: Sequence[Tensor], *, scale: float, size: int
) -> Tensor:
    """`roi_align` from the level that suits each box: where it is about `scale` cells wide.

    Returns
    -------
    (sum of n, C, size, size) in the order of the boxes, those of the first image first
    """
    every = torch.cat(list(boxes))
    image = torch.cat([torch.full((len(part),), index) for index, part in enumerate(boxes)]).to(every.device)
    wide = (every[:, 2:] - every[:, :2]).clamp(min=1e-3).prod(1).sqrt()
    level = torch.log2(wide / (scale * strides[0])).round().clamp(0, len(levels) - 1).long()
    out = levels[0].new_zeros(len(every), levels[0].shape[1], size, size, dtype=torch.float32)
    for index, (maps, stride) in enumerate(zip(levels, strides, strict=True)):
        chosen = level == index
        if bool(chosen.any()):
            parts = [every[chosen & (image == one)] for one in range(len(boxes))]
            out[chosen] = roi_align(maps, parts, stride=stride, size=size)
    return out
