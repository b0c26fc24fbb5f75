"""PURE distances between outlines: normalised surface Dice (NSD) and the 95th percentile of Hausdorff (HD95).

Implementations differ; ours is: the border of a mask is its voxels with at least one of the 4 (one slice) or
6 face neighbours outside it, and beyond the array is outside. Distances are Euclidean between voxel centres,
to the nearest border voxel of the other mask. Each border voxel counts once, whatever its surface area.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.evaluation.overlap import as_masks

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


def border(mask: Mask) -> Mask:
    """Voxels of the mask that touch its outside by a face. An axis of length 1 has no outside."""
    flat = mask.reshape([length for length in mask.shape if length > 1] or [1])
    return np.asarray(flat & ~ndimage.binary_erosion(flat)).reshape(mask.shape)


def border_distances(
    found: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float]
) -> tuple[Distances, Distances] | None:
    """Of each border voxel to the other border: (found to truth, truth to found), in the unit of `spacing`.

    None when either mask is empty: there is no distance to nothing.

    Parameters
    ----------
    found, truth : (slices, rows, columns)
    spacing : between voxel centres along each axis, e.g. mm; 1 for pixels
    """
    found, truth = as_masks(found, truth)
    if not found.any() or not truth.any():
        return None
    # Both borders lie in the box around both masks, so nothing outside it matters.
    box = tuple(slice(indices.min(), indices.max() + 1) for indices in np.nonzero(found | truth))
    edges = border(found)[box], border(truth)[box]
    to_truth = np.asarray(ndimage.distance_transform_edt(~edges[1], sampling=spacing))
    to_found = np.asarray(ndimage.distance_transform_edt(~edges[0], sampling=spacing))
    return to_truth[edges[0]], to_found[edges[1]]


def nsd(found: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float], tolerance: float) -> float | None:
    """Share of both borders that lies within `tolerance` of the other; None when the truth is empty.

    0 when there is a truth and nothing was drawn. Tolerance in the unit of `spacing`.
    """
    if not truth.any():
        return None
    distances = border_distances(found, truth, spacing)
    if distances is None:
        return 0.0
    # A shift of exactly the tolerance is within it, whatever rounding makes of a sum of squares.
    within = [np.count_nonzero(part <= tolerance * (1 + 1e-9) + 1e-12) for part in distances]
    return float(sum(within) / sum(len(part) for part in distances))


def hd95(found: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float]) -> float | None:
    """The larger of the two directed 95th percentiles of border distances, in the unit of `spacing`.

    None when either mask is empty: such cases are counted as missed or false, never given a distance.
    """
    distances = border_distances(found, truth, spacing)
    if distances is None:
        return None
    return float(max(np.percentile(part, 95) for part in distances))
