"""PURE: the way from a network's grid back to the source, as stages a stream of slices can take.

What was done to the volume (`models.grid`) is undone in reverse. Turns by whole axes are moved to the end,
where they are a view of the result; what remains is interpolation, axis by axis, and pasting into a larger
array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.grid import Cropped, Resampled, Turned, nearest_places
from models.inference.windows import Box, Sizes
from models.resample import FloatArray

_AS_IT_IS = Turned((0, 1, 2))


@dataclass(frozen=True, eq=False)
class Taps:
    """Interpolation along one axis: new = (1 - weight) * old[lower] + weight * old[upper].

    Parameters
    ----------
    lower, upper : (new size,), ascending
    weight : (new size,), 0 to 1
    size : of the old axis
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    weight: FloatArray
    size: int

    @property
    def new_size(self) -> int:
        """Of the new axis."""
        return len(self.lower)

    def reversed(self) -> Taps:
        """The same when both axes are counted from their other ends."""
        last = self.size - 1
        return Taps(
            last - self.upper[::-1], last - self.lower[::-1], (1 - self.weight[::-1]).astype("f4"), self.size
        )


@dataclass(frozen=True, eq=False)
class Interpolated:
    """Each axis by its taps; None leaves an axis as it is."""

    taps: tuple[Taps | None, Taps | None, Taps | None]


@dataclass(frozen=True)
class Pasted:
    """Put into `box` of a larger array."""

    box: Box
    shape: Sizes


@dataclass(frozen=True)
class WayBack:
    """Stages from the grid, in order, and the view of the source in which the last one ends."""

    stages: tuple[Interpolated | Pasted, ...]
    turn: Turned

    def view(self, source: NDArray[Any]) -> NDArray[Any]:
        """The source (slices, rows, columns) as the last stage counts it; writing into it writes there."""
        return self.turn.apply(source)

    def largest_plane(self, shape: Sizes) -> int:
        """Most voxels of a slice on the way; `shape` is that of the grid."""
        planes = [shape[1] * shape[2]]
        for stage in self.stages:
            if isinstance(stage, Pasted):
                shape = stage.shape
            else:
                z, y, x = (
                    size if taps is None else taps.new_size
                    for size, taps in zip(shape, stage.taps, strict=True)
                )
                shape = (z, y, x)
            planes.append(shape[1] * shape[2])
        return max(planes)


def way_back(done: Sequence[Turned | Cropped | Resampled], shape: Sizes) -> WayBack:
    """The way back.

    Parameters
    ----------
    done : to the volume, in order
    shape : of the grid
    """
    stages: list[Interpolated | Pasted] = []
    later, current = _AS_IT_IS, shape
    for one in reversed(done):
        match one:
            case Turned():
                before = tuple(current[one.axes.index(axis)] for axis in range(3))
                later, current = _after(one, later), (before[0], before[1], before[2])
            case Cropped():
                stages.append(_turned_paste(one, later))
                current = one.shape
            case Resampled():
                if current != one.shape:
                    stages.append(_turned_taps(current, one, later))
                current = one.shape
    return WayBack(tuple(stages), later)


def linear_taps(old: int, new: int) -> Taps | None:
    """From `old` cells to `new` over the same extent, the ends held; None where they are equal."""
    if old == new:
        return None
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    lower = np.minimum(np.floor(places).astype(np.int64), max(0, old - 2))
    return Taps(lower, np.minimum(lower + 1, old - 1), (places - lower).astype(np.float32), old)


def nearest_taps(old: int, new: int) -> Taps | None:
    """From `old` cells to `new`, each the nearest one."""
    if old == new:
        return None
    nearest = nearest_places(old, new)
    return Taps(nearest, nearest, np.zeros(new, np.float32), old)


def _after(first: Turned, then: Turned) -> Turned:
    """One turn for two."""
    axes = tuple(first.axes[axis] for axis in then.axes)
    both = tuple(
        position
        for position, axis in enumerate(then.axes)
        if (axis in first.reversed_axes) != (position in then.reversed_axes)
    )
    return Turned((axes[0], axes[1], axes[2]), both)


def _turned_paste(one: Cropped, turn: Turned) -> Pasted:
    """The crop as it looks after a turn."""
    box, shape = [], []
    for position, axis in enumerate(turn.axes):
        part, size = one.box[axis], one.shape[axis]
        is_reversed = position in turn.reversed_axes
        box.append(slice(size - part.stop, size - part.start) if is_reversed else part)
        shape.append(size)
    return Pasted((box[0], box[1], box[2]), (shape[0], shape[1], shape[2]))


def _turned_taps(shape: Sizes, one: Resampled, turn: Turned) -> Interpolated:
    """Back from `shape`, as it looks after a turn."""
    taps: list[Taps | None] = []
    for position, axis in enumerate(turn.axes):
        kind = nearest_taps if axis == one.apart else linear_taps
        along = kind(shape[axis], one.shape[axis])
        taps.append(along.reversed() if along is not None and position in turn.reversed_axes else along)
    return Interpolated((taps[0], taps[1], taps[2]))
