"""Masks read back from SEG objects, with pydicom and numpy alone: no code that wrote them is trusted."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

BoolArray = NDArray[np.bool_]
Masks = Mapping[str, BoolArray]  # by SOP Instance UID of the source image, (rows, columns)


def segments_of(segs: Iterable[Path]) -> list[dict[str, BoolArray]]:
    """Every outlined segment of BINARY SEG objects, each by the source image its frames refer to.

    Images without a frame, or with an empty one, do not appear: nothing was outlined on them.

    Raises
    ------
    ValueError
        A SEG is not BINARY, or a frame does not name one source image and one segment.
    """
    found: list[dict[str, BoolArray]] = []
    for path in segs:
        seg = dcmread(path)
        segments: dict[int, dict[str, BoolArray]] = {}
        groups = seg.PerFrameFunctionalGroupsSequence
        for group, frame in zip(groups, _frames(seg, path), strict=True):
            if frame.any():
                segments.setdefault(_segment(seg, group), {})[_source_uid(group, path)] = frame
        found += segments.values()
    return found


def union(segments: Iterable[Masks]) -> dict[str, BoolArray]:
    """All segments as one mask for each image."""
    masks: dict[str, BoolArray] = {}
    for segment in segments:
        for uid, mask in segment.items():
            masks[uid] = masks[uid] | mask if uid in masks else mask
    return masks


def dice(truth: Masks, found: Masks) -> float | None:
    """Dice of all images together; None when both are empty (there is nothing to measure)."""
    total = voxels(truth) + voxels(found)
    return 2 * overlap(truth, found) / total if total else None


def overlap(one: Masks, other: Masks) -> int:
    """Voxels that both have."""
    return sum(int(np.count_nonzero(one[uid] & other[uid])) for uid in one.keys() & other.keys())


def voxels(masks: Masks) -> int:
    """Voxels of all images together."""
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def _frames(seg: Dataset, path: Path) -> BoolArray:
    """(frames, rows, columns); one bit for each pixel, least significant first (PS3.5 8.1.1)."""
    if seg.SegmentationType != "BINARY" or seg.BitsAllocated != 1:
        raise ValueError(f"{path.name} is not a BINARY segmentation")
    shape = (int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns))
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little", count=int(np.prod(shape)))
    return bits.reshape(shape).astype(np.bool_)


def _segment(seg: Dataset, group: Dataset) -> int:
    """Segment number of a frame; it may stand in the shared groups when there is one segment."""
    for place in (group, seg.SharedFunctionalGroupsSequence[0]):
        if "SegmentIdentificationSequence" in place:
            return int(place.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    raise ValueError("a frame names no segment")


def _source_uid(group: Dataset, path: Path) -> str:
    sources = {
        str(source.ReferencedSOPInstanceUID)
        for derivation in group.get("DerivationImageSequence", [])
        for source in derivation.get("SourceImageSequence", [])
    }
    if len(sources) != 1:
        raise ValueError(f"a frame of {path.name} refers to {len(sources)} source images, not to one")
    return sources.pop()
