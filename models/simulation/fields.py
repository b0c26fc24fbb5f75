"""PURE: a grid in millimetres, soft edges and smooth random fields: what phantoms are made of.

Positions are (z, y, x) in mm from the middle of the grid: z to the head, y to the back, x to the patient's
left, as the axes of a volume run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]  # (slices, rows, columns)
Point = NDArray[np.float64]  # (3,) mm
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class MmGrid:
    """Voxel centres in mm."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def extent(self) -> Point:
        """(3,) mm from border to border."""
        return np.multiply(self.shape, self.spacing)

    def lines(self, box: Box | None = None) -> tuple[Field, Field, Field]:
        """Coordinates along each axis, ready to be broadcast; of a box of the grid, or all of it."""
        parts = box or tuple(slice(0, size) for size in self.shape)
        lines = [
            ((np.arange(part.start, part.stop) - (size - 1) / 2) * step).astype(np.float32)
            for part, size, step in zip(parts, self.shape, self.spacing, strict=True)
        ]
        return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]

    def box_around(self, low: Point, high: Point) -> Box | None:
        """The voxels within a box in mm, one more on each side; None where it lies outside."""
        middle = (np.array(self.shape) - 1) / 2
        first = np.maximum(np.floor(low / self.spacing + middle).astype(int) - 1, 0)
        last = np.minimum(np.ceil(high / self.spacing + middle).astype(int) + 2, self.shape)
        if (first >= last).any():
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return z, y, x

    def voxel_of(self, point: Point) -> tuple[int, int, int]:
        """The voxel that holds a point, at the border where it lies outside."""
        middle = (np.array(self.shape) - 1) / 2
        index = np.clip(np.round(point / self.spacing + middle).astype(int), 0, np.array(self.shape) - 1)
        return int(index[0]), int(index[1]), int(index[2])

    def point_of(self, voxel: Sequence[int]) -> Point:
        """The centre of a voxel."""
        return (np.asarray(voxel) - (np.array(self.shape) - 1) / 2) * self.spacing


def covered(inside_mm: Field, voxel_mm: float) -> Field:
    """Share of each voxel inside a surface, from the distance to it (positive inside): a linear edge."""
    return np.asarray(np.clip(inside_mm / voxel_mm + 0.5, 0, 1), dtype=np.float32)


def smooth_noise(
    shape: tuple[int, int, int],
    spacing: Sequence[float],
    length_mm: float,
    rng: np.random.Generator,
) -> Field:
    """A random field of mean 0 and deviation 1 that changes over about this length.

    Drawn on a grid as coarse as the length allows: a filter that wide would take most of the time.
    """
    coarse = [
        max(3, int(np.ceil(size * step / length_mm * 2)) + 2)
        for size, step in zip(shape, spacing, strict=True)
    ]
    drawn = ndimage.gaussian_filter(rng.normal(size=coarse), 0.8).astype(np.float32)
    zoom = [size / small for size, small in zip(shape, coarse, strict=True)]
    field = ndimage.zoom(drawn, zoom, order=1, mode="nearest", grid_mode=True)
    field = field[: shape[0], : shape[1], : shape[2]]
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)
