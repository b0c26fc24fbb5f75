"""Results of an earlier revision: which lesion of today was seen before, and how an old report is cited.

A lesion inherits the tracking UID of the earlier lesion it overlaps most, voxel for voxel on the same images;
each earlier lesion passes its UID on once. Masks are read with pydicom and numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.results.findings import Labels
from pipeline.results.source_repair import RepairedSource


@dataclass(frozen=True, eq=False)
class Predecessor:
    """An object of an earlier revision of the same study and model, as the bytes that were stored."""

    kind: Literal["SEG", "SR", "SC", "HEAT"]
    part10: bytes


def earlier_reports(predecessors: Sequence[Predecessor]) -> list[Dataset]:
    """The earlier reports, as far as a new one cites them."""
    keywords = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    return [
        dcmread(BytesIO(one.part10), specific_tags=list(keywords)) for one in predecessors if one.kind == "SR"
    ]


def inherited_tracking(
    predecessors: Sequence[Predecessor], repaired: Sequence[RepairedSource], labels: Sequence[Labels]
) -> Mapping[tuple[int, int], str]:
    """Tracking UIDs of lesions that were found before, by (source, label).

    Parameters
    ----------
    repaired, labels : of today's sources, in the same order
    """
    places = {
        (reference.sop_uid, reference.frame_number): (source, index)
        for source, one in enumerate(repaired)
        for index, reference in enumerate(one.references)
    }
    shared: dict[tuple[str, int, int], int] = {}
    for predecessor in predecessors:
        if predecessor.kind != "SEG":
            continue
        for tracking_uid, image, mask in _frames(dcmread(BytesIO(predecessor.part10))):
            place = places.get(image)
            if place is None or labels[place[0]].shape[1:] != mask.shape:
                continue
            counts = np.bincount(labels[place[0]][place[1]][mask])
            for label in (np.flatnonzero(counts[1:]) + 1).tolist():
                key = (tracking_uid, place[0], label)
                shared[key] = shared.get(key, 0) + int(counts[label])
    inherited: dict[tuple[int, int], str] = {}
    for (tracking_uid, source, label), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if (source, label) not in inherited and tracking_uid not in inherited.values():
            inherited[source, label] = tracking_uid
    return inherited


def _frames(
    segmentation: Dataset,
) -> Iterator[tuple[str, tuple[str, int | None], NDArray[np.bool_]]]:
    """(tracking UID, (source instance, frame), mask) of every frame of one of our SEGs."""
    rows, columns = int(segmentation.Rows), int(segmentation.Columns)
    groups = segmentation.PerFrameFunctionalGroupsSequence
    packed = np.frombuffer(segmentation.PixelData, dtype=np.uint8)
    bits = np.unpackbits(packed, count=len(groups) * rows * columns, bitorder="little")
    tracking = {
        int(item.SegmentNumber): str(item.TrackingUID)
        for item in segmentation.SegmentSequence
        if "TrackingUID" in item  # the segment of a source without a lesion has none
    }
    for group, plane in zip(groups, bits.reshape(-1, rows, columns), strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if number not in tracking:
            continue
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = image.get("ReferencedFrameNumber")
        uid = str(image.ReferencedSOPInstanceUID)
        yield tracking[number], (uid, None if frame is None else int(frame)), plane.astype(bool)
