"""PURE overlap of masks, with its traps named: an empty truth is neither a perfect nor a failed outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# compared: there is a truth. false_alarm: something was drawn where nothing is. both_empty: neither.
OutlineKind = Literal["compared", "false_alarm", "both_empty"]


def dice(found: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """2 |found and truth| / (|found| + |truth|) over all voxels; None when the truth is empty.

    A case without truth says nothing about outlines: it is counted where false alarms are counted.
    """
    found, truth = as_masks(found, truth)
    if not truth.any():
        return None
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def iou(found: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """|found and truth| / |found or truth| over all voxels; None when the truth is empty."""
    found, truth = as_masks(found, truth)
    if not truth.any():
        return None
    return float((found & truth).sum() / (found | truth).sum())


def as_masks(found: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both as booleans.

    Raises
    ------
    ValueError
        They have different shapes.
    """
    if found.shape != truth.shape:
        raise ValueError(f"masks of {found.shape} and {truth.shape} cannot be compared")
    return found.astype(bool), truth.astype(bool)


def outline_kind(found: NDArray[Any], truth: NDArray[Any]) -> OutlineKind:
    """In which row a case is counted."""
    if truth.any():
        return "compared"
    return "false_alarm" if found.any() else "both_empty"


@dataclass(frozen=True)
class OutlineCounts:
    """How many cases there were of each kind; only those that were compared are in a mean Dice."""

    compared: int
    false_alarms: int
    both_empty: int
    false_alarm_voxels: int  # drawn in cases without truth


def count_outlines(kinds: Sequence[OutlineKind], drawn_voxels: Sequence[int]) -> OutlineCounts:
    """Counts over cases; `drawn_voxels` of each case."""
    voxels = sum(drawn for kind, drawn in zip(kinds, drawn_voxels, strict=True) if kind == "false_alarm")
    return OutlineCounts(
        kinds.count("compared"), kinds.count("false_alarm"), kinds.count("both_empty"), voxels
    )


def mean_of_known(values: Sequence[float | None]) -> float:
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
