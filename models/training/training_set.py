"""Prepared slices of all training cases in memory, and how a batch is drawn from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from models.preprocess import neighbour_indices, prepare
from models.resample import FloatArray, PlaneMap, scaled_axis
from models.steps import StackSlices
from models.training.cases import Case
from models.training.recipes import Recipe


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Slices on one canvas, scaled but not standardised."""

    images: Tensor  # (N, H, W) float16
    masks: Tensor  # (N, H, W) uint8
    neighbours: Tensor  # (N, channels) indices into images
    classes: Tensor  # (N,) class index; 0 without classes
    real_weights: Tensor  # (N,) chance to be drawn as a real slice
    extra_weights: Tensor  # (N,) chance to be drawn as a generated slice; all 0 without generated cases

    def to(self, device: torch.device) -> TrainingSet:
        """The same on a device: a whole set is small beside a GPU's memory."""
        return TrainingSet(
            self.images.to(device),
            self.masks.to(device),
            self.neighbours.to(device),
            self.classes.to(device),
            self.real_weights.to(device),
            self.extra_weights.to(device),
        )


@dataclass(frozen=True, eq=False)
class CaseSlices:
    """One case on the training canvas."""

    images: NDArray[np.float16]  # (n, H, W) scaled, not standardised
    masks: NDArray[np.uint8]  # (n, H, W)
    class_name: str | None
    is_simulated: bool


def slices_of(case: Case, recipe: Recipe) -> CaseSlices:
    """A case prepared with the package's own steps and put on the training canvas."""
    prepared = prepare(case.volume, recipe.preprocess)
    mask = prepared.mask_to_canvas(case.mask)
    return CaseSlices(
        centred(prepared.image, recipe).astype(np.float16),
        (centred(mask.astype(np.float32), recipe) > 0).astype(np.uint8),
        case.class_name,
        case.is_simulated,
    )


def build_training_set(cases: Iterable[Case], recipe: Recipe) -> TrainingSet:
    """Prepare every case and put them together."""
    return put_together((slices_of(case, recipe) for case in cases), recipe)


def put_together(cases: Iterable[CaseSlices], recipe: Recipe) -> TrainingSet:
    """Slices of all cases as one set, with the chance of each to be drawn."""
    stack = next(step.neighbours for step in recipe.preprocess if isinstance(step, StackSlices))
    images, masks, neighbours, classes, simulated = [], [], [], [], []
    first = 0
    for case in cases:
        count = len(case.masks)
        images.append(case.images)
        masks.append(case.masks)
        neighbours.append(first + neighbour_indices(count, stack))
        classes += [recipe.classes.index(case.class_name or "") if recipe.classes else 0] * count
        simulated += [case.is_simulated] * count
        first += count
    all_masks = np.concatenate(masks)
    positive, is_extra = np.asarray(all_masks.any((1, 2))), np.array(simulated)
    labels = np.array(classes)
    return TrainingSet(
        torch.from_numpy(np.concatenate(images)),
        torch.from_numpy(all_masks),
        torch.from_numpy(np.concatenate(neighbours)),
        torch.from_numpy(labels),
        draw_weights(~is_extra, positive, labels, recipe.positive_share),
        draw_weights(is_extra, positive, labels, recipe.positive_share),
    )


def centred(stack: FloatArray, recipe: Recipe) -> FloatArray:
    """Pad or crop (n, h, w) around its middle to the training canvas."""
    rows, columns = stack.shape[1:]
    if (rows, columns) == (recipe.canvas_rows, recipe.canvas_columns):
        return stack
    plane = PlaneMap(
        scaled_axis(rows, 1.0, recipe.canvas_rows), scaled_axis(columns, 1.0, recipe.canvas_columns)
    )
    return plane.apply(stack)


def draw_weights(
    chosen: np.typing.NDArray[np.bool_],
    positive: np.typing.NDArray[np.bool_],
    labels: np.typing.NDArray[np.int64],
    positive_share: float,
) -> Tensor:
    """(N,) weights that sum to 1, or all 0 when nothing is chosen.

    With a positive share, slices with a lesion get that share; otherwise classes are drawn in proportion to
    the square root of their size, between as found and all alike.
    """
    weights = np.zeros(len(chosen))
    if positive_share > 0:
        for group, share in ((chosen & positive, positive_share), (chosen & ~positive, 1 - positive_share)):
            if group.any():
                weights[group] = share / group.sum()
    else:
        for label in np.unique(labels[chosen]):
            group = chosen & (labels == label)
            weights[group] = 1 / np.sqrt(group.sum())
    total = weights.sum()
    return torch.from_numpy(weights / total if total > 0 else weights)


def draw_batch(data: TrainingSet, size: int, extra_share: float, generator: Generator) -> Tensor:
    """(size,) slice indices: `extra_share` of them generated, when there are any."""
    extra = round(size * extra_share) if bool(data.extra_weights.any()) else 0
    if not bool(data.real_weights.any()):
        extra = size
    parts = []
    for weights, count in ((data.real_weights, size - extra), (data.extra_weights, extra)):
        if count:
            parts.append(torch.multinomial(weights, count, replacement=True, generator=generator))
    return torch.cat(parts)
