"""The class of a whole image or volume, learnt with a balanced sampler, class weights, focal loss and
mix-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.evaluation.pictures import outlined
from models.training.grid_augment import changed_appearance, mixed
from models.training.losses import focal_cross_entropy
from models.training.objective import PICTURED, Judgement, ParameterGroup, all_weights
from models.training.patch_set import GridCase, random_matrix, sampled
from models.training.settings import ImageClasses, check_axes

PICTURE_PIXELS = 200


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images or volumes of one shape, standardised, and their classes, on one device."""

    images: Tensor  # (N, C, *sizes) float16 or float32
    classes: Tensor  # (N,) indices
    spacing_mm: tuple[float, ...]


class ClassBatch(NamedTuple):
    """A batch."""

    image: Tensor  # (B, C, *sizes)
    shares: Tensor  # (B, classes), sum 1


def draw_chances(classes: Tensor, balance: float) -> Tensor:
    """(N,) chance of each image: as found at balance 0, every class as often as any other at 1.

    An image of a class of n is drawn in proportion to n ** -balance.
    """
    chances = classes.bincount()[classes].double() ** -balance
    return (chances / chances.sum()).float()


def weights_of(classes: Tensor, count: int, settings: ImageClasses) -> Tensor | None:
    """(count,) weights of the loss; `balanced`: so that every class that occurs has the same part in it."""
    match settings.class_weights:
        case None:
            return None
        case "balanced":
            found = classes.bincount(minlength=count).float()
            return torch.where(found > 0, len(classes) / (count * found.clamp(min=1)), 0.0)
        case given:
            return torch.tensor(given, device=classes.device)


@dataclass(eq=False)
class ImageClassesObjective:
    """Draws whole images; `network` gives (B, classes) logits. `inner`: images to judge with."""

    network: nn.Module
    data: ImageSet
    settings: ImageClasses
    batch: int
    class_names: Sequence[str]
    inner: ImageSet | None = None

    def __post_init__(self) -> None:
        """Count the classes once; ValueError when the augmentation does not fit the images."""
        check_axes(self.settings.augment, self.data.images.dim() - 2)
        self.module = self.network
        self._chances = draw_chances(self.data.classes, self.settings.balance)
        self._weights = weights_of(self.data.classes, len(self.class_names), self.settings)

    def groups(self) -> list[ParameterGroup]:
        """All weights; a pretrained `encoder` apart."""
        return all_weights(self.network)

    def draw(self, generator: Generator) -> ClassBatch:
        """Image (B, C, *sizes), shares of classes (B, classes), smoothed and mixed."""
        chosen = torch.multinomial(self._chances, self.batch, replacement=True, generator=generator)
        image = torch.stack([self._moved(index, generator) for index in chosen.tolist()])
        image = changed_appearance(image, self.settings.augment, generator)
        classes = len(self.class_names)
        shares = F.one_hot(self.data.classes[chosen], classes).float()
        shares = shares * (1 - self.settings.label_smoothing) + self.settings.label_smoothing / classes
        if self.settings.mix_up > 0:
            image, shares = mixed(image, shares, self.settings.mix_up, generator)
        return ClassBatch(image, shares)

    def forward(self, module: nn.Module, batch: ClassBatch) -> Tensor:
        """(B, classes) logits."""
        logits: Tensor = module(batch.image)
        return logits

    def terms(self, outputs: Tensor, batch: ClassBatch) -> dict[str, Tensor]:
        """Only the total."""
        loss = focal_cross_entropy(
            outputs, batch.shares, weights=self._weights, gamma=self.settings.focal_gamma
        )
        return {"total": loss}

    def judge(self, network: nn.Module) -> Judgement | None:
        """Share called rightly, and its mean over classes, which is the score."""
        if self.inner is None:
            return None
        parts = torch.arange(len(self.inner.images)).chunk(-(-len(self.inner.images) // self.batch))
        called = torch.cat([network(self.inner.images[part].float()).argmax(1) for part in parts])
        right = (called == self.inner.classes).cpu().numpy()
        truth = self.inner.classes.cpu().numpy()
        balanced = float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))
        pictures = []
        for image in self.inner.images[:PICTURED].float().cpu().numpy():
            plane = image[0] if image.ndim == 3 else image[0, image.shape[1] // 2]
            pictures.append(outlined(plane, np.zeros(plane.shape, bool), None, PICTURE_PIXELS))
        figures = {"accuracy": float(right.mean()), "balanced_accuracy": balanced}
        return Judgement(balanced, figures, pictures)

    def _moved(self, index: int, generator: Generator) -> Tensor:
        image = self.data.images[index]
        sizes = image.shape[1:]
        nothing = torch.zeros(sizes, dtype=torch.uint8, device=image.device)
        case = GridCase("", image, nothing, self.data.spacing_mm, ())
        centre = (torch.tensor(sizes, device=image.device) - 1) / 2
        matrix = random_matrix(self.data.spacing_mm, self.settings.augment, generator)
        return sampled(case, centre, matrix, sizes)[0]
