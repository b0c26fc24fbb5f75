"""Prepared volumes or images on the network's grid, and how patches are drawn from them.

Rotation, scale and flips are part of drawing: a patch is sampled from its volume at the places where the map
puts its voxels, so that nothing is cut off at its rim and nothing larger than a patch is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from models.training.augment import uniform
from models.training.settings import GridAugment

FOREGROUND_KEPT = 10_000  # places of each label that are kept to draw from
JITTER = 0.25  # of a patch: how far a labelled voxel may lie from its middle
FOREGROUND_SEED = 45


@dataclass(frozen=True, eq=False)
class GridCase:
    """One volume or image on the grid, standardised as the package does it."""

    name: str
    image: Tensor  # (C, *sizes) float16 or float32
    labels: Tensor  # (*sizes) uint8, 0 background
    spacing_mm: tuple[float, ...]  # of each axis; rotation is in millimetres
    places: tuple[Tensor, ...]  # of each label but the background that occurs: (n, axes) voxel indices
    classes: tuple[int, ...] = ()  # of label 1, 2, ... where labels number lesions; empty: all of class 0


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Cases on one device, all of as many axes."""

    cases: Sequence[GridCase]
    weights: Tensor  # (cases,) chance to be drawn

    @property
    def device(self) -> torch.device:
        """Where the cases lie."""
        return self.weights.device


class Patches(NamedTuple):
    """A batch."""

    image: Tensor  # (B, C, *patch)
    labels: Tensor  # (B, *patch) int64
    drawn: tuple[int, ...]  # indices of the cases


def grid_case(
    name: str,
    image: NDArray[Any],
    labels: NDArray[Any],
    spacing_mm: Sequence[float],
    device: torch.device,
) -> GridCase:
    """Put a case on the device. `image` (C, *sizes) is kept as float16, `labels` (*sizes) as uint8.

    Raises
    ------
    ValueError
        The shapes do not agree.
    """
    if image.shape[1:] != labels.shape or len(spacing_mm) != labels.ndim:
        raise ValueError(
            f"{name}: image {image.shape}, labels {labels.shape} and spacing {tuple(spacing_mm)} do not "
            "agree; prepare all of them on one grid"
        )
    generator = np.random.default_rng(FOREGROUND_SEED)
    places = []
    for label in np.unique(labels[labels > 0]):
        found = np.argwhere(labels == label)
        if len(found) > FOREGROUND_KEPT:
            found = found[generator.choice(len(found), FOREGROUND_KEPT, replace=False)]
        places.append(torch.from_numpy(found).to(device))
    return GridCase(
        name,
        torch.from_numpy(np.ascontiguousarray(image, dtype=np.float16)).to(device),
        torch.from_numpy(np.ascontiguousarray(labels, dtype=np.uint8)).to(device),
        tuple(float(one) for one in spacing_mm),
        tuple(places),
    )


def planes_of(case: GridCase) -> list[GridCase]:
    """A volume as its slices, for a network in 2D."""
    planes = []
    for index in range(case.labels.shape[0]):
        places = [place[place[:, 0] == index, 1:] for place in case.places]
        planes.append(
            GridCase(
                f"{case.name}/{index}",
                case.image[:, index],
                case.labels[index],
                case.spacing_mm[1:],
                tuple(place for place in places if len(place)),
            )
        )
    return planes


def patch_set(cases: Iterable[GridCase], weights: Sequence[float] | None = None) -> PatchSet:
    """Cases to draw from; all alike without weights."""
    listed = list(cases)
    given = torch.ones(len(listed)) if weights is None else torch.tensor(weights)
    return PatchSet(listed, (given / given.sum()).to(listed[0].image.device))


def draw_patches(
    data: PatchSet,
    patch: Sequence[int],
    batch: int,
    *,
    foreground_share: float,
    augment: GridAugment,
    generator: Generator,
) -> Patches:
    """Draw cases by their weights, a place in each, and sample patches there.

    The last `foreground_share` of the batch (at least one patch, when it is not 0) lie around a voxel of a
    label that is drawn first, so that small labels are seen as often as large ones; the others lie anywhere
    inside.
    """
    chosen = torch.multinomial(data.weights, batch, replacement=True, generator=generator).tolist()
    forced = max(1, round(batch * foreground_share)) if foreground_share > 0 else 0
    drawn = []
    for position, index in enumerate(chosen):
        case = data.cases[index]
        matrix = random_matrix(case.spacing_mm, augment, generator)
        centre = random_centre(case, patch, position >= batch - forced, generator)
        drawn.append(sampled(case, centre, matrix, patch))
    images, labels = zip(*drawn, strict=True)
    return Patches(torch.stack(images), torch.stack(labels), tuple(chosen))


def random_centre(case: GridCase, patch: Sequence[int], on_label: bool, generator: Generator) -> Tensor:
    """(axes,) voxel coordinates of a patch's middle; the patch lies inside the case where it fits."""
    device = generator.device
    sizes = torch.tensor(case.labels.shape, device=device, dtype=torch.float32)
    extent = torch.tensor(patch, device=device, dtype=torch.float32)
    low = (extent - 1) / 2
    high = sizes - 1 - low
    middle = (sizes - 1) / 2
    position = uniform(0, 1, (len(patch),), generator)
    centre = low + (high - low) * position
    if on_label and case.places:
        label = int(torch.randint(len(case.places), (1,), generator=generator, device=device))
        places = case.places[label]
        row = int(torch.randint(len(places), (1,), generator=generator, device=device))
        centre = places[row] + (position * 2 - 1) * JITTER * extent
        centre = torch.minimum(torch.maximum(centre, low), high)
    return torch.where(sizes < extent, middle, centre)


def random_matrix(spacing_mm: Sequence[float], settings: GridAugment, generator: Generator) -> Tensor:
    """(axes, axes): from offsets in a patch to offsets in its case, in voxels of each axis."""
    axes, device = len(spacing_mm), generator.device
    matrix = torch.eye(axes, device=device)
    moved = float(uniform(0, 1, (1,), generator)) < settings.move_probability
    angles = uniform(-1, 1, (3,), generator).tolist()
    zoom = float(uniform(-math.log(settings.scale_max), -math.log(settings.scale_min), (1,), generator))
    if moved:
        spacing = torch.tensor(spacing_mm, device=device, dtype=torch.float32)
        turned = torch.eye(axes, device=device)
        for axis, (share, degrees) in enumerate(zip(angles, settings.rotation_degrees, strict=False)):
            turned = turned @ _rotation(axes, axis, math.radians(degrees) * share, device)
        # A rotation is one in millimetres; between voxels of unequal sides it is not.
        matrix = turned * spacing / spacing[:, None] * math.exp(zoom)
    flips = torch.ones(axes, device=device)
    for axis in settings.flip_axes:
        if float(uniform(0, 1, (1,), generator)) < 0.5:
            flips[axis] = -1
    return matrix * flips


def sampled(case: GridCase, centre: Tensor, matrix: Tensor, patch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Image (C, *patch), linear, and labels (*patch), nearest, at centre + matrix @ offset; 0 outside.

    Both are read at the same places, so they cannot come apart.
    """
    axes, device = len(patch), case.image.device
    lines = [torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2 for size in patch]
    offsets = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)  # (*patch, axes)
    places = offsets @ matrix.T.to(device) + centre.to(device)
    flat = places.reshape(-1, axes)
    # Only the box that is read is converted to float32: a whole CT would be gigabytes.
    sizes = torch.tensor(case.labels.shape, device=device)
    first = torch.minimum((flat.amin(0).floor().long() - 1).clamp(min=0), sizes - 1)
    last = torch.maximum(torch.minimum(flat.amax(0).ceil().long() + 2, sizes), first + 1)
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    local = (2 * (places - first) + 1) / (last - first) - 1
    grid = local.flip(-1)[None]  # grid_sample names the last axis first
    image = F.grid_sample(case.image[(slice(None), *box)][None].float(), grid, align_corners=False)
    labels = F.grid_sample(case.labels[box][None, None].float(), grid, mode="nearest", align_corners=False)
    return image[0], labels[0, 0].long()


def _rotation(axes: int, axis: int, angle: float, device: torch.device) -> Tensor:
    """Rotation about an axis in 3D, in the plane in 2D."""
    first, second = (0, 1) if axes == 2 else [one for one in range(3) if one != axis]
    matrix = torch.eye(axes, device=device)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix
