"""PURE overlap of masks, with its traps named: an empty truth is neither a perfect nor a failed outline."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def dice(found: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """2 |found and truth| / (|found| + |truth|) over all voxels; None when the truth is empty.

    A case without truth says nothing about outlines: it is counted where false alarms are counted.
    """
    found, truth = found.astype(bool), truth.astype(bool)
    if found.shape != truth.shape:
        raise ValueError(f"masks of {found.shape} and {truth.shape} cannot be compared")
    if not truth.any():
        return None
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def mean_of_known(values: list[float | None]) -> float:
    """Mean of the values that are not None.

    Raises
    ------
    ValueError
        All are None.
    """
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError("no case has a truth to compare with")
    return float(np.mean(known))


def drawn_share(found: list[NDArray[Any]]) -> float:
    """Share of masks that are not empty."""
    return float(np.mean([bool(mask.any()) for mask in found]))
