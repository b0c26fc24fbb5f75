"""References of a finished object: placeholders and sibling classes give way to what the source really is.

Results are built from plain single-frame headers (see `source_repair`), one per slice, whose instance UIDs
are placeholders of this process. Before an object leaves, every reference is put right here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

_PLACEHOLDER_ROOT: Final = "2.25.99999"


@dataclass(frozen=True)
class SliceReference:
    """What one slice of the volume is in the archive; `frame_number` is None for a single-frame instance."""

    sop_uid: str
    sop_class: str
    frame_number: int | None


def placeholder(index: int) -> str:
    """The instance UID that stands for slice `index` while an object is built."""
    return f"{_PLACEHOLDER_ROOT}.{index + 1}"


def cite_slices(finished: Dataset, references: Sequence[SliceReference]) -> None:
    """Replace placeholders by the true instance, class and frame wherever `finished` refers to a slice.

    A list of instances keeps an instance once, where it named one for each of its frames.

    Raises
    ------
    KeyError
        A placeholder that stands for no slice: a mistake of ours.
    """
    known = {placeholder(index): reference for index, reference in enumerate(references)}
    if "SourceImageSequence" in finished:
        finished.SourceImageSequence = _instances(finished.SourceImageSequence, known)
    _cite(finished, known)


def _cite(dataset: Dataset, known: Mapping[str, SliceReference]) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        if element.keyword == "ReferencedInstanceSequence":
            element.value = _instances(element.value, known)
            continue
        for item in element.value:
            true = _true(item, known)
            if true is not None:
                item.ReferencedSOPInstanceUID = true.sop_uid
                item.ReferencedSOPClassUID = true.sop_class
                if true.frame_number is not None:
                    item.ReferencedFrameNumber = true.frame_number
            _cite(item, known)


def _instances(items: Sequence[Dataset], known: Mapping[str, SliceReference]) -> list[Dataset]:
    kept: dict[str, Dataset] = {}
    # Copies: the library uses one item in several places, and those inside a frame name the frame too.
    for item in copy.deepcopy(list(items)):
        true = _true(item, known)
        if true is not None:
            item.ReferencedSOPInstanceUID = true.sop_uid
            item.ReferencedSOPClassUID = true.sop_class
        kept.setdefault(str(item.ReferencedSOPInstanceUID), item)
    return list(kept.values())


def _true(item: Dataset, known: Mapping[str, SliceReference]) -> SliceReference | None:
    uid = str(item.get("ReferencedSOPInstanceUID", ""))
    return known[uid] if uid.startswith(_PLACEHOLDER_ROOT) else None


def cite_classes(finished: Dataset, references: Sequence[SliceReference]) -> None:
    """Put the true SOP class into every reference of `finished` to an instance of the source."""
    _cite_classes(finished, {one.sop_uid: one.sop_class for one in references})


def _cite_classes(dataset: Dataset, classes: Mapping[str, str]) -> None:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                uid = str(item.get("ReferencedSOPInstanceUID", ""))
                if uid in classes:
                    item.ReferencedSOPClassUID = classes[uid]
                _cite_classes(item, classes)
