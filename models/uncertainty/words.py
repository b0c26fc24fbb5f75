"""PURE what a reader is told of how sure an outline is; nothing where it was not shown to be of use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.postprocess import Labels
from models.uncertainty.block import Uncertainty


def predicted_dice(block: Uncertainty, agreement: float) -> float:
    """Dice with a reader that outlines of this agreement had."""
    return float(np.interp(agreement, block.dice.said, block.dice.so))


def sentences(
    block: Uncertainty | None,
    agreement: float | None,
    labels: Labels | NDArray[np.int64],
    voxel_ml: float | None,
) -> list[str]:
    """At most one sentence on the outlines of a volume.

    Parameters
    ----------
    labels : (slices, rows, columns), as drawn; without a lesion nothing is said
    voxel_ml : None where the size of a voxel is not known: then factors are told instead of mL
    """
    voxels = int((labels > 0).sum())
    if block is None or agreement is None or not voxels or not block.usefulness.is_shown:
        return []
    dice, factor = predicted_dice(block, agreement), block.size_factor
    if voxel_ml is None:
        size = f"{1 / factor:.2f} to {factor:.2f} times the size drawn"
    else:
        drawn = voxels * voxel_ml
        size = f"{drawn / factor:.3g} to {drawn * factor:.3g} mL"
    return [
        f"Expected overlap of the outline with a reader's: Dice {dice:.2f}; the true size is {size} in nine "
        "of ten cases like those it was tested on."
    ]
