"""PURE: boxes to numbered ellipsoids: what a detector says of where and how large, as labels.

A box (low corner, high corner) in voxels of the source becomes the ellipsoid that touches its six sides: the
voxels whose centres lie in it. It is an extent, not a boundary.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.inference.windows import Box, Sizes
from models.postprocess import Labels
from models.resample import FloatArray

Boxes = NDArray[np.float64]  # (n, 6)
Mask = NDArray[np.bool_]


def ellipsoid(box: NDArray[np.float64], shape: Sizes) -> tuple[Box, Mask]:
    """Where in an array the ellipsoid of one box lies, and which voxels there are in it.

    One that is too small to hold the centre of a voxel is the voxel that holds its own.
    """
    low, high = box[:3], box[3:]
    centre, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-6)
    first = np.clip(np.floor(low).astype(int), 0, np.array(shape) - 1)
    last = np.clip(np.ceil(high).astype(int), first + 1, np.array(shape))
    lines = [
        ((np.arange(a, b) + 0.5 - middle) / radius) ** 2
        for a, b, middle, radius in zip(first, last, centre, half, strict=True)
    ]
    inside = lines[0][:, None, None] + lines[1][:, None] + lines[2] <= 1
    if not inside.any():
        at = np.clip(np.floor(centre).astype(int), 0, np.array(shape) - 1)
        return _part(at, at + 1), np.ones((1, 1, 1), bool)
    return _part(first, last), np.asarray(inside)


def numbered_ellipsoids(boxes: Boxes, shape: Sizes) -> tuple[Labels, tuple[int, ...]]:
    """Labels 1, 2, ... of boxes in their order, and the index of the box of each.

    Where two overlap the earlier one keeps its voxels; a box that is left with none is none.
    """
    labels = np.zeros(shape, np.uint16)
    drawn: list[int] = []
    for index, box in enumerate(boxes):
        place, inside = ellipsoid(box, shape)
        part = labels[place]
        free = inside & (part == 0)
        if free.any():
            drawn.append(index)
            part[free] = len(drawn)
    return labels, tuple(drawn)


def score_map(boxes: Boxes, scores: NDArray[np.float64], shape: Sizes) -> FloatArray:
    """(slices, rows, columns): the score of the surest box whose ellipsoid holds a voxel, 0 elsewhere."""
    result = np.zeros(shape, np.float32)
    for box, score in zip(boxes, scores, strict=True):
        place, inside = ellipsoid(box, shape)
        part = result[place]
        np.maximum(part, np.float32(score), out=part, where=inside)
    return result


def _part(first: NDArray[np.int_], last: NDArray[np.int_]) -> Box:
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return z, y, x
