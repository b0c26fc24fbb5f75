"""PURE: boxes on a network's grid as boxes on the source, where each step to the grid is undone.

A box is (low corner, high corner) in the order of the axes, in voxels; voxel i covers i to i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.grid import Cropped, Resampled, Turned
from models.inference.windows import Sizes

Boxes = NDArray[np.float64]  # (n, 6)


def boxes_to_source(boxes: Boxes, done: Sequence[Turned | Cropped | Resampled], shape: Sizes) -> Boxes:
    """Boxes on the source (slices, rows, columns).

    Parameters
    ----------
    done : to the volume, in order
    shape : of the grid
    """
    low, high = boxes[:, :3].copy(), boxes[:, 3:].copy()
    sizes = np.array(shape, np.float64)
    for one in reversed(done):
        match one:
            case Turned():
                for axis in one.reversed_axes:
                    low[:, axis], high[:, axis] = sizes[axis] - high[:, axis], sizes[axis] - low[:, axis]
                # Axis i of the grid was axis axes[i] of the source.
                order = np.argsort(one.axes)
                low, high, sizes = low[:, order], high[:, order], sizes[order]
            case Cropped():
                start = np.array([part.start for part in one.box], np.float64)
                low, high, sizes = low + start, high + start, np.array(one.shape, np.float64)
            case Resampled():
                # The outer borders of the first and the last voxel stay where they are.
                before = np.array(one.shape, np.float64)
                low, high, sizes = low * before / sizes, high * before / sizes, before
    return np.concatenate([low, high], 1)
