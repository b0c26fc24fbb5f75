"""CenterNet in 2D and 3D: a lesion is a peak of a map, with its size beside it; no anchors, one stage.

The decoder stops at `output_stage`, whose map is searched: at half size a nodule of three voxels is still a
cell and a half wide. The targets and losses are in models.networks.centernet_targets. Parameters are counted
in docs/networks.md.

Source: Zhou, Objects as Points, arXiv 1904.07850.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.boxes import from_centres, suppressed
from models.networks.conv_unet import UNetTrunk
from models.networks.detections import Detections
from models.networks.features import pooled
from models.networks.own_specs import CenterNetSpec
from models.networks.stages import ConvBlock, pointwise

PRIOR = (
    0.01  # share of cells that are a peak, roughly: where the heat begins, so that the first steps are calm
)
SIZE_LOGARITHM_MAX = 7.0  # exp of it is more cells than a volume has


class CenterMaps(NamedTuple):
    """What the network says of a batch; sizes are those of the input divided by the output stride."""

    heat: Tensor  # (B, classes, ...) logits: does an object's centre lie in this cell?
    offset: Tensor  # (B, d, ...) of the centre from the cell's low corner, in cells
    size: Tensor  # (B, d, ...) logarithm of the size in cells


class CenterNet(nn.Module):
    """(B, in_channels, ...) -> maps; `detect` makes boxes of them."""

    def __init__(self, spec: CenterNetSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = UNetTrunk(spec, finest=spec.output_stage)
        d, wide = spec.dimensions, spec.features[spec.output_stage]

        def head(channels: int) -> nn.Sequential:
            first = ConvBlock(wide, spec.head_features, (3,) * d, (1,) * d, spec.norm)
            return nn.Sequential(first, nn.Dropout(dropout), pointwise(d, spec.head_features, channels))

        self.heat, self.offset, self.size = head(spec.classes), head(d), head(d)
        with torch.no_grad():
            self.heat[-1].bias.fill_(-log((1 - PRIOR) / PRIOR))  # type: ignore[operator]

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last stage: (B, features[-1], sizes / divisors)."""
        return self.trunk.encoder.stages[-1]

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, features[-1]); the decoder does not run."""
        return pooled(self.trunk.encoder(x)[-1])

    def forward(self, x: Tensor) -> CenterMaps:
        """Maps of one batch."""
        h = self.trunk(x)[0]  # (B, features[output_stage], .../output_stride)
        return CenterMaps(self.heat(h), self.offset(h), self.size(h))

    @torch.no_grad()
    def detect(self, x: Tensor) -> list[Detections]:
        """What is found in each image or volume of a batch, the surest first."""
        spec = self.spec
        return decode(self(x), stride=spec.output_stride, count=spec.candidates_max, iou=spec.nms_iou)


def decode(maps: CenterMaps, *, stride: tuple[int, ...], count: int, iou: float) -> list[Detections]:
    """Peaks of the heat as boxes in voxels of the input.

    Parameters
    ----------
    stride : voxels of the input per cell, along each axis
    count : peaks considered in each image, over all classes
    iou : boxes of one class that overlap a surer one by more are dropped
    """
    each = zip(peaks_of(maps.heat), maps.offset.float(), maps.size.float(), strict=True)
    return [without_rivals(boxes_at(*one, stride=stride, count=count), iou=iou, count=count) for one in each]


def peaks_of(heat: Tensor) -> Tensor:
    """(B, classes, ...) logits -> scores of cells that are highest among their neighbours, 0 elsewhere."""
    scores = torch.sigmoid(heat.float())
    pool = F.max_pool2d if scores.dim() == 4 else F.max_pool3d
    return scores * (pool(scores, 3, stride=1, padding=1) == scores)


def boxes_at(
    peaks: Tensor, offset: Tensor, size: Tensor, *, stride: tuple[int, ...], count: int, first_cell: int = 0
) -> Detections:
    """The strongest peaks of one image as boxes in voxels, the surest first; rivals are still among them.

    Parameters
    ----------
    peaks : (classes, ...) as `peaks_of` gives them
    offset, size : (d, ...)
    first_cell : along the first axis, where the maps are a part of larger ones
    """
    cells = peaks.shape[1:]
    scores, places = peaks.flatten().topk(min(count, peaks.numel()))
    is_peak = scores > 0
    scores, places = scores[is_peak], places[is_peak]
    classes, place = places // cells.numel(), places % cells.numel()
    corner = torch.stack(torch.unravel_index(place, cells), 1).float()  # (n, d) cells
    corner[:, 0] += first_cell
    step = corner.new_tensor(stride)
    centre = (corner + offset.flatten(1)[:, place].T) * step
    extent = torch.exp(size.flatten(1)[:, place].T.clamp(max=SIZE_LOGARITHM_MAX)) * step
    return Detections(from_centres(centre, extent), classes, scores)


def without_rivals(found: Detections, *, iou: float, count: int) -> Detections:
    """The surest of boxes that overlap, at most so many."""
    kept = suppressed(found.boxes, found.scores, found.classes, iou=iou, count=count)
    return Detections(found.boxes[kept], found.classes[kept], found.scores[kept])
