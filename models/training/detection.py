"""Boxes of lesions, from patches in which each lesion has its own label: CenterNet, two-stage.

A box is drawn around a lesion's voxels after a patch was rotated, scaled and flipped, so boxes cannot come
apart from the image, and stay tight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.evaluation.average_precision import average_precision
from models.evaluation.pictures import outlined
from models.networks.boxes import overlaps
from models.networks.centernet import CenterMaps, CenterNet
from models.networks.centernet_targets import centernet_loss, draw_targets
from models.networks.detections import Detections, Truth
from models.networks.rcnn import Rcnn2d
from models.training.grid_augment import changed_appearance
from models.training.objective import PICTURED, Judgement, ParameterGroup, all_weights
from models.training.patch_set import GridCase, PatchSet, draw_patches
from models.training.settings import LesionBoxes

HIT_OVERLAP = {2: 0.5, 3: 0.1}  # from which a box is a hit while judging
PICTURE_PIXELS = 200


class BoxBatch(NamedTuple):
    """A batch."""

    image: Tensor  # (B, C, *patch)
    truths: list[Truth]


def truth_of(labels: Tensor, classes: tuple[int, ...]) -> Truth:
    """The box of every label in (*sizes), and the class of each; `classes[n - 1]` is that of label n.

    Without classes all are of class 0.
    """
    boxes, found = [], []
    for label in torch.unique(labels).tolist():
        if label == 0:
            continue
        places = (labels == label).nonzero()
        boxes.append(torch.cat([places.amin(0), places.amax(0) + 1]))  # voxel i covers i to i + 1
        found.append(classes[label - 1] if classes else 0)
    if not boxes:
        return Truth(
            torch.zeros(0, 2 * labels.dim(), device=labels.device),
            torch.zeros(0, dtype=torch.long, device=labels.device),
        )
    return Truth(torch.stack(boxes).float(), torch.tensor(found, device=labels.device))


@dataclass(eq=False)
class LesionBoxesObjective:
    """Draws patches around lesions and elsewhere; learns what the network's own losses ask.

    data : cases whose labels number the lesions from 1
    inner : whole cases, each read at once, to judge with
    """

    network: CenterNet | Rcnn2d
    data: PatchSet
    settings: LesionBoxes
    batch: int
    inner: PatchSet | None = None

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        return self.network

    def groups(self) -> list[ParameterGroup]:
        """All weights; a pretrained `encoder` apart."""
        return all_weights(self.network)

    def draw(self, generator: Generator) -> BoxBatch:
        """Image (B, C, *patch) and the boxes in each patch."""
        patches = draw_patches(
            self.data,
            self.settings.patch,
            self.batch,
            foreground_share=self.settings.foreground_share,
            augment=self.settings.augment,
            generator=generator,
        )
        truths = [
            truth_of(labels, self.data.cases[index].classes)
            for labels, index in zip(patches.labels, patches.drawn, strict=True)
        ]
        return BoxBatch(changed_appearance(patches.image, self.settings.augment, generator), truths)

    def forward(self, module: nn.Module, batch: BoxBatch) -> CenterMaps | dict[str, Tensor]:
        """Maps of a CenterNet; the terms of its loss from a two-stage detector, which draws as it learns."""
        found: CenterMaps | dict[str, Tensor]
        found = module(batch.image, batch.truths) if isinstance(self.network, Rcnn2d) else module(batch.image)
        return found

    def terms(self, outputs: CenterMaps | dict[str, Tensor], batch: BoxBatch) -> dict[str, Tensor]:
        """Heat, offset, size; or those of proposals and of boxes; and their sum."""
        if isinstance(outputs, dict):
            return outputs
        assert isinstance(self.network, CenterNet)
        targets = draw_targets(
            batch.truths,
            cells=tuple(outputs.heat.shape[2:]),
            stride=self.network.spec.output_stride,
            classes=outputs.heat.shape[1],
        )
        return centernet_loss(
            outputs,
            targets,
            offset_weight=self.settings.offset_weight,
            size_weight=self.settings.size_weight,
        )

    def judge(self, network: nn.Module) -> Judgement | None:
        """Average precision over all inner cases, whatever the class, and the share of lesions hit."""
        if self.inner is None:
            return None
        scores, hits, lesions = [], [], 0
        pictures: list[np.typing.NDArray[np.uint8]] = []
        for case in self.inner.cases:
            found = self._found(case)
            truth = truth_of(case.labels, case.classes)
            own_scores, own_hits = hits_of(found, truth, HIT_OVERLAP[case.labels.dim()])
            scores.append(own_scores)
            hits.append(own_hits)
            lesions += len(truth.boxes)
            if len(truth.boxes) and len(pictures) < PICTURED:
                pictures.append(_pictured(case, found))
        if not lesions:
            return Judgement(0.0, {"average_precision": 0.0, "sensitivity": 0.0}, pictures)
        all_hits = np.concatenate(hits)
        precision = average_precision(np.concatenate(scores), all_hits, lesions)
        figures = {"average_precision": precision, "sensitivity": float(all_hits.sum() / lesions)}
        return Judgement(precision, figures, pictures)

    def _found(self, case: GridCase) -> Detections:
        """What the network finds in a whole case, padded to sizes it can halve."""
        size = self.settings.size_multiple
        missing = [-extent % size for extent in case.labels.shape]
        around = [pad for one in reversed(missing) for pad in (0, one)]
        (found,) = self.network.detect(F.pad(case.image[None].float(), around))
        return found


def hits_of(
    found: Detections, truth: Truth, overlap: float
) -> tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.bool_]]:
    """Scores, and whether each box hits a lesion that no surer one has hit."""
    table = overlaps(found.boxes.float(), truth.boxes.float()).cpu().numpy()
    hits, free = np.zeros(len(table), bool), np.ones(len(truth.boxes), bool)
    for index, row in enumerate(table):
        possible = np.where(free, row, 0.0)
        if len(possible) and possible.max() >= overlap:
            hits[index], free[possible.argmax()] = True, False
    return found.scores.double().cpu().numpy(), hits


def _pictured(case: GridCase, found: Detections) -> np.typing.NDArray[np.uint8]:
    """The plane with most of a lesion, its outline, and the surest boxes that cross it."""
    truth = (case.labels > 0).cpu().numpy()
    image = case.image[0].float().cpu().numpy()
    boxes = found.boxes[:5].round().long().cpu().numpy()
    drawn = np.zeros(truth.shape, bool)
    axes = truth.ndim
    for box in boxes:
        drawn[tuple(slice(max(0, low), high) for low, high in zip(box[:axes], box[axes:], strict=True))] = (
            True
        )
    if axes == 2:
        return outlined(image, drawn, truth, PICTURE_PIXELS)
    index = int(truth.sum((1, 2)).argmax())
    return outlined(image[index], drawn[index], truth[index], PICTURE_PIXELS)
