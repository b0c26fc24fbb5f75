"""A whitelisted copy of a source's headers, with the quirks of real devices mended, for building results.

Received headers are never handed to the library that writes results: it copies whole modules with their
faults. The copy holds one plain single-frame header per slice of the volume, whatever the source was, so that
enhanced, retired and private classes are built alike; `citation` puts what each slice really is back into the
finished object. What cannot be mended is refused as a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from config.identity import UID_LENGTH_MAX
from pipeline.reading.image_planes import ImagePlane, numbers, planes_of
from pipeline.reading.refusals import Refusal, refuse
from pipeline.reading.source_series import SourceFrame, SourceSeries
from pipeline.results import source_text
from pipeline.results.citation import SliceReference, placeholder
from pipeline.results.discretion import without_quoted_values
from pipeline.results.uids import frame_of_reference_uid

SPACING_FRACTION: Final = 0.01  # above 1 % the volume in mL would be wrong
REPEAT_MM: Final = 0.01
COSINE_DIFFERENCE_MAX: Final = 1e-3
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE: Final = _STORAGE + "7"

# The plain class a slice is built as, by modality: with coordinates, and without.
_CLASS_PLACED: Final = {"CT": _STORAGE + "2", "MR": _STORAGE + "4", "PT": _STORAGE + "128"}
_CLASS_FLAT: Final = {
    "US": _STORAGE + "6.1",
    "IVUS": _STORAGE + "6.1",
    "MG": _STORAGE + "1.2",
    "DX": _STORAGE + "1.1",
    "CR": _STORAGE + "1",
}


@dataclass(frozen=True, eq=False)
class RepairedSource:
    """Headers fit to build results from.

    Parameters
    ----------
    slices : one single-frame header per slice of the volume, in its order, with placeholder instance UIDs
    instances : one header per instance, each once, with its true UID; for image library and evidence
    references : one per slice
    is_placed : whether the slices have coordinates in the patient
    slice_spacing_mm : distance of positions along the normal; None without coordinates
    zone : offset from UTC of the source's times as in +0100; empty when it has none
    notes : what was mended and a reader should know, one sentence each
    """

    slices: tuple[Dataset, ...]
    instances: tuple[Dataset, ...]
    references: tuple[SliceReference, ...]
    is_placed: bool
    slice_spacing_mm: float | None
    zone: str
    laterality: str
    notes: tuple[str, ...]

    @property
    def study_uid(self) -> str:
        """Study Instance UID of the source."""
        return str(self.instances[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID of the source."""
        return str(self.instances[0].SeriesInstanceUID)

    @property
    def built_class(self) -> str:
        """The plain SOP class its slices are built as; `citation` puts the true one back."""
        return str(self.instances[0].SOPClassUID)

    @property
    def modality(self) -> str:
        """Modality of the source."""
        return str(self.instances[0].Modality)


@without_quoted_values()
def repair_source(source: SourceSeries) -> RepairedSource | Refusal:
    """The copy of a source, or why no valid result can cite it.

    Codes: MISSING-UID, UID-INVALID, SAME-UID-TWICE, MIXED-PATIENTS, MIXED-SIZE, MIXED-ORIENTATION,
    MIXED-SPACING, DUPLICATE-SLICES, NO-POSITION, NO-SPACING.
    """
    wrong = _identity(source.frames)
    if wrong is not None:
        return wrong
    notes: list[str] = []
    if any(_has_leading_zero(frame.header) for frame in source.frames):
        notes.append("UIDs of the source have components with leading zeros; they are cited as they are.")
    is_placed = source.volume.affine is not None
    common = _common(source.frames[0].header, is_placed=is_placed, notes=notes)
    geometry = _geometry(source) if is_placed else None
    if isinstance(geometry, Refusal):
        return geometry
    slices, references = [], []
    for index, frame in enumerate(source.frames):
        copy = Dataset()
        copy.update(common)
        copy.SOPInstanceUID = placeholder(index)
        copy.InstanceNumber = index + 1
        if geometry is not None:
            copy.ImagePositionPatient = [_ds(value) for value in geometry.positions[index]]
            copy.ImageOrientationPatient = [_ds(value) for value in geometry.orientation]
            copy.PixelSpacing = [_ds(value) for value in geometry.pixel_spacing_mm]
            copy.SliceThickness = _ds(geometry.thickness_mm)
        slices.append(copy)
        references.append(SliceReference(frame.sop_uid, frame.sop_class, frame.frame_number))
    return RepairedSource(
        slices=tuple(slices),
        instances=tuple(_instances(slices, references)),
        references=tuple(references),
        is_placed=is_placed,
        slice_spacing_mm=geometry.slice_spacing_mm if geometry else None,
        zone=source_text.zone(source.frames[0].header.get("TimezoneOffsetFromUTC")),
        laterality=_laterality(source.frames[0].header),
        notes=tuple(notes),
    )


@without_quoted_values()
def bare_copy(header: Dataset) -> Dataset | Refusal:
    """The copy of one header without its geometry, for a report that only names the image."""
    frame = SourceFrame(str(header.get("SOPInstanceUID") or ""), "", None, header)
    wrong = _identity([frame])
    if wrong is not None:
        return wrong
    copy = _common(header, is_placed=False, notes=[])
    copy.SOPInstanceUID = str(header.SOPInstanceUID)
    return with_value(copy, "Modality", "OT")


def with_value(dataset: Dataset, keyword: str, value: str) -> Dataset:
    """`dataset` with another value; elements are shared, so assigning in place would change both."""
    changed = Dataset()
    changed.update(dataset)
    changed.add_new(keyword, dictionary_VR(keyword), value)
    return changed


@dataclass(frozen=True, eq=False)
class _Geometry:
    positions: NDArray[np.float64]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float
    slice_spacing_mm: float


def _identity(frames: Sequence[SourceFrame]) -> Refusal | None:
    """UIDs that can be cited, one patient, one size."""
    seen: set[tuple[str, int | None]] = set()
    first = frames[0].header
    person = _person(first)
    for frame in frames:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            uid = str(frame.header.get(keyword) or "")
            if not uid:
                return refuse("MISSING-UID", attribute=keyword)
            if len(uid) > UID_LENGTH_MAX or not _UID.fullmatch(uid):
                return refuse("UID-INVALID", attribute=keyword, length=len(uid))
        if (frame.sop_uid, frame.frame_number) in seen:
            return refuse("SAME-UID-TWICE", sop=frame.sop_uid)
        seen.add((frame.sop_uid, frame.frame_number))
        if _person(frame.header) != person:
            return refuse("MIXED-PATIENTS", first=frames[0].sop_uid, second=frame.sop_uid)
        if _size(frame.header) != _size(first):
            return refuse("MIXED-SIZE", groups=2, counts=len(frames))
    return None


def _person(header: Dataset) -> tuple[str, str]:
    return str(header.get("PatientID") or ""), str(header.get("PatientName") or "")


def _size(header: Dataset) -> tuple[object, object]:
    return header.get("Rows"), header.get("Columns")


def _has_leading_zero(header: Dataset) -> bool:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return any(re.search(r"(^|\.)0\d", str(header[keyword].value)) for keyword in keywords)


def _common(header: Dataset, *, is_placed: bool, notes: list[str]) -> Dataset:
    """Everything of the whitelist that all slices share."""
    copy = Dataset()
    copy.SpecificCharacterSet = "ISO_IR 192"
    copy.StudyInstanceUID = str(header.StudyInstanceUID)
    copy.SeriesInstanceUID = str(header.SeriesInstanceUID)
    modality = source_text.text(header.get("Modality"), source_text.SHORT_STRING) or "OT"
    copy.Modality = modality
    if is_placed:
        copy.SOPClassUID = _CLASS_PLACED.get(modality, _CLASS_PLACED["MR"])
    else:
        copy.SOPClassUID = _CLASS_FLAT.get(modality, _SECONDARY_CAPTURE)
    copy.Rows, copy.Columns = header.get("Rows"), header.get("Columns")
    copy.PatientID = source_text.text(header.get("PatientID"))
    copy.PatientName = source_text.person_name(header.get("PatientName"))
    copy.PatientBirthDate = source_text.date(header.get("PatientBirthDate"))
    copy.PatientSex = source_text.sex(header.get("PatientSex"))
    copy.StudyID = source_text.text(header.get("StudyID"), source_text.SHORT_STRING)
    copy.AccessionNumber = source_text.text(header.get("AccessionNumber"), source_text.SHORT_STRING)
    copy.StudyDate = source_text.date(header.get("StudyDate"))
    copy.StudyTime = source_text.time(header.get("StudyTime"))
    copy.ReferringPhysicianName = source_text.person_name(header.get("ReferringPhysicianName"))
    for keyword in (
        "IssuerOfPatientID",
        "StudyDescription",
        "Manufacturer",
        "ManufacturerModelName",
        "InstitutionName",
    ):
        value = source_text.text(header.get(keyword))
        if value:
            setattr(copy, keyword, value)
    age = source_text.age(header.get("PatientAge"))
    if age:
        copy.PatientAge = age
    _copy_lossy(header, copy)
    uid = str(header.get("FrameOfReferenceUID") or "")
    if is_placed and not (_UID.fullmatch(uid) and len(uid) <= UID_LENGTH_MAX):
        uid = frame_of_reference_uid(str(header.SeriesInstanceUID))
        notes.append("The source names no frame of reference; one was derived from its series.")
    if _UID.fullmatch(uid) and len(uid) <= UID_LENGTH_MAX:
        copy.FrameOfReferenceUID = uid
        copy.PositionReferenceIndicator = source_text.text(header.get("PositionReferenceIndicator"))
    return copy


def _copy_lossy(header: Dataset, copy: Dataset) -> None:
    """Whether the source was compressed with loss; ratio and method only when both are sound."""
    if str(header.get("LossyImageCompression") or "") != "01":
        return
    copy.LossyImageCompression = "01"
    methods = header.get("LossyImageCompressionMethod")
    names = [source_text.text(m, 16) for m in ([methods] if isinstance(methods, str) else methods or [])]
    ratios = numbers(header, "LossyImageCompressionRatio", len(names))
    if names and all(names) and ratios:
        copy.LossyImageCompressionMethod = names
        copy.LossyImageCompressionRatio = [_ds(ratio) for ratio in ratios]


def _laterality(header: Dataset) -> str:
    for keyword in ("ImageLaterality", "Laterality", "FrameLaterality"):
        value = source_text.laterality(header.get(keyword))
        if value:
            return value
    return ""


def _geometry(source: SourceSeries) -> _Geometry | Refusal:
    planes = _planes(source)
    unplaced = [plane for plane in planes if not plane.is_placed]
    if unplaced:
        return refuse("NO-POSITION", count=len(unplaced), of=len(planes), first=unplaced[0].sop_uid)
    spacings = [plane.pixel_spacing_mm for plane in planes]
    for plane, spacing in zip(planes, spacings, strict=True):
        if spacing is None:
            return refuse("NO-SPACING", attribute="Pixel Spacing", first=plane.sop_uid)
    thicknesses = [plane.thickness_mm for plane in planes if plane.thickness_mm is not None]
    for name, values in (
        ("Pixel Spacing", [s[0] for s in spacings if s]),
        ("Pixel Spacing", [s[1] for s in spacings if s]),
        ("Slice Thickness", thicknesses),
    ):
        if values and max(values) > min(values) * (1 + SPACING_FRACTION):
            return refuse("MIXED-SPACING", attribute=name, least=min(values), most=max(values))
    cosines = np.array([_cosines(plane) for plane in planes])
    if np.abs(cosines - cosines[0]).max() > COSINE_DIFFERENCE_MAX:
        return refuse("MIXED-ORIENTATION", groups=2, counts=len(planes))
    positions = np.array([plane.position for plane in planes])
    heights = positions @ planes[0].normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    if steps.size and steps.min() < REPEAT_MM:
        first, second = (planes[int(i)] for i in order[int(steps.argmin()) :][:2])
        return refuse("DUPLICATE-SLICES", first=first.sop_uid, second=second.sop_uid)
    thickness = thicknesses[0] if thicknesses else None
    distance = source.volume.slice_spacing_mm or (float(np.median(steps)) if steps.size else thickness)
    if distance is None or spacings[0] is None:
        return refuse("NO-SPACING", attribute="Slice Thickness", first=planes[0].sop_uid)
    return _Geometry(
        positions=positions,
        orientation=tuple(float(value) for value in cosines[0]),
        pixel_spacing_mm=spacings[0],
        thickness_mm=thickness or distance,
        slice_spacing_mm=distance,
    )


def _planes(source: SourceSeries) -> list[ImagePlane]:
    """The plane of each slice of the volume."""
    index_of = {str(header.SOPInstanceUID): index for index, header in enumerate(source.headers)}
    by_frame = {(plane.instance, plane.frame_index): plane for plane in planes_of(source.headers)}
    return [by_frame[index_of[frame.sop_uid], (frame.frame_number or 1) - 1] for frame in source.frames]


def _cosines(plane: ImagePlane) -> list[float]:
    assert plane.row_direction is not None, "only placed planes reach this step"
    assert plane.column_direction is not None, "only placed planes reach this step"
    return [*plane.row_direction.tolist(), *plane.column_direction.tolist()]


def _instances(slices: Sequence[Dataset], references: Sequence[SliceReference]) -> list[Dataset]:
    """One header per instance, in the order of its first slice."""
    found: dict[str, Dataset] = {}
    for copy, reference in zip(slices, references, strict=True):
        if reference.sop_uid in found:
            continue
        found[reference.sop_uid] = with_value(copy, "SOPInstanceUID", reference.sop_uid)
    return list(found.values())


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    return str(format_number_as_ds(float(value)))
