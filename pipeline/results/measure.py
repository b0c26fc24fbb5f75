"""PURE labels and geometry to measured lesions.

Volume is voxels x pixel spacing x distance of slice positions along the normal, never slice thickness. The
long axis is the largest diameter within one slice and one connected outline; the slice where it is largest is
the key slice, and the short axis is measured there at a right angle. Without calibration all stays in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.volume import Volume
from pipeline.results.findings import Box, Lesion
from pipeline.results.outline import Diameters, Mask, Point, Points, diameters, outlines, signed_area


def measure(
    labels: NDArray[np.uint16],
    volume: Volume,
    scores: Sequence[float] = (),
    boxes: NDArray[np.float64] | None = None,
) -> list[Lesion]:
    """Measure every lesion of a label array.

    Parameters
    ----------
    labels : (slices, rows, columns), 0 outside, 1..n without gaps
    volume : the volume the labels belong to; only its shape and spacings are used
    scores : one per lesion, 0..1; may be empty
    boxes : (n, 6) of a detector's lesions, low and high corners in voxels; their diameters are then those of
    the boxes, since what is drawn in them is no outline

    Returns
    -------
    one `Lesion` per label, in their order

    Raises
    ------
    ValueError
        Shapes differ, a label is missing, or the number of scores is not the number of lesions.
    """
    if labels.shape != volume.shape:
        raise ValueError(f"labels of shape {labels.shape} for a volume of shape {volume.shape}")
    # scipy gives None for a label that does not occur, which its type stubs leave out.
    places = cast("list[Box | None]", ndimage.find_objects(labels))
    if scores and len(scores) != len(places):
        raise ValueError(f"{len(scores)} scores for {len(places)} lesions")
    lesions = []
    for label, box in enumerate(places, start=1):
        if box is None:
            raise ValueError(f"label {label} is missing: labels must be 1..n without gaps")
        score = float(scores[label - 1]) if scores else None
        given = None if boxes is None else boxes[label - 1]
        lesions.append(_measure_one(labels, volume, label, box, score, given))
    return lesions


def _measure_one(
    labels: NDArray[np.uint16],
    volume: Volume,
    label: int,
    box: Box,
    score: float | None,
    given: NDArray[np.float64] | None,
) -> Lesion:
    mask = labels[box] == label
    spacing = volume.pixel_spacing_mm
    index, outline, size = _longest(mask, spacing or (1.0, 1.0))
    offset = np.array([box[1].start, box[2].start], dtype=np.float64)
    if given is None:
        long_ends, short_ends = _shifted(size.long_ends, offset), _shifted(size.short_ends, offset)
    else:
        size = box_diameters(given, spacing or (1.0, 1.0))
        long_ends, short_ends = size.long_ends, size.short_ends
    voxels, area_px = int(mask.sum()), int(mask[index].sum())
    return Lesion(
        label=label,
        box=box,
        voxels=voxels,
        score=score,
        key_slice=box[0].start + index,
        area_px=area_px,
        area_mm2=None if spacing is None else area_px * spacing[0] * spacing[1],
        volume_ml=None if volume.voxel_ml is None else voxels * volume.voxel_ml,
        long_axis_mm=None if spacing is None else size.long,
        short_axis_mm=None if spacing is None else size.short,
        long_axis_px=size.long if spacing is None else None,
        short_axis_px=size.short if spacing is None else None,
        long_ends=long_ends,
        short_ends=short_ends,
        outline=outline + offset,
    )


def box_diameters(box: NDArray[np.float64], spacing: tuple[float, float]) -> Diameters:
    """Sides of a box (low and high corners: slice, row, column) within the slice, through its middle.

    Parameters
    ----------
    spacing : of rows and columns; the sides have its unit, the ends are (row, column)
    """
    # Corners are counted from the outer border of the first pixel, ends from its centre.
    (top, left), (bottom, right) = box[1:3] - 0.5, box[4:6] - 0.5
    row, column = (top + bottom) / 2, (left + right) / 2
    down = ((float(top), float(column)), (float(bottom), float(column)))
    across = ((float(row), float(left)), (float(row), float(right)))
    height, width = float((bottom - top) * spacing[0]), float((right - left) * spacing[1])
    if height > width:
        return Diameters(long=height, short=width, long_ends=down, short_ends=across)
    return Diameters(long=width, short=height, long_ends=across, short_ends=down)


def _longest(mask: Mask, spacing: tuple[float, float]) -> tuple[int, Points, Diameters]:
    """Slice, outline and diameters of the longest diameter of a mask (slices, rows, columns)."""
    found: tuple[int, Points, Diameters] | None = None
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        for outline in outlines(mask[index]):
            if signed_area(outline) <= 0:
                break
            size = diameters(outline, spacing)
            # Only a clearly longer one wins, so that rounding cannot move the key slice.
            if found is None or size.long > found[2].long * (1 + 1e-9):
                found = (index, outline, size)
    assert found is not None, "find_objects gave a box, so the label has voxels"
    return found


def _shifted(ends: tuple[Point, Point], offset: Points) -> tuple[Point, Point]:
    (row, column), (other_row, other_column) = ends
    down, right = float(offset[0]), float(offset[1])
    return (row + down, column + right), (other_row + down, other_column + right)
