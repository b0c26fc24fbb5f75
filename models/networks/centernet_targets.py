"""What CenterNet is taught: maps drawn from boxes, and how far its own are from them. Pure functions.

Each box draws a bell on the heat map of its class, exactly 1 in the cell of its centre and as wide as the
box; offset and size are given in that cell alone. Two boxes whose centres share a cell become one: the larger
one is drawn last and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.boxes import centres_and_sizes
from models.networks.centernet import CenterMaps
from models.networks.detections import Truth

BELL_SHARE = 1 / 6  # deviation of the bell as a share of the box's size
BELL_MIN = 0.5  # cells: a small lesion still warms its neighbours
FOCUS, MERCY = (
    2.0,
    4.0,
)  # exponents of the focal loss: on hard cells, on cells near a centre (arXiv 1808.01244)
SIZE_MIN = 1e-3  # cells: the logarithm of an empty box would be infinite


class CenterTargets(NamedTuple):
    """Maps of a batch, in cells; `peak` marks the cells that hold a centre."""

    heat: Tensor  # (B, classes, ...) 0 to 1
    offset: Tensor  # (B, d, ...)
    size: Tensor  # (B, d, ...) logarithms
    peak: Tensor  # (B, 1, ...) 0 or 1


def draw_targets(
    truths: Sequence[Truth], *, cells: tuple[int, ...], stride: tuple[int, ...], classes: int
) -> CenterTargets:
    """The maps that decode to these boxes.

    Parameters
    ----------
    truths : of each image; boxes whose centre lies outside are left out
    cells : sizes of the maps
    stride : voxels of the input per cell, along each axis
    """
    device = truths[0].boxes.device
    count, d = len(truths), len(cells)
    heat = torch.zeros(count, classes, *cells, device=device)
    offset, size = torch.zeros(count, d, *cells, device=device), torch.zeros(count, d, *cells, device=device)
    peak = torch.zeros(count, 1, *cells, device=device)
    step = torch.tensor(stride, device=device, dtype=torch.float32)
    limit = torch.tensor(cells, device=device, dtype=torch.float32)
    for index, truth in enumerate(truths):
        centres, extents = (part / step for part in centres_and_sizes(truth.boxes.float()))
        for one in torch.argsort(extents.prod(1)).tolist():
            centre, extent = centres[one], extents[one].clamp(min=SIZE_MIN)
            if bool((centre < 0).any()) or bool((centre >= limit).any()):
                continue
            corner = centre.floor()
            layer = heat[index, int(truth.classes[one])]
            torch.maximum(layer, _bell(corner, extent, cells), out=layer)
            place: tuple[slice | int, ...] = (slice(None), *(int(value) for value in corner))
            offset[index][place], size[index][place] = centre - corner, torch.log(extent)
            peak[index][place] = 1.0
    return CenterTargets(heat, offset, size, peak)


def _bell(corner: Tensor, extent: Tensor, cells: tuple[int, ...]) -> Tensor:
    """A Gaussian over all cells, 1 at `corner`: the product of one along each axis."""
    bell = torch.ones((), device=corner.device)
    for axis, count in enumerate(cells):
        away = torch.arange(count, device=corner.device) - corner[axis]
        deviation = (extent[axis] * BELL_SHARE).clamp(min=BELL_MIN)
        line = torch.exp(-0.5 * (away / deviation) ** 2)
        bell = bell[..., None] * line
    return bell


def centernet_loss(
    maps: CenterMaps, targets: CenterTargets, *, offset_weight: float = 1.0, size_weight: float = 1.0
) -> dict[str, Tensor]:
    """Terms of the loss by name, float32; `total` is what is minimised.

    The heat's is the focal loss that forgives cells near a centre, per centre; offset and size are L1 in the
    cells of centres, per centre and axis. All are means over the whole batch, so an empty image counts too.
    """
    centres = targets.peak.sum().clamp(min=1)
    heat = heat_loss(maps.heat, targets.heat) / centres
    axes = maps.offset.shape[1]
    offset = ((maps.offset.float() - targets.offset).abs() * targets.peak).sum() / (centres * axes)
    size = ((maps.size.float() - targets.size).abs() * targets.peak).sum() / (centres * axes)
    total = heat + offset_weight * offset + size_weight * size
    return {"heat": heat, "offset": offset, "size": size, "total": total}


def heat_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Sum over all cells: -(1 - p)^2 log p at a centre, -(1 - h)^4 p^2 log(1 - p) elsewhere."""
    logits = logits.float()
    p = torch.sigmoid(logits)
    at_centre = -((1 - p) ** FOCUS) * F.logsigmoid(logits)
    elsewhere = -((1 - heat) ** MERCY) * p**FOCUS * F.logsigmoid(-logits)
    return torch.where(heat == 1, at_centre, elsewhere).sum()
