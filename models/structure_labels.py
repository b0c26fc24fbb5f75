"""PURE: what a package declares to clean the outlines of its structures, each structure by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.postprocess import CONNECTED, Labels
from models.resample import FloatArray
from models.steps import FillHoles, KeepLargest, MinComponent, PostprocessStep

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OutlinedStructures:
    """Named structures of one volume.

    Parameters
    ----------
    labels : (slices, rows, columns), 0 background, else the number of the segment; not each must occur
    scores : mean probability over the voxels of each segment, by number; None where it has none
    """

    labels: Labels
    scores: tuple[float | None, ...]

    @property
    def voxels(self) -> tuple[int, ...]:
        """Voxels of each structure, by number."""
        counts = np.zeros(len(self.scores) + 1, np.int64)
        for plane in self.labels:
            counts += np.bincount(plane.ravel(), minlength=len(counts))
        return tuple(int(count) for count in counts[1:])


def cleaned(
    labels: Labels, steps: Sequence[PostprocessStep], *, count: int, voxel_ml: float | None
) -> Labels:
    """The labels after the declared steps; a copy.

    A structure gains voxels from background alone, never from another structure.

    Parameters
    ----------
    steps : those after argmax or threshold
    count : structures of the package

    Raises
    ------
    ValueError
        A step needs a voxel volume that is not there.
    """
    result = labels.copy()
    image_voxels = labels[0].size
    # Within its box a structure has all its parts and holes, and the steps cost what it is worth.
    boxes = cast("list[tuple[slice, slice, slice] | None]", ndimage.find_objects(result, max_label=count))
    for step in steps:
        assert isinstance(step, FillHoles | KeepLargest | MinComponent), "the manifest's own check"
        for number in step.segments or range(1, count + 1):
            box = boxes[number - 1]
            if box is None:
                continue
            part = result[box]
            if isinstance(step, FillHoles):
                _fill_holes(part, number)
                continue
            mask = part == number
            if isinstance(step, KeepLargest):
                kept = largest_part(mask)
            else:
                kept = large_parts(mask, step, voxel_ml=voxel_ml, image_voxels=image_voxels)
            part[mask & ~kept] = 0
    return result


def large_parts(mask: Mask, step: MinComponent, *, voxel_ml: float | None, image_voxels: int) -> Mask:
    """The connected parts that are large enough; `image_voxels` of a whole slice."""
    parts, _ = ndimage.label(mask, CONNECTED)
    voxels = np.bincount(parts.ravel())
    if step.minimum_ml is not None:
        if voxel_ml is None:
            raise ValueError("min_component in mL needs a volume with known spacing")
        is_large = voxels * voxel_ml >= step.minimum_ml
    else:
        assert step.minimum_share is not None, "the step's own check"
        is_large = voxels >= step.minimum_share * image_voxels
    is_large[0] = False
    return np.asarray(is_large[parts])


def largest_part(mask: Mask) -> Mask:
    """The largest connected part, the first of equals; nothing of nothing."""
    parts, count = ndimage.label(mask, CONNECTED)
    if count < 2:
        return mask
    return np.asarray(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def mean_probabilities(labels: Labels, decided: FloatArray, *, count: int) -> tuple[float | None, ...]:
    """Mean probability of each structure over its own voxels; None of one without voxels.

    Parameters
    ----------
    decided : probability of the structure that each voxel was given to; 0 where it was none
    """
    voxels, sums = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    for plane, likely in zip(labels, decided, strict=True):  # slice by slice: bincount counts in 64 bits
        # A hole that was filled was given to none, and says nothing about the structure.
        told = np.where(likely > 0, plane, 0).ravel()
        voxels += np.bincount(told, minlength=count + 1)
        sums += np.bincount(told, weights=likely.ravel(), minlength=count + 1)
    return tuple(
        float(total / number) if number else None for total, number in zip(sums[1:], voxels[1:], strict=True)
    )


def _fill_holes(labels: Labels, number: int) -> None:
    """Holes of one structure, slice by slice and in place; a hole inside another structure is that one's."""
    for plane in labels:
        mask = plane == number
        if not mask.any():
            continue
        gaps, _ = ndimage.label(ndimage.binary_fill_holes(mask) & (plane == 0))
        beside = np.unique(gaps[ndimage.binary_dilation(mask)])
        plane[np.isin(gaps, beside[beside > 0])] = number
