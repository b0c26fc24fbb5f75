"""PURE: a volume to the grid of a network by the declared steps.

What was done is kept in order, for `models.inference.way_back`. The resampling is the one nnU-Net is trained
with: cubic for images, linear for logits, and with `apart_above` an axis of much coarser spacing by its
nearest slice. Grid points are cell centres; the corners of first and last cells stay where they are.

Source: nnU-Net v2, default_resampling and default_preprocessor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.grid_steps import (
    ClipPercentiles,
    ClipStandardise,
    CropNonzero,
    GridStep,
    MapRange,
    OrientGrid,
    ResampleGrid,
    TransposeGrid,
    ZScore,
)
from models.preprocess import PreprocessError
from models.resample import FloatArray
from models.volume import Volume

Shape = tuple[int, int, int]
Order = Literal[0, 1, 3]
Spacing = tuple[float | None, float | None, float | None]
# Side of the patient -> (axis of LPS coordinates, direction along it).
_SIDES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}

# The grid, one more of it while intensities are scaled or axes turned, and the masks of a z-score.
_BYTES_PER_VOXEL = 12


@dataclass(frozen=True)
class Turned:
    """Axes were reordered (`axes[i]` became axis i), then some reversed."""

    axes: tuple[int, int, int]
    reversed_axes: tuple[int, ...] = ()

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """(a, b, c) turned."""
        return np.flip(array.transpose(self.axes), self.reversed_axes)

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `apply`."""
        return np.flip(array, self.reversed_axes).transpose(np.argsort(self.axes))


@dataclass(frozen=True)
class Cropped:
    """A box was cut out of a larger array."""

    box: tuple[slice, slice, slice]
    shape: Shape


@dataclass(frozen=True)
class Resampled:
    """The shape was changed to `after`; `apart` is the axis that was done by its nearest slice."""

    shape: Shape
    apart: int | None
    after: Shape


@dataclass(frozen=True, eq=False)
class Gridded:
    """A volume on the network's grid, and what was done to it, in order."""

    image: FloatArray  # (a, b, c)
    done: tuple[Turned | Cropped | Resampled, ...] = field(default=())
    spacing_mm: Spacing = (None, None, None)  # along each axis, where known

    @property
    def shape(self) -> Shape:
        """Of the grid."""
        return _shape(self.image)


def to_grid(
    volume: Volume,
    steps: Sequence[GridStep],
    *,
    before_allocating: Callable[[int], None] = lambda _: None,
) -> Gridded:
    """Run the steps on a volume.

    Parameters
    ----------
    before_allocating : told the bytes that a step is about to take; may raise

    Raises
    ------
    PreprocessError
        A spacing or an orientation is needed and unknown, or every voxel is 0.
    """
    before_allocating(_BYTES_PER_VOXEL * volume.array.size)
    array: NDArray[Any] = volume.array.astype(np.float32)
    pixel = volume.pixel_spacing_mm or (None, None)
    spacing: Spacing = (volume.slice_spacing_mm, pixel[0], pixel[1])
    done: list[Turned | Cropped | Resampled] = []
    for step in steps:
        match step:
            case OrientGrid():
                turned = orientation(volume, step)
                array, spacing = turned.apply(array), _reordered(spacing, turned.axes)
                done.append(turned)
            case TransposeGrid():
                turned = Turned(step.axes)
                array, spacing = turned.apply(array), _reordered(spacing, turned.axes)
                done.append(turned)
            case CropNonzero():
                box = nonzero_box(array)
                done.append(Cropped(box, _shape(array)))
                array = array[box]
            case ResampleGrid():
                array, change = _resample_step(array, spacing, step, before_allocating)
                spacing = _spacing_after(spacing, step)
                done.append(change)
            case ClipPercentiles() | ClipStandardise() | ZScore() | MapRange():
                array = scaled(array, step)
    return Gridded(np.ascontiguousarray(array, dtype=np.float32), tuple(done), spacing)


def labels_to_grid(labels: NDArray[np.uint8], gridded: Gridded) -> NDArray[np.uint8]:
    """Labels (slices, rows, columns) of the source on the grid: the same turns and cuts, nearest voxels."""
    array = labels
    for change in gridded.done:
        match change:
            case Turned():
                array = change.apply(array)
            case Cropped():
                array = array[change.box]
            case Resampled():
                places = [
                    nearest_places(old, new) for old, new in zip(change.shape, change.after, strict=True)
                ]
                array = array[np.ix_(*places)]
    return np.ascontiguousarray(array)


def orientation(volume: Volume, step: OrientGrid) -> Turned:
    """The turn that makes the array's axes run towards the wanted sides, as nearly as whole axes can."""
    if volume.affine is None:
        if volume.shape[0] > 1:
            raise PreprocessError("orient_grid: the series has no orientation in the patient")
        return Turned((0, 1, 2))
    # Directions of (slice, row, column), LPS.
    directions = volume.affine[:3, :3][:, [2, 1, 0]]
    directions = directions / np.linalg.norm(directions, axis=0)
    axes: list[int] = []
    reversed_axes: list[int] = []
    for position, side in enumerate((step.slices, step.rows, step.columns)):
        line, sign = _SIDES[side]
        closeness = np.abs(directions[line])
        closeness[axes] = -1
        axis = int(np.argmax(closeness))
        axes.append(axis)
        if directions[line, axis] * sign < 0:
            reversed_axes.append(position)
    return Turned((axes[0], axes[1], axes[2]), tuple(reversed_axes))


def nonzero_box(array: NDArray[Any]) -> tuple[slice, slice, slice]:
    """The smallest box around every voxel that is not 0."""
    box = []
    for axis in range(3):
        covered = np.flatnonzero((array != 0).any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(covered):
            raise PreprocessError("crop_nonzero: every voxel is 0")
        box.append(slice(int(covered[0]), int(covered[-1]) + 1))
    return box[0], box[1], box[2]


def scaled(array: FloatArray, step: ClipPercentiles | ClipStandardise | ZScore | MapRange) -> FloatArray:
    """Intensities as the step says; float32.

    Plane by plane: float64 of the whole volume would be twice the volume, several times over.
    """
    if isinstance(step, ZScore):
        return _standardised(array, step)
    if isinstance(step, ClipPercentiles):
        low, high = np.percentile(array, (step.low, step.high))
        return np.clip(array, np.float32(low), np.float32(high))
    result = np.empty(array.shape, np.float32)
    if isinstance(step, ClipStandardise):
        for plane, given in zip(result, array, strict=True):
            plane[:] = (np.clip(given, step.low, step.high) - step.mean) / step.deviation
        return result
    low = float(array.min()) if step.low is None else step.low
    high = float(array.max()) if step.high is None else step.high
    for plane, given in zip(result, array, strict=True):
        unit = (given - low) / max(high - low, 1e-8)
        if step.clip:
            unit = np.clip(unit, 0, 1)
        plane[:] = unit * (step.to_high - step.to_low) + step.to_low
    return result


def _standardised(array: FloatArray, step: ZScore) -> FloatArray:
    mask = np.ones(array.shape, bool) if step.mask == "all" else array != 0
    if step.mask == "nonzero_filled":
        mask = ndimage.binary_fill_holes(mask)
    count = int(mask.sum())
    if count == 0:
        raise PreprocessError("zscore: every voxel is 0")
    planes = [(given, inside) for given, inside in zip(array, mask, strict=True) if inside.any()]
    mean = sum(float(given[inside].sum(dtype=np.float64)) for given, inside in planes) / count
    squares = sum(float(((given[inside].astype(np.float64) - mean) ** 2).sum()) for given, inside in planes)
    deviation = max(float(np.sqrt(squares / count)), 1e-8)
    result = np.zeros(array.shape, np.float32)
    for plane, given, inside in zip(result, array, mask, strict=True):
        plane[inside] = (given[inside].astype(np.float64) - mean) / deviation
    return result


def resampled(array: FloatArray, shape: Shape, order: Order, apart: int | None) -> FloatArray:
    """An array of another shape over the same extent, never beyond the range of its values.

    `apart`: this axis by its nearest slice, the other two by `order`.
    """
    if array.shape == shape:
        return array
    if apart is None:
        return _zoomed(array, shape, order)
    plane_shape = tuple(size for axis, size in enumerate(shape) if axis != apart)
    planes = np.moveaxis(array, apart, 0)
    nearest = nearest_places(planes.shape[0], shape[apart])
    needed = {int(index): _zoomed(planes[index], plane_shape, order) for index in np.unique(nearest)}
    return np.moveaxis(np.stack([needed[int(index)] for index in nearest]), 0, apart)


def nearest_places(old: int, new: int) -> NDArray[np.int64]:
    """(new,) for each new cell the nearest of `old` ones over the same extent."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    return np.asarray(np.clip(np.floor(places + 0.5), 0, old - 1), dtype=np.int64)


def _resample_step(
    array: FloatArray, spacing: Spacing, step: ResampleGrid, before_allocating: Callable[[int], None]
) -> tuple[FloatArray, Resampled]:
    shape = []
    for size, old, new in zip(array.shape, spacing, step.spacing_mm, strict=True):
        if new is not None and old is None:
            raise PreprocessError("resample_grid: the series has no spacing along an axis that needs one")
        # In nnU-Net's order of operations: halves round otherwise in another.
        shape.append(size if new is None or old is None else max(1, round(old / new * size)))
    target = (shape[0], shape[1], shape[2])
    # scipy filters a cubic spline in float64; the result is there twice while turned into one block.
    before_allocating((8 * array.size if step.order == 3 else 0) + 8 * prod(target))
    after = _spacing_after(spacing, step)
    apart = _apart_axis(spacing, step.apart_above)
    if apart is None:
        apart = _apart_axis(after, step.apart_above)
    return resampled(array, target, step.order, apart), Resampled(_shape(array), apart, target)


def _apart_axis(spacing: Spacing, above: float | None) -> int | None:
    """The one axis that is coarser than the finest by more than `above`; None when there is not just one."""
    known = [one for one in spacing if one is not None]
    if above is None or len(known) < 3 or max(known) / min(known) <= above:
        return None
    coarsest = [axis for axis, one in enumerate(spacing) if one == max(known)]
    return coarsest[0] if len(coarsest) == 1 else None


def _spacing_after(spacing: Spacing, step: ResampleGrid) -> Spacing:
    a, b, c = (old if new is None else new for old, new in zip(spacing, step.spacing_mm, strict=True))
    return a, b, c


def _zoomed(array: FloatArray, shape: tuple[int, ...], order: Order) -> FloatArray:
    if array.shape == shape:
        return array
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    result = ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    # Cubic interpolation overshoots at edges; the maker's does not leave the range either.
    return np.asarray(np.clip(result, array.min(), array.max(), out=result), dtype=np.float32)


def _reordered(spacing: Spacing, axes: tuple[int, int, int]) -> Spacing:
    return spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]


def _shape(array: NDArray[Any]) -> Shape:
    return int(array.shape[0]), int(array.shape[1]), int(array.shape[2])
