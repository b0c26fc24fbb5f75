"""Where each image lies: position, orientation, spacing and what tells repeats apart, one entry per frame.

Classic instances say it at the top level, enhanced ones in functional groups; from here on both are the same.
Source: PS3.3 C.7.6.2 (image plane), C.7.6.16 (multi-frame functional groups), C.8.5.5 (ultrasound regions)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pipeline.reading.pixels import frames_of, functional_groups

UNIT_TOLERANCE: Final = 1e-2  # direction cosines are written with as few as 3 decimals
_REGION_CENTIMETRES: Final = 3
_REGION_IN_PLANE: Final = 1

# Attributes that tell images at one position apart, the most meaningful first, each with the functional group
# it has in enhanced instances.
REPEAT_KEYS: Final[tuple[tuple[str, tuple[tuple[str | None, str], ...]], ...]] = (
    ("acquisition", ((None, "AcquisitionNumber"), ("FrameContentSequence", "FrameAcquisitionNumber"))),
    (
        "temporal position",
        ((None, "TemporalPositionIdentifier"), ("FrameContentSequence", "TemporalPositionIndex")),
    ),
    ("echo time", ((None, "EchoTime"), ("MREchoSequence", "EffectiveEchoTime"))),
    ("echo number", ((None, "EchoNumbers"),)),
    ("b-value", ((None, "DiffusionBValue"), ("MRDiffusionSequence", "DiffusionBValue"))),
    ("inversion time", ((None, "InversionTime"),)),
    ("image type", ((None, "ImageType"), ("MRImageFrameTypeSequence", "FrameType"))),
    (
        "trigger time",
        ((None, "TriggerTime"), ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")),
    ),
    ("stack", (("FrameContentSequence", "StackID"),)),
    ("acquisition time", ((None, "AcquisitionTime"), ("FrameContentSequence", "FrameAcquisitionDateTime"))),
    ("content time", ((None, "ContentTime"),)),
)


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """One frame and where it lies.

    Parameters
    ----------
    instance : index into the headers it was read from
    frame_index : 0-based within the instance
    is_multi_frame : whether the instance can hold several frames, so that results must cite the frame number
    position : (3,) centre of the first voxel, LPS, mm; None when absent
    row_direction, column_direction : (3,) orthonormal, towards rising column index and rising row index; None
        when absent or not perpendicular
    pixel_spacing_mm : (between rows, between columns); None when absent or not positive
    repeat_keys : values of `REPEAT_KEYS`, as text that sorts in their order; "" when absent
    """

    instance: int
    frame_index: int
    is_multi_frame: bool
    sop_uid: str
    rows: int
    columns: int
    position: NDArray[np.float64] | None
    row_direction: NDArray[np.float64] | None
    column_direction: NDArray[np.float64] | None
    pixel_spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    repeat_keys: tuple[str, ...]

    @property
    def is_placed(self) -> bool:
        """Whether position and orientation are known."""
        return self.position is not None and self.row_direction is not None

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) row direction x column direction; only of a placed plane."""
        if self.row_direction is None or self.column_direction is None:
            raise ValueError("the plane has no orientation")
        return np.cross(self.row_direction, self.column_direction)


def planes_of(headers: Sequence[Dataset]) -> list[ImagePlane]:
    """One plane per frame of every instance, in the order of the headers."""
    return [
        _plane(header, instance, frame_index)
        for instance, header in enumerate(headers)
        for frame_index in range(frames_of(header))
    ]


def calibrated_spacing(header: Dataset) -> tuple[tuple[float, float] | None, str | None]:
    """((mm between rows, mm between columns), note) of a projection or ultrasound image; None when unknown.

    An ultrasound region in centimetres goes before Pixel Spacing, since it is what the device measures with;
    it counts only when one region, or several of one scale, cover most of the image. Imager Pixel Spacing is
    the distance at the detector, divided by the magnification where that is known (PS3.3 10.7.1.3).
    """
    region = _region_spacing(header)
    if region is not None:
        return region, None
    spacing = numbers(header, "PixelSpacing", 2)
    if spacing and min(spacing) > 0:
        return (spacing[0], spacing[1]), None
    imager = numbers(header, "ImagerPixelSpacing", 2)
    if imager and min(imager) > 0:
        magnification = numbers(header, "EstimatedRadiographicMagnificationFactor", 1)
        if magnification and magnification[0] > 0:
            return (imager[0] / magnification[0], imager[1] / magnification[0]), None
        return (
            imager[0],
            imager[1],
        ), "Distances are measured at the detector; the magnification is not known."
    return None, None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers of an attribute; None when it is absent or has others."""
    value = dataset.get(keyword)
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    if len(values) != count or any(v is None or v == "" for v in values):
        return None
    try:
        found = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        return None
    return found if all(math.isfinite(v) for v in found) else None


def _plane(header: Dataset, instance: int, frame_index: int) -> ImagePlane:
    groups = functional_groups(header, frame_index)
    position = _of_frame(header, groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _of_frame(header, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _of_frame(header, groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    thickness = _of_frame(header, groups, "PixelMeasuresSequence", "SliceThickness", 1)
    row, column = _directions(orientation)
    return ImagePlane(
        instance=instance,
        frame_index=frame_index,
        is_multi_frame="NumberOfFrames" in header and (frames_of(header) > 1 or bool(groups)),
        sop_uid=str(header.get("SOPInstanceUID", "")),
        rows=_whole(header, "Rows"),
        columns=_whole(header, "Columns"),
        position=None if position is None else np.array(position),
        row_direction=row,
        column_direction=column,
        pixel_spacing_mm=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness_mm=thickness[0] if thickness and thickness[0] > 0 else None,
        repeat_keys=tuple(_key(header, groups, paths) for _, paths in REPEAT_KEYS),
    )


def _whole(header: Dataset, keyword: str) -> int:
    value = header.get(keyword)
    return value if isinstance(value, int) else 0


def _of_frame(
    header: Dataset, groups: Sequence[Dataset], sequence: str, keyword: str, count: int
) -> tuple[float, ...] | None:
    for group in groups:
        items = group.get(sequence)
        if items:
            found = numbers(items[0], keyword, count)
            if found is not None:
                return found
    return numbers(header, keyword, count)


def _directions(
    orientation: tuple[float, ...] | None,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Orthonormal directions of Image Orientation (Patient); (None, None) when they are not directions."""
    if orientation is None:
        return None, None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if any(abs(length - 1) > UNIT_TOLERANCE for length in lengths) or abs(row @ column) > UNIT_TOLERANCE:
        return None, None
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _key(header: Dataset, groups: Sequence[Dataset], paths: Sequence[tuple[str | None, str]]) -> str:
    for sequence, keyword in paths:
        places = [header] if sequence is None else [g[sequence][0] for g in groups if g.get(sequence)]
        for place in places:
            value: Any = place.get(keyword)
            if value is not None and value != "":
                return _sortable(value)
    return ""


def _sortable(value: Any) -> str:
    """Text that sorts as the value does: numbers padded, several values joined."""
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(str(v) for v in value)
    try:
        return f"{float(value):020.6f}"
    except (TypeError, ValueError):
        return str(value)


def _region_spacing(header: Dataset) -> tuple[float, float] | None:
    regions = header.get("SequenceOfUltrasoundRegions") or ()
    area = 0
    scales: set[tuple[float, float]] = set()
    for region in regions:
        if region.get("RegionSpatialFormat") != _REGION_IN_PLANE:
            continue
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        delta = numbers(region, "PhysicalDeltaX", 1), numbers(region, "PhysicalDeltaY", 1)
        if units != (_REGION_CENTIMETRES, _REGION_CENTIMETRES) or delta[0] is None or delta[1] is None:
            continue
        x, y = abs(delta[0][0]) * 10, abs(delta[1][0]) * 10
        if x <= 0 or y <= 0:
            continue
        scales.add((round(y, 6), round(x, 6)))
        corners = [region.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if all(isinstance(c, int) for c in corners):
            area += max(0, corners[2] - corners[0]) * max(0, corners[3] - corners[1])
    whole = _whole(header, "Rows") * _whole(header, "Columns")
    if len(scales) != 1 or area * 2 < whole:
        return None
    return scales.pop()
