"""PURE: the declared preprocessing of a volume, and the way back. The same function trains and predicts.

`prepare` brings a volume to the network's canvas (scaled intensities, float32); `network_input` stacks slices
and standardises. Training augments between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.resample import FloatArray, PlaneMap, scaled_axis
from models.steps import (
    FitCanvas,
    GreyScale,
    Orient,
    PreprocessStep,
    SpacingCanvas,
    StackSlices,
    Standardise,
    TissueScale,
)
from models.volume import Volume


class PreprocessError(ValueError):
    """A volume that the declared steps cannot take; the message says which step and why."""


@dataclass(frozen=True)
class Turn:
    """In-plane turn of slices: transpose first, then flip."""

    transposed: bool = False
    rows_flipped: bool = False
    columns_flipped: bool = False

    def apply(self, stack: NDArray[Any]) -> NDArray[Any]:
        """(n, rows, columns) as the network expects it."""
        turned = stack.transpose(0, 2, 1) if self.transposed else stack
        return turned[:, :: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]

    def undo(self, stack: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `apply`."""
        turned = stack[:, :: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]
        return turned.transpose(0, 2, 1) if self.transposed else turned


@dataclass(frozen=True, eq=False)
class Prepared:
    """Slices on the network's canvas and the maps that brought them there."""

    image: FloatArray  # (slices, canvas rows, canvas columns), scaled intensities, >= 0
    turn: Turn
    plane: PlaneMap

    def mask_to_canvas(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """A mask on the source grid, brought the same way."""
        return self.plane.apply_mask(self.turn.apply(mask))

    def to_source(self, maps: FloatArray) -> FloatArray:
        """(slices, canvas rows, canvas columns) back to the source grid, linearly; 0 outside the canvas."""
        return np.ascontiguousarray(self.turn.undo(self.plane.inverse.apply(maps)))


def prepare(volume: Volume, steps: Sequence[PreprocessStep]) -> Prepared:
    """Run the geometric and intensity steps on a volume.

    Raises
    ------
    PreprocessError
        No tissue found, spacing needed but unknown, or a canvas larger than the package allows.
    """
    turn = Turn()
    array: NDArray[Any] = volume.array
    spacing = volume.pixel_spacing_mm
    plane: PlaneMap | None = None
    for step in steps:
        match step:
            case Orient():
                turn = axial_turn(volume.affine)
                array = turn.apply(array)
                if turn.transposed and spacing is not None:
                    spacing = spacing[::-1]
            case TissueScale():
                array = tissue_scaled(array, step.maximum)
            case GreyScale():
                array = grey_scaled(array, step.percentile)
            case SpacingCanvas():
                plane = spacing_canvas(array, spacing, step)
            case FitCanvas():
                plane = fit_canvas(array.shape[1], array.shape[2], step.rows, step.columns)
            case StackSlices() | Standardise():
                pass  # network_input
    if plane is None:
        raise PreprocessError("the package declares no canvas step (spacing_canvas or fit_canvas)")
    return Prepared(plane.apply(array), turn, plane)


def network_input(image: FloatArray, steps: Sequence[PreprocessStep]) -> FloatArray:
    """(slices, H, W) -> (slices, channels, H, W): neighbours stacked, standardised."""
    stacked = image[:, None]
    for step in steps:
        if isinstance(step, StackSlices):
            stacked = image[neighbour_indices(len(image), step.neighbours)]
        elif isinstance(step, Standardise):
            stacked = (stacked - np.float32(step.mean)) / np.float32(step.deviation)
    return np.ascontiguousarray(stacked, dtype=np.float32)


def neighbour_indices(slices: int, neighbours: int) -> NDArray[np.int64]:
    """(slices, 2 * neighbours + 1) slice indices; the ends repeat."""
    offsets = np.arange(-neighbours, neighbours + 1)
    return np.asarray(np.clip(np.arange(slices)[:, None] + offsets[None, :], 0, slices - 1), dtype=np.int64)


def axial_turn(affine: NDArray[np.float64] | None) -> Turn:
    """The turn that makes columns run towards the patient's left and rows towards the back (LPS +x, +y)."""
    if affine is None:
        return Turn()
    column_axis, row_axis = affine[:3, 0], affine[:3, 1]
    transposed = abs(column_axis[1]) + abs(row_axis[0]) > abs(column_axis[0]) + abs(row_axis[1])
    if transposed:
        column_axis, row_axis = row_axis, column_axis
    return Turn(bool(transposed), bool(row_axis[1] < 0), bool(column_axis[0] < 0))


def otsu_threshold(values: NDArray[Any]) -> float:
    """The threshold that splits values into two classes of least variance (Otsu 1979), on 256 bins."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    mean_below = sums / np.maximum(below, 1)
    mean_above = (sums[-1] - sums) / np.maximum(above, 1)
    return float(centres[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def tissue_scaled(array: NDArray[Any], maximum: float) -> FloatArray:
    """Air to 0, median of tissue to 1, clipped to 0 .. maximum.

    Does not change under any positive linear change of the input values, so that 8-bit copies, 16-bit scanner
    values and signed registered values mean the same. Air is the median of what lies below Otsu's threshold.
    """
    values = array.astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.8))
    clipped = np.clip(values, low, high)
    threshold = otsu_threshold(clipped)
    is_tissue = clipped > threshold
    if high <= low or not is_tissue.any() or is_tissue.all():
        raise PreprocessError("tissue_scale: the volume holds one value only, there is no tissue to find")
    air, tissue = float(np.median(clipped[~is_tissue])), float(np.median(clipped[is_tissue]))
    return np.asarray(np.clip((values - air) / (tissue - air), 0, maximum), dtype=np.float32)


def grey_scaled(array: NDArray[Any], percentile: float) -> FloatArray:
    """Darkest pixel to 0, the percentile to 1, clipped to 0 .. 1."""
    values = array.astype(np.float32)
    low, high = float(values.min()), float(np.percentile(values, percentile))
    if high <= low:
        raise PreprocessError("grey_scale: the image holds one value only")
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), dtype=np.float32)


def spacing_canvas(array: NDArray[Any], spacing: tuple[float, float] | None, step: SpacingCanvas) -> PlaneMap:
    """A map to `spacing_mm` that centres the tissue of all slices on one canvas."""
    if spacing is None:
        raise PreprocessError(
            "spacing_canvas: the volume has no pixel spacing; only calibrated series can be read"
        )
    is_tissue = array > step.tissue_threshold
    axes = []
    for axis, (size, mm) in enumerate(zip(array.shape[1:], spacing, strict=True)):
        share = is_tissue.mean(axis=(0, 2 - axis))
        # A row counts as tissue at 2 % coverage: noise in air and wrap-around must not move the centre.
        covered = np.flatnonzero(share > 0.02)
        first, last = (int(covered[0]), int(covered[-1])) if len(covered) else (0, size - 1)
        scale = mm / step.spacing_mm
        if abs(scale - 1) < 1e-3:
            scale = 1.0
        extent = ceil((last - first + 1) * scale)
        target = max(step.minimum, 32 * ceil(extent / 32))
        if target > step.maximum:
            raise PreprocessError(
                f"spacing_canvas: tissue spans {extent * step.spacing_mm:.0f} mm, the package reads at most "
                f"{step.maximum * step.spacing_mm:.0f} mm; is this one head?"
            )
        axes.append(scaled_axis(size, scale, target, (first + last) / 2))
    return PlaneMap(axes[0], axes[1])


def fit_canvas(rows: int, columns: int, canvas_rows: int, canvas_columns: int) -> PlaneMap:
    """A map that fits the whole image into the canvas, centred, shape kept."""
    scale = min(canvas_rows / rows, canvas_columns / columns)
    return PlaneMap(scaled_axis(rows, scale, canvas_rows), scaled_axis(columns, scale, canvas_columns))
