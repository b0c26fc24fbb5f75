"""PURE which drawn lesion is which true one, by one fixed rule: what is a find and what a false alarm.

A drawn lesion may hit a true one when its centre of mass lies in it or their IoU reaches 0.1. Drawn lesions
choose in order of falling score, each the true lesion of largest IoU that is still free: one to one, and a
second hit on the same lesion is a false positive. Since the surest choose first, leaving out the least sure
never changes what the others hit, which a FROC curve needs. Drawn lesions without a hit whose centre or half
of whose voxels lie in an ignored region are neutral, and so are true lesions that lie half in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

IOU_MIN = 0.1
CONNECTED = 3  # every neighbour, corners included, belongs to the same lesion

Labels = NDArray[Any]  # (slices, rows, columns), 0 background, 1 .. n one lesion each


@dataclass(frozen=True)
class Hit:
    """A drawn lesion and the true one it found, by their numbers."""

    found: int
    truth: int
    iou: float


@dataclass(frozen=True)
class Matching:
    """Every drawn and every true lesion stands in exactly one place, by its number."""

    hits: tuple[Hit, ...]
    false: tuple[int, ...]  # drawn, with nothing there, or a second time
    missed: tuple[int, ...]  # true and not found
    neutral_found: tuple[int, ...]
    neutral_truth: tuple[int, ...]


def numbered(mask: NDArray[np.bool_]) -> Labels:
    """Connected lesions of a mask, numbered in scan order."""
    labels, _ = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, CONNECTED))
    return np.asarray(labels)


def match_lesions(
    found: Labels,
    truth: Labels,
    scores: Sequence[float],
    *,
    ignored: NDArray[np.bool_] | None = None,
    iou_min: float = IOU_MIN,
    by_centre: bool = True,
) -> Matching:
    """Match drawn with true lesions.

    Parameters
    ----------
    scores : of drawn lesion 1 .. n; of equals the lower number chooses first
    ignored : where nobody knows; None when everything is known
    by_centre : whether a centre inside is enough; average precision asks for IoU alone
    """
    overlap = overlap_table(found, truth, len(scores))
    sizes = overlap.sum(1, keepdims=True), overlap.sum(0, keepdims=True)
    inside = overlap[1:, 1:]
    ious = inside / np.maximum(1, sizes[0][1:] + sizes[1][:, 1:] - inside)
    may_hit = ious >= iou_min
    centres = centres_of(found, len(scores))
    if by_centre:
        for row, centre in enumerate(centres):
            if (number := int(truth[centre])) > 0:
                may_hit[row, number - 1] = True
    neutral_truth: set[int] = (
        set() if ignored is None else neutral_numbers(truth, ignored, truth_count(overlap))
    )
    hits: list[Hit] = []
    false: list[int] = []
    neutral: list[int] = []
    free = np.array([number + 1 not in neutral_truth for number in range(truth_count(overlap))], bool)
    may_be_neutral: set[int] = set() if ignored is None else neutral_numbers(found, ignored, len(scores))
    for row in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        choice = np.flatnonzero(may_hit[row] & free)
        if len(choice):
            column = int(choice[np.argmax(ious[row, choice])])
            free[column] = False
            hits.append(Hit(row + 1, column + 1, float(ious[row, column])))
        elif row + 1 in may_be_neutral or touches_neutral(may_hit[row], neutral_truth):
            neutral.append(row + 1)
        else:
            false.append(row + 1)
    missed = tuple(int(column) + 1 for column in np.flatnonzero(free))
    return Matching(tuple(hits), tuple(false), missed, tuple(neutral), tuple(sorted(neutral_truth)))


def overlap_table(found: Labels, truth: Labels, found_count: int) -> NDArray[np.int64]:
    """(drawn + 1, true + 1) voxels that carry both numbers, background first.

    Raises
    ------
    ValueError
        The arrays have different shapes, or `found` does not hold as many lesions as there are scores.
    """
    if found.shape != truth.shape:
        raise ValueError(f"lesions of {found.shape} and {truth.shape} cannot be compared")
    if int(found.max(initial=0)) != found_count:
        raise ValueError(f"{int(found.max())} lesions are drawn, {found_count} have a score")
    truths = int(truth.max(initial=0))
    pairs = found.astype(np.int64) * (truths + 1) + truth
    counts = np.bincount(pairs.ravel(), minlength=(found_count + 1) * (truths + 1))
    return counts.reshape(found_count + 1, truths + 1)


def truth_count(overlap: NDArray[np.int64]) -> int:
    """True lesions of an overlap table."""
    return int(overlap.shape[1]) - 1


def centres_of(labels: Labels, count: int) -> list[tuple[int, ...]]:
    """Voxel nearest to the centre of mass of lesion 1 .. count; it may lie outside a bent lesion."""
    if count == 0:
        return []
    places = np.nonzero(labels)
    numbers = labels[places].astype(np.int64)
    voxels = np.bincount(numbers, minlength=count + 1)[1:]
    sums = [np.bincount(numbers, weights=axis, minlength=count + 1)[1:] for axis in places]
    return [tuple(int(part) for part in centre) for centre in np.floor(np.array(sums) / voxels + 0.5).T]


def neutral_numbers(labels: Labels, ignored: NDArray[np.bool_], count: int) -> set[int]:
    """Lesions whose centre, or at least half of whose voxels, are ignored."""
    inside = np.bincount(labels[ignored].ravel(), minlength=count + 1)[1:]
    voxels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    half = {number + 1 for number in range(count) if 2 * inside[number] >= voxels[number]}
    return half | {number + 1 for number, centre in enumerate(centres_of(labels, count)) if ignored[centre]}


def touches_neutral(may_hit: NDArray[np.bool_], neutral: set[int]) -> bool:
    """Whether one of the lesions that may be hit is neutral."""
    return any(may_hit[number - 1] for number in neutral)


def diameters(labels: Labels, voxel_size: float) -> NDArray[np.float64]:
    """Of lesion 1 .. n: diameter of the ball (one slice: the disc) with as many voxels.

    Parameters
    ----------
    voxel_size : volume of a voxel (one slice: area of a pixel); its root's unit is the answer's
    """
    sizes = np.bincount(labels.ravel())[1:] * voxel_size
    if labels.shape[0] == 1:
        return np.asarray(2 * np.sqrt(sizes / np.pi))
    return np.asarray(np.cbrt(6 * sizes / np.pi))
