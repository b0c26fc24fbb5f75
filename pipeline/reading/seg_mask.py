"""The labels of a SEG on the grid of the images it outlines.

A frame belongs to the image it was derived from, by SOP Instance UID and frame number, else to the slice it
lies on. Where both are known they must agree; nothing is resampled or guessed.
Source: PS3.3 C.8.20 (segmentation); C.7.6.16.2.3 (plane position of a frame)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.reading.pixels import functional_groups
from pipeline.reading.source_series import SourceSeries

POSITION_MM: Final = 0.1  # by which a frame may lie beside its slice


class SegFault(Exception):
    """Why a SEG is no truth for these images."""


def labels_of(seg: Dataset, source: SourceSeries, names: Sequence[str]) -> NDArray[np.uint8]:
    """(slices, rows, columns) on the grid of the images, 0 where no wanted segment is.

    A segment has the number of its label in `names`, from 1; without names every segment is 1. Where two
    overlap, the later frame stays.
    """
    slices, rows, columns = source.volume.shape
    if (int(seg.Rows), int(seg.Columns)) != (rows, columns):
        raise SegFault(
            f"the SEG has {seg.Rows} x {seg.Columns} pixels, the images {rows} x {columns}; "
            "resample the SEG onto the images"
        )
    wanted = _wanted(seg, names)
    frames = np.asarray(seg.pixel_array).reshape(-1, rows, columns)
    is_label_map = str(seg.get("SegmentationType")) == "LABELMAP"
    half = float(seg.get("MaximumFractionalValue") or 1) / 2
    by_image = {(frame.sop_uid, frame.frame_number or 1): k for k, frame in enumerate(source.frames)}
    labels = np.zeros((slices, rows, columns), np.uint8)
    for index, pixels in enumerate(frames):
        if is_label_map:
            drawn = {number: pixels == number for number in wanted}
        else:
            is_share = str(seg.get("SegmentationType")) == "FRACTIONAL"
            drawn = {_segment_number(seg, index): pixels > half if is_share else pixels > 0}
        place = _slice_of(seg, index, source, by_image) if drawn.keys() & wanted.keys() else None
        if place is None:
            continue
        for number in drawn.keys() & wanted.keys():
            labels[place][drawn[number]] = wanted[number]
    return labels


def _wanted(seg: Dataset, names: Sequence[str]) -> dict[int, int]:
    """By the number of each wanted segment, what its voxels become."""
    segments = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in seg.SegmentSequence}
    if not names:
        return dict.fromkeys(segments, 1)
    wanted = {number: names.index(label) + 1 for number, label in segments.items() if label in names}
    if not wanted:
        raise SegFault(f"its SEG has the segments {', '.join(segments.values())}, none of {', '.join(names)}")
    return wanted


def _segment_number(seg: Dataset, index: int) -> int:
    for groups in functional_groups(seg, index):
        for item in groups.get("SegmentIdentificationSequence") or ():
            return int(item.ReferencedSegmentNumber)
    raise SegFault(f"frame {index + 1} of the SEG names no segment")


def _slice_of(
    seg: Dataset, index: int, source: SourceSeries, by_image: Mapping[tuple[str, int], int]
) -> int | None:
    """The slice a frame lies on; None: it belongs to another image of the series (single images).

    Raises
    ------
    SegFault
        The frame lies on no slice, or beside the image it names.
    """
    named = [by_image[source_image] for source_image in sources_of(seg, index) if source_image in by_image]
    by_position = _slice_at_position(seg, index, source)
    if named:
        if by_position is not None and by_position not in named:
            raise SegFault(f"frame {index + 1} of the SEG does not lie on the image it names")
        return named[0] if by_position is None else by_position
    if by_position is not None:
        return by_position
    if sources_of(seg, index) and len(source.frames) == 1:
        return None
    raise SegFault(f"frame {index + 1} of the SEG lies on no slice of the series")


def _slice_at_position(seg: Dataset, index: int, source: SourceSeries) -> int | None:
    """The slice whose first voxel lies where the frame's does, axes alike; None where nothing says so."""
    affine = source.volume.affine
    position = orientation = None
    for groups in functional_groups(seg, index):
        for item in groups.get("PlanePositionSequence") or ():
            position = item.get("ImagePositionPatient")
        for item in groups.get("PlaneOrientationSequence") or ():
            orientation = item.get("ImageOrientationPatient")
    if affine is None or not position:
        return None
    corner = np.linalg.solve(affine, np.array([*map(float, position), 1.0]))
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    off = np.abs((corner[:3] - np.array([0, 0, round(float(corner[2]))])) * steps)
    k = round(float(corner[2]))
    if orientation:
        axes = np.array([*map(float, orientation)]).reshape(2, 3)
        turned = [float(axes[axis] @ affine[:3, axis]) / float(steps[axis]) for axis in (0, 1)]
        if min(turned) < 0.999:
            raise SegFault(f"frame {index + 1} of the SEG is turned against the images")
    if off.max() > POSITION_MM or not 0 <= k < source.volume.shape[0]:
        return None
    return k


def sources_of(seg: Dataset, index: int) -> list[tuple[str, int]]:
    """SOP Instance UID and frame number (1 for single frames) of the images a frame was derived from."""
    return [
        (str(source.ReferencedSOPInstanceUID), int(_first(source.get("ReferencedFrameNumber")) or 1))
        for groups in functional_groups(seg, index)
        for derivation in groups.get("DerivationImageSequence") or ()
        for source in derivation.get("SourceImageSequence") or ()
    ]


def referred_images(seg: Dataset) -> set[str]:
    """SOP Instance UIDs of all images a SEG refers to, also of those it draws nothing on."""
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in seg.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    }
    return listed | {uid for index in range(int(seg.NumberOfFrames)) for uid, _ in sources_of(seg, index)}


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, Sequence) and not isinstance(value, str) and len(value) else value
