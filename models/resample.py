"""PURE resampling in the image plane, with its inverse: one map per axis, applied as a small matrix.

Every geometric step of preprocessing (spacing, canvas, crop) is `target = scale * source + offset` along rows
and along columns, so they compose into one resampling and the way back is the inverse map, exactly.
Indices are pixel centres, 0-based.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class AxisMap:
    """target = scale * source + offset, from `source_size` to `target_size` pixels; scale > 0."""

    scale: float
    offset: float
    source_size: int
    target_size: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0 and np.isfinite(self.offset)):
            raise ValueError(f"axis map needs a positive finite scale and a finite offset, got {self}")
        if self.source_size < 1 or self.target_size < 1:
            raise ValueError(f"axis map needs sizes of at least one pixel, got {self}")

    @property
    def inverse(self) -> AxisMap:
        """The map from target back to source."""
        return AxisMap(1.0 / self.scale, -self.offset / self.scale, self.target_size, self.source_size)

    @property
    def is_shift(self) -> bool:
        """Whether pixels are only moved by whole pixels, so that nothing is interpolated."""
        return self.scale == 1.0 and float(self.offset).is_integer()

    def matrix(self) -> FloatArray:
        """Weights (target_size, source_size); rows sum to 1 inside the source and to 0 outside it.

        Linear interpolation; when shrinking, the triangle widens by 1 / scale so that no detail aliases.
        """
        centres = (np.arange(self.target_size) - self.offset) / self.scale
        reach = max(1.0, 1.0 / self.scale)
        distance = np.abs(np.arange(self.source_size)[None, :] - centres[:, None])
        weights = np.maximum(0.0, 1.0 - distance / reach)
        total = weights.sum(1, keepdims=True)
        # A pixel belongs to the source when its centre lies on it, half a pixel of border included.
        inside = (centres >= -0.5 - 1e-9) & (centres <= self.source_size - 0.5 + 1e-9)
        result = np.where(inside[:, None], weights / np.maximum(total, 1e-12), 0.0)
        return np.asarray(result, dtype=np.float32)


@dataclass(frozen=True)
class PlaneMap:
    """Rows and columns of a slice to those of the network's canvas."""

    rows: AxisMap
    columns: AxisMap

    @property
    def inverse(self) -> PlaneMap:
        """The map from canvas back to slice."""
        return PlaneMap(self.rows.inverse, self.columns.inverse)

    def apply(self, stack: NDArray[Any]) -> FloatArray:
        """Resample (n, rows, columns) linearly to (n, target rows, target columns); outside the source: 0."""
        if stack.shape[1:] != (self.rows.source_size, self.columns.source_size):
            raise ValueError(
                f"stack of {stack.shape[1:]} does not fit a map from "
                f"{(self.rows.source_size, self.columns.source_size)}"
            )
        if self.rows.is_shift and self.columns.is_shift:
            return self._shift(stack)
        down = self.rows.matrix()
        across = self.columns.matrix().T.copy()
        result = np.empty((len(stack), self.rows.target_size, self.columns.target_size), np.float32)
        for index, plane in enumerate(stack):
            result[index] = down @ (plane.astype(np.float32, copy=False) @ across)
        return result

    def apply_mask(self, stack: NDArray[Any]) -> NDArray[np.bool_]:
        """Resample a mask: a pixel is inside when at least half of its weight is."""
        return np.asarray(self.apply(stack.astype(np.float32)) >= 0.5)

    def _shift(self, stack: NDArray[Any]) -> FloatArray:
        result = np.zeros((len(stack), self.rows.target_size, self.columns.target_size), np.float32)
        (source_r, target_r), (source_c, target_c) = _overlap(self.rows), _overlap(self.columns)
        result[:, target_r, target_c] = stack[:, source_r, source_c]
        return result


def _overlap(axis: AxisMap) -> tuple[slice, slice]:
    """Source and target slices of a whole-pixel shift."""
    offset = int(axis.offset)
    start, stop = max(0, offset), min(axis.target_size, axis.source_size + offset)
    stop = max(start, stop)
    return slice(start - offset, stop - offset), slice(start, stop)


def scaled_axis(source_size: int, scale: float, target_size: int, centre: float | None = None) -> AxisMap:
    """A map that puts source position `centre` (default: the middle) on the middle of the target.

    At scale 1 the offset is rounded to whole pixels, so that nothing is blurred for half a pixel of centring.
    """
    middle = (source_size - 1) / 2 if centre is None else centre
    offset = (target_size - 1) / 2 - scale * middle
    return AxisMap(scale, float(np.round(offset)) if scale == 1.0 else offset, source_size, target_size)
