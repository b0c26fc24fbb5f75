"""PURE: where windows lie on a grid, how their voxels weigh, and what the weights sum up to.

Everything has three axes (slices, rows, columns); a window that reads slice by slice is one slice thick.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.resample import FloatArray

Box = tuple[slice, slice, slice]
Sizes = tuple[int, int, int]
WEIGHT_MIN = 1e-3  # at the corners of a window, so that a voxel seen once keeps its logit


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis: evenly spread, as few as the overlap allows, ends met.

    `size` is at least `window`.
    """
    step = window * (1 - overlap)
    count = ceil((size - window) / step - 1e-9) + 1
    if count == 1:
        return [0]
    return [round((size - window) * index / (count - 1)) for index in range(count)]


def blend_lines(window: Sequence[int], blend: str) -> list[Tensor]:
    """For each axis (size,) the weight along it: 1, or a Gaussian of one eighth of the size.

    `gaussian` is MONAI's, around the middle; `gaussian_nnunet` is nnU-Net's, around voxel size // 2.
    """
    lines = []
    for size in window:
        centre = size // 2 if blend == "gaussian_nnunet" else (size - 1) / 2
        places = torch.arange(size, dtype=torch.float32) - centre
        line = torch.exp(-(places**2) / (2 * (size / 8) ** 2))
        lines.append(torch.ones(size) if blend == "constant" else line)
    return lines


def blend_weight(window: Sequence[int], blend: str) -> Tensor:
    """(*window,) weight of each voxel of a window: the product of its lines.

    MONAI's Gaussian is nowhere below `WEIGHT_MIN`, nnU-Net's has no such floor.
    """
    weight = torch.ones(())
    for line in blend_lines(window, blend):
        weight = weight[..., None] * line
    return weight.clamp(min=WEIGHT_MIN) if blend == "gaussian" else weight


@dataclass(frozen=True)
class WindowGrid:
    """Windows over an array, along each axis by their first voxels.

    Parameters
    ----------
    sizes : of the array, nowhere below the window
    starts : of the windows along each axis
    """

    sizes: Sizes
    window: Sizes
    starts: tuple[Sequence[int], Sequence[int], Sequence[int]]

    @classmethod
    def over(cls, sizes: Sizes, window: Sizes, overlap: float) -> WindowGrid:
        """As few windows as the overlap allows."""
        z, y, x = (window_starts(size, w, overlap) for size, w in zip(sizes, window, strict=True))
        return cls(sizes, window, (z, y, x))

    @property
    def per_layer(self) -> int:
        """Windows that begin at the same slice."""
        return len(self.starts[1]) * len(self.starts[2])

    def layers(self, at_once: int) -> Iterator[tuple[Sequence[int], int]]:
        """First slices of the windows, `at_once` at a time, and up to which slice all is seen after them."""
        first_slices = self.starts[0]
        for begin in range(0, len(first_slices), at_once):
            group = first_slices[begin : begin + at_once]
            rest = first_slices[begin + at_once :]
            yield group, rest[0] if rest else self.sizes[0]

    def boxes(self, first_slices: Sequence[int]) -> Iterator[Box]:
        """The windows that begin at these slices."""
        for corner in product(first_slices, self.starts[1], self.starts[2]):
            z, y, x = (slice(at, at + size) for at, size in zip(corner, self.window, strict=True))
            yield z, y, x

    def depth(self, at_once: int) -> int:
        """Most slices that are begun and not finished when so many layers are done together."""
        first_slices = self.starts[0]
        spans = (
            first_slices[min(begin + at_once, len(first_slices)) - 1] - first_slices[begin]
            for begin in range(0, len(first_slices), at_once)
        )
        return max(spans) + self.window[0]


class Normaliser:
    """What the weights of all windows sum up to at each voxel, slices at a time: no map of the volume.

    Without a floor the weight of a window is a product of lines, and so is the sum of a full grid of windows.
    With the floor it is not; then the sums over rows and columns are kept for each slice of a window, which
    is one window's depth of planes and no head's multiple of it.
    """

    def __init__(self, grid: WindowGrid, blend: str, device: torch.device) -> None:
        self._grid, self._device = grid, device
        lines = blend_lines(grid.window, blend)
        self._planes: Tensor | None = None
        if blend == "gaussian":
            weight = blend_weight(grid.window, blend)
            planes = torch.zeros(grid.window[0], *grid.sizes[1:])
            for _, rows, columns in grid.boxes(grid.starts[0][:1]):
                planes[:, rows, columns] += weight
            self._planes = planes.to(device)
        else:
            along, rows_sum, columns_sum = (
                _line_sums(size, starts, line)
                for size, starts, line in zip(grid.sizes, grid.starts, lines, strict=True)
            )
            self._along = along.to(device)
            self._plane = (rows_sum[:, None] * columns_sum).to(device)

    @staticmethod
    def bytes_needed(sizes: Sizes, window: Sizes, blend: str) -> int:
        """Bytes that are held."""
        return 4 * sizes[1] * sizes[2] * (window[0] if blend == "gaussian" else 1)

    def of(self, first: int, last: int) -> Tensor:
        """(last - first, rows, columns) sums of the weights."""
        if self._planes is None:
            return self._along[first:last, None, None] * self._plane
        total = torch.zeros(last - first, *self._grid.sizes[1:], device=self._device)
        for start in self._grid.starts[0]:
            begin, end = max(first, start), min(last, start + self._grid.window[0])
            if begin < end:
                total[begin - first : end - first] += self._planes[begin - start : end - start]
        return total


def _line_sums(size: int, starts: Sequence[int], line: Tensor) -> Tensor:
    total = torch.zeros(size)
    for start in starts:
        total[start : start + len(line)] += line
    return total


def tissue_box(image: FloatArray, above: float, margin: int) -> Box | None:
    """The smallest box around every voxel above a value, wider by a margin; None where there is none.

    Parameters
    ----------
    image : (slices, rows, columns)
    """
    slices = np.zeros(image.shape[0], bool)
    rows, columns = np.zeros(image.shape[1], bool), np.zeros(image.shape[2], bool)
    for index, plane in enumerate(image):  # one plane at a time: a mask of the volume would be a copy of it
        is_tissue = plane > above
        along_rows = is_tissue.any(1)
        slices[index] = along_rows.any()
        rows |= along_rows
        columns |= is_tissue.any(0)
    if not slices.any():
        return None
    z, y, x = (_covered(line, margin) for line in (slices, rows, columns))
    return z, y, x


def _covered(line: NDArray[np.bool_], margin: int) -> slice:
    places = np.flatnonzero(line)
    return slice(max(0, int(places[0]) - margin), min(len(line), int(places[-1]) + 1 + margin))


def at_least(box: Box, window: Sizes, sizes: Sizes) -> Box:
    """The box, widened evenly where it is smaller than a window, as far as the array of `sizes` goes."""
    widened = []
    for part, wanted, size in zip(box, window, sizes, strict=True):
        missing = max(0, min(wanted, size) - (part.stop - part.start))
        extent = part.stop - part.start + missing
        first = min(max(0, part.start - missing // 2), size - extent)
        widened.append(slice(first, first + extent))
    return widened[0], widened[1], widened[2]
