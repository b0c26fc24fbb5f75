"""PURE. The truth table: what was there, what was found, how well the outlines agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preread.demo.masks import Masks, dice, overlap, union, voxels

COVERED_MIN = 0.1  # a lesion is found when an outline covers a tenth of it (IoU 0.1, models.md 4.1)


@dataclass(frozen=True)
class Truth:
    """What a generated study holds.

    `lesions` are label images by SOP Instance UID: 0 nothing, 1…n the lesion. `refusal` is the code that the
    study must end with, None where it must be analysed.
    """

    name: str
    lesions: Mapping[str, NDArray[np.uint8]]
    class_name: str | None = None
    refusal: str | None = None

    def lesion_masks(self) -> list[Masks]:
        """One mask per lesion."""
        numbers = sorted({int(n) for labels in self.lesions.values() for n in np.unique(labels) if n})
        return [
            {uid: labels == number for uid, labels in self.lesions.items() if (labels == number).any()}
            for number in numbers
        ]


@dataclass(frozen=True)
class Verdict:
    """Truth against what stands in the archive."""

    lesions: int
    found: int
    false: int
    dice: float | None
    is_right: bool
    words: str


def judge(
    truth: Truth,
    segments: Sequence[Masks],
    *,
    outcome: str,
    reason: str | None,
    class_name: str | None,
) -> Verdict:
    """Compare the segments of the results with the truth.

    Parameters
    ----------
    segments : every segment of the study's SEG objects, read back from the archive
    outcome, reason : how the study ended
    class_name : what the classifier said, None without one
    """
    if truth.refusal is not None:
        is_right = outcome == "not_analysed" and reason == truth.refusal
        return Verdict(0, 0, 0, None, is_right, f"{'refused' if is_right else 'NOT refused'}: {reason}")
    lesions = truth.lesion_masks()
    outlined = union(segments)
    there = union(lesions)
    found = sum(overlap(lesion, outlined) >= COVERED_MIN * voxels(lesion) for lesion in lesions)
    false = sum(overlap(segment, there) == 0 for segment in segments)
    is_delivered = outcome == "delivered"
    is_class_right = truth.class_name is None or truth.class_name == class_name
    return Verdict(
        lesions=len(lesions),
        found=found,
        false=false,
        dice=dice(there, outlined) if lesions else None,
        is_right=is_delivered and found == len(lesions) and not false and is_class_right,
        words=_words(len(lesions), found, false) if is_delivered else f"{outcome}: {reason}",
    )


def _words(lesions: int, found: int, false: int) -> str:
    if lesions:
        said = f"found {found} of {lesions}" if found else "missed"
    else:
        said = "nothing there" if false else "nothing there, nothing found"
    return f"{said}, {false} false" if false else said
