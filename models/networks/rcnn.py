"""A two-stage detector in 2D: where might something be, then what is it and where exactly.

Encoder -> feature pyramid -> proposals from anchors on every level -> the map under each proposal -> classes
and a finer box. `forward` with the truth gives the terms of the loss, without it the detections; the losses
are in models.networks.rcnn_losses. Parameters are counted in docs/networks.md.

Source: Ren, arXiv 1506.01497; Lin, Feature Pyramid Networks, arXiv 1612.03144.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.anchors import anchors_of_level
from models.networks.boxes import clipped, decoded, suppressed
from models.networks.detections import Detections, Truth
from models.networks.features import pooled
from models.networks.image_encoders import build_image_encoder, last_layer, map_channels
from models.networks.own_specs import Rcnn2dSpec
from models.networks.rcnn_losses import Proposed, box_losses, box_samples, proposal_losses
from models.networks.roi_align import pyramid_align

PROPOSAL_IOU = 0.7  # proposals that overlap more say the same
SIDE_MIN = 1.0  # pixels: a narrower proposal has nothing under it
CANDIDATES_MAX = 1000  # pairs of proposal and class that are compared with each other


class FeaturePyramid(nn.Module):
    """Every level with the same channels, and with what the coarser ones know."""

    def __init__(self, channels: Sequence[int], wide: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(one, wide, 1) for one in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(wide, wide, 3, padding=1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[(B, channels[i], H_i, W_i), ...] -> [(B, wide, H_i, W_i), ...], finest first."""
        levels = [lateral(h) for lateral, h in zip(self.lateral, maps, strict=True)]
        for fine in range(len(levels) - 2, -1, -1):
            size = levels[fine].shape[2:]
            levels[fine] = levels[fine] + F.interpolate(levels[fine + 1], size=size, mode="nearest")
        return [smooth(h) for smooth, h in zip(self.smooth, levels, strict=True)]


class ProposalHead(nn.Module):
    """For each anchor: is something there, and what leads from the anchor to it; the same on all levels."""

    def __init__(self, wide: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(wide, wide, 3, padding=1)
        self.objectness = nn.Conv2d(wide, anchors, 1)
        self.code = nn.Conv2d(wide, 4 * anchors, 1)
        for layer in (self.objectness, self.code):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """(B, wide, H, W) -> logits (B, H * W * A), codes (B, H * W * A, 4)."""
        h = F.relu(self.conv(level))
        logits = self.objectness(h).permute(0, 2, 3, 1).flatten(1)
        codes = self.code(h)  # (B, A * 4, H, W)
        return logits, codes.permute(0, 2, 3, 1).reshape(len(level), -1, 4)


class BoxHead(nn.Module):
    """What lies under a box: its class, with background last, and what leads to the exact box."""

    def __init__(self, wide: int, size: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(wide * size * size, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.classes = nn.Linear(hidden, classes + 1)
        self.code = nn.Linear(hidden, 4)

    def forward(self, under: Tensor) -> tuple[Tensor, Tensor]:
        """(N, wide, size, size) -> logits (N, classes + 1), codes (N, 4)."""
        h = self.body(under)
        return self.classes(h), self.code(h)


class Rcnn2d(nn.Module):
    """Input (B, in_channels, H, W), H and W multiples of the encoder's last stride."""

    def __init__(self, spec: Rcnn2dSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = build_image_encoder(spec.encoder, spec.in_channels)
        self.first = len(spec.encoder.strides) - len(spec.levels)
        wide = spec.pyramid_features
        self.pyramid = FeaturePyramid(map_channels(spec.encoder)[self.first :], wide)
        self.proposals = ProposalHead(wide, len(spec.anchor_ratios))
        self.boxes = BoxHead(wide, spec.pooled_size, spec.head_features, spec.classes, dropout)

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last layer: (B, c, H/stride, W/stride)."""
        return last_layer(self.encoder)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, c); the detector does not run."""
        return pooled(self.encoder(x)[-1])

    def forward(
        self, x: Tensor, truths: Sequence[Truth] | None = None
    ) -> list[Detections] | dict[str, Tensor]:
        """Detections of each image; with the truth, the terms of the loss, `total` to be minimised."""
        shape = (x.shape[2], x.shape[3])
        levels = self.pyramid(self.encoder(x)[self.first :])
        proposed = self._propose(levels)
        boxes = [self._best(proposed, index, shape) for index in range(len(x))]
        if truths is None:
            return self._detections(levels, boxes, shape)
        terms = proposal_losses(proposed, truths)
        samples = [
            box_samples(own, truth, self.spec.classes) for own, truth in zip(boxes, truths, strict=True)
        ]
        logits, codes = self.boxes(self._under(levels, [sample.boxes for sample in samples]))
        terms |= box_losses(logits.float(), codes.float(), samples)
        return terms | {"total": torch.stack(list(terms.values())).sum()}

    @torch.no_grad()
    def detect(self, x: Tensor) -> list[Detections]:
        """What is found in each image of a batch, the surest first."""
        found = self(x)
        assert isinstance(found, list), "no truth was given"
        return found

    def _propose(self, levels: Sequence[Tensor]) -> Proposed:
        spec = self.spec
        logits, codes, anchors = [], [], []
        for level, stride in zip(levels, spec.levels, strict=True):
            one_logits, one_codes = self.proposals(level)
            logits.append(one_logits.float())
            codes.append(one_codes.float())
            cells = (level.shape[2], level.shape[3])
            anchors.append(
                anchors_of_level(
                    cells, stride, scale=spec.anchor_scale, ratios=spec.anchor_ratios, device=level.device
                )
            )
        return Proposed(
            torch.cat(logits, 1), torch.cat(codes, 1), torch.cat(anchors), [len(a) for a in anchors]
        )

    @torch.no_grad()
    def _best(self, proposed: Proposed, index: int, shape: tuple[int, int]) -> Tensor:
        """Proposals (n, 4) of one image: of each level the surest, then those that differ."""
        most = self.spec.proposals_max
        chosen, begin = [], 0
        for count in proposed.per_level:
            scores = proposed.logits[index, begin : begin + count]
            chosen.append(scores.topk(min(most, count)).indices + begin)
            begin += count
        which = torch.cat(chosen)
        boxes = clipped(decoded(proposed.codes[index, which], proposed.anchors[which]), shape)
        wide = (boxes[:, 2:] - boxes[:, :2]).amin(1) >= SIDE_MIN
        boxes, scores = boxes[wide], proposed.logits[index, which][wide]
        alike = torch.zeros_like(scores)
        return boxes[suppressed(boxes, scores, alike, iou=PROPOSAL_IOU, count=most)]

    def _under(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        spec = self.spec
        return pyramid_align(levels, spec.levels, boxes, scale=spec.anchor_scale, size=spec.pooled_size)

    def _detections(
        self, levels: Sequence[Tensor], boxes: Sequence[Tensor], shape: tuple[int, int]
    ) -> list[Detections]:
        spec = self.spec
        counts = [len(own) for own in boxes]
        logits, codes = self.boxes(self._under(levels, boxes))
        exact = clipped(decoded(codes.float(), torch.cat(list(boxes))), shape)
        probabilities = torch.softmax(logits.float(), 1)[:, : spec.classes]
        found = []
        for own, scores in zip(torch.split(exact, counts), torch.split(probabilities, counts), strict=True):
            best, pair = scores.flatten().topk(min(CANDIDATES_MAX, scores.numel()))
            pair, best = pair[best >= spec.score_minimum], best[best >= spec.score_minimum]
            candidates, classes = own[pair // spec.classes], pair % spec.classes
            kept = suppressed(candidates, best, classes, iou=spec.nms_iou, count=spec.detections_max)
            found.append(Detections(candidates[kept], classes[kept], best[kept]))
        return found
