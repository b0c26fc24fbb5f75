"""Classes of slices and of whole series, learnt by a network over the slices: BiLSTM or self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.networks.slice_sequence import SeriesScores, SliceSequence
from models.training.grid_augment import changed_appearance
from models.training.image_classes import draw_chances
from models.training.losses import focal_cross_entropy
from models.training.objective import Judgement, ParameterGroup, all_weights
from models.training.patch_set import GridCase, random_matrix, sampled
from models.training.settings import SliceClasses


@dataclass(frozen=True, eq=False)
class Series:
    """One series, standardised, with the class of each slice and of the study, on a device."""

    slices: Tensor  # (S, C, rows, columns) float16 or float32
    slice_classes: Tensor  # (S,)
    study_class: int
    spacing_mm: tuple[float, float]  # in plane


class SeriesBatch(NamedTuple):
    """A batch; what is shorter than the longest is padded at its end."""

    image: Tensor  # (B, S, C, rows, columns)
    counts: Tensor  # (B,) real slices
    slice_classes: Tensor  # (B, S); those of padding are not looked at
    study_classes: Tensor  # (B,)


@dataclass(eq=False)
class SliceClassesObjective:
    """Draws whole series, at most `slices_max` neighbouring slices of each; a series moves as one."""

    network: SliceSequence
    data: Sequence[Series]
    settings: SliceClasses
    batch: int
    inner: Sequence[Series] | None = None

    def __post_init__(self) -> None:
        """Count the classes of studies once."""
        device = self.data[0].slices.device
        classes = torch.tensor([series.study_class for series in self.data], device=device)
        self._chances = draw_chances(classes, self.settings.balance)

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        return self.network

    def groups(self) -> list[ParameterGroup]:
        """All weights; a pretrained `encoder` apart."""
        return all_weights(self.network)

    def draw(self, generator: Generator) -> SeriesBatch:
        """Series changed as one: the same turn for all slices, the same gain."""
        chosen = torch.multinomial(self._chances, self.batch, replacement=True, generator=generator)
        return batch_of([self._changed(self.data[index], generator) for index in chosen.tolist()])

    def forward(self, module: nn.Module, batch: SeriesBatch) -> SeriesScores:
        """Logits of slices and studies."""
        scores: SeriesScores = module(batch.image, batch.counts)
        return scores

    def terms(self, outputs: SeriesScores, batch: SeriesBatch) -> dict[str, Tensor]:
        """Cross-entropy of real slices, of studies, and their weighted sum."""
        numbers = torch.arange(batch.image.shape[1], device=batch.counts.device)
        real = numbers[None] < batch.counts[:, None]
        gamma = self.settings.focal_gamma
        slices = focal_cross_entropy(outputs.slices[real], batch.slice_classes[real], gamma=gamma)
        study = focal_cross_entropy(outputs.study, batch.study_classes, gamma=gamma)
        return {"slices": slices, "study": study, "total": slices + self.settings.study_weight * study}

    def judge(self, network: nn.Module) -> Judgement | None:
        """Balanced accuracy of slices and of studies; the score is their mean."""
        if self.inner is None:
            return None
        called, truth, called_studies, studies = [], [], [], []
        for series in self.inner:
            scores: SeriesScores = network(series.slices[None].float())
            called += scores.slices[0].argmax(1).tolist()
            truth += series.slice_classes.tolist()
            called_studies.append(int(scores.study[0].argmax()))
            studies.append(series.study_class)
        figures = {
            "balanced_slices": balanced_accuracy(called, truth),
            "balanced_studies": balanced_accuracy(called_studies, studies),
        }
        return Judgement(float(np.mean(list(figures.values()))), figures)

    def _changed(self, series: Series, generator: Generator) -> Series:
        most, count = self.settings.slices_max, len(series.slices)
        first = 0
        if count > most:
            first = int(torch.randint(count - most + 1, (1,), generator=generator, device=generator.device))
        image = series.slices[first : first + most]
        matrix = random_matrix(series.spacing_mm, self.settings.augment, generator)
        sizes = image.shape[2:]
        flat = image.flatten(0, 1)  # (S * C, rows, columns): every slice by the same map
        nothing = torch.zeros(sizes, dtype=torch.uint8, device=image.device)
        centre = (torch.tensor(sizes, device=image.device) - 1) / 2
        moved, _ = sampled(GridCase("", flat, nothing, series.spacing_mm, ()), centre, matrix, sizes)
        changed = changed_appearance(moved[None], self.settings.augment, generator)[0].reshape(image.shape)
        return Series(
            changed, series.slice_classes[first : first + most], series.study_class, series.spacing_mm
        )


def batch_of(series: Sequence[Series]) -> SeriesBatch:
    """Series of several lengths, padded to the longest."""
    longest = max(len(one.slices) for one in series)
    device = series[0].slices.device
    return SeriesBatch(
        torch.stack([F.pad(one.slices, (0,) * 7 + (longest - len(one.slices),)) for one in series]),
        torch.tensor([len(one.slices) for one in series], device=device),
        torch.stack([F.pad(one.slice_classes, (0, longest - len(one.slices))) for one in series]),
        torch.tensor([one.study_class for one in series], device=device),
    )


def balanced_accuracy(called: Sequence[int], truth: Sequence[int]) -> float:
    """Share called rightly, meaned over the classes that occur."""
    right, classes = np.asarray(called) == np.asarray(truth), np.asarray(truth)
    return float(np.mean([right[classes == label].mean() for label in np.unique(classes)]))
