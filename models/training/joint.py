"""The lesion map and the classes of images on a canvas, learnt together: what the shipped packages are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from models.evaluation.overlap import dice
from models.evaluation.pictures import outlined
from models.networks.unet import EffNetLite0UNet, Maps
from models.steps import Standardise
from models.training.augment import augment
from models.training.lesion_change import Batch
from models.training.losses import joint_loss
from models.training.objective import PICTURED, Judgement, ParameterGroup, all_weights
from models.training.settings import LesionOnCanvas
from models.training.training_set import TrainingSet, draw_batch

NO_LESION = "normal"  # the class of images without one
PICTURE_PIXELS = 200
HALF = 0.0  # logit of probability one half


@dataclass(eq=False)
class LesionOnCanvasObjective:
    """Draws slices with their neighbours; learns by Dice, cross-entropy and classes.

    network : of `models.networks.building.build_network`, on the device of the data
    inner : slices to judge with, on the same device; None: the run is not judged
    """

    network: EffNetLite0UNet
    data: TrainingSet
    settings: LesionOnCanvas
    batch: int
    scale: Standardise
    classes: tuple[str, ...]
    inner: TrainingSet | None = None

    @property
    def module(self) -> nn.Module:
        """The network itself: side outputs are part of what it gives."""
        return self.network

    def groups(self) -> list[ParameterGroup]:
        """The pretrained encoder learns slower than the fresh decoder."""
        return all_weights(self.network)

    def draw(self, generator: Generator) -> Batch:
        """Image (B, C, H, W) standardised, mask (B, 1, H, W), classes (B,)."""
        indices = draw_batch(self.data, self.batch, self.settings.extra_share, generator)
        image = self.data.images[self.data.neighbours[indices]].float()
        mask = self.data.masks[indices][:, None].float()
        no_lesion = self.classes.index(NO_LESION) if NO_LESION in self.classes else None
        changed = augment(
            Batch(image, mask, self.data.classes[indices]), self.settings.augment, no_lesion, generator
        )
        return changed._replace(image=self._standardised(changed.image))

    def forward(self, module: nn.Module, batch: Batch) -> Maps:
        """Maps of lesion, sides and classes."""
        maps: Maps = module(batch.image)
        return maps

    def terms(self, outputs: Maps, batch: Batch) -> dict[str, Tensor]:
        """Lesion, class and their weighted sum."""
        return joint_loss(
            outputs,
            batch.mask,
            batch.classes if self.classes else None,
            over=self.settings.dice_over,
            class_weight=self.settings.class_weight,
            label_smoothing=self.settings.label_smoothing,
        )

    def judge(self, network: nn.Module) -> Judgement | None:
        """Mean Dice of slices with a lesion and, with classes, the share that is called rightly.

        The score is the Dice, or the mean of both.
        """
        if self.inner is None:
            return None
        overlaps: list[float] = []
        pictures: list[np.typing.NDArray[np.uint8]] = []
        right = 0
        for index in range(len(self.inner.images)):
            image = self.inner.images[self.inner.neighbours[index]].float()
            truth = self.inner.masks[index].cpu().numpy() > 0
            maps: Maps = network(self._standardised(image[None]))
            found = maps.lesion[0, 0].float().cpu().numpy() > HALF
            if maps.classes is not None:
                right += int(maps.classes[0].argmax()) == int(self.inner.classes[index])
            overlap = dice(found, truth) if truth.any() else None
            if overlap is not None:
                overlaps.append(overlap)
                if len(pictures) < PICTURED:
                    plane = image[image.shape[0] // 2].cpu().numpy()
                    pictures.append(outlined(plane, found, truth, PICTURE_PIXELS))
        figures = {"dice": float(np.mean(overlaps)) if overlaps else 0.0}
        if self.classes:
            figures["accuracy"] = right / len(self.inner.images)
        return Judgement(float(np.mean(list(figures.values()))), figures, pictures)

    def _standardised(self, image: Tensor) -> Tensor:
        scaled = (image - self.scale.mean) / self.scale.deviation
        return scaled.contiguous(memory_format=torch.channels_last)
