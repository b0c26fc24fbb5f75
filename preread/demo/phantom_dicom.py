"""DICOM studies made of phantoms, with known truth: for the demo, and for every test that needs a source.

Deterministic: the same arguments make the same bytes, UIDs included. Each odd source that tests want is a
keyword; without it the study is one that a careful modality sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from scipy import ndimage

from preread.demo.phantom_headers import (
    SOP_CLASSES,
    Photometric,
    PlaneGeometry,
    SeriesHeader,
    StudyHeader,
    common_header,
    encode,
    plane_geometry,
    put_ct,
    put_mr,
    put_pixels,
    put_plane,
    put_us,
)
from preread.demo.phantom_multiframe import enhanced_mr
from preread.demo.phantom_study import (
    BRAIN_MODEL,
    BREAST_MODEL,
    Expected,
    GeneratedStudy,
    PhantomPatient,
    part10,
    seeded_uid,
)
from preread.demo.phantoms import BreastKind, breast_ultrasound, ct_body, flair_head
from preread.demo.phantoms.head_contrast import T1, T1_POST, Scanner, render_head

__all__ = [
    "Expected",
    "GeneratedStudy",
    "PhantomPatient",
    "brain_study",
    "breast_study",
    "ct_study",
    "demo_studies",
    "part10",
]

BRAIN_SERIES = ("AX T1", "AX FLAIR", "AX T1 POST")

CLEAR_DIAMETER_MM = (26.0, 38.0)
CLEAR_CONTRAST = 1.75
"""The demo's lesions are those that nobody would miss: it shows the node, not the limits of the model."""

SIGNED_OFFSET = -300
"""Added to signed values, as registration software does: half of the air lies below zero."""


def brain_study(
    seed: int,
    *,
    lesions: int = 2,
    series: Sequence[str] = BRAIN_SERIES,
    slices: int = 24,
    rows: int = 256,
    columns: int = 256,
    pixel_spacing_mm: float = 0.94,
    slice_spacing_mm: float = 5.0,
    thickness_mm: float | None = None,
    lesion_diameter_mm: tuple[float, float] = (20.0, 40.0),
    lesion_contrast: float | None = None,
    noise: float | None = None,
    tilt_degrees: float = 0.0,
    turn_degrees: float = 0.0,
    drop_slice: int | None = None,
    duplicate_slice: int | None = None,
    shuffle_instance_numbers: bool = False,
    enhanced: bool = False,
    with_frame_of_reference: bool = True,
    with_pixel_spacing: bool = True,
    with_position: bool = True,
    bits: Literal[12, 16] = 12,
    signed: bool = False,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    transfer_syntax: UID = ExplicitVRLittleEndian,
    body_part: str | None = "BRAIN",
    description: str = "MRI BRAIN W WO CONTRAST",
    patient: PhantomPatient | None = None,
) -> GeneratedStudy:
    """A brain MR; truth lies on the series whose name holds FLAIR.

    Parameters
    ----------
    series : descriptions; FLAIR, POST and anything else (T1) in them choose the contrast
    slices, slice_spacing_mm : along the normal; the head is fitted to the stack
    thickness_mm : the slice spacing if None
    tilt_degrees : oblique about the left-right axis; `turn_degrees` about the head-foot axis
    drop_slice : index from below of the FLAIR slice that is missing, with its instance number
    duplicate_slice : index of the FLAIR slice that is there twice, under another SOP Instance UID
    shuffle_instance_numbers : InstanceNumber says nothing about position
    enhanced : Enhanced MR, one multi-frame instance for each series
    signed : pixels are signed and air is partly negative
    """
    rng = np.random.default_rng([seed, 1])
    head = flair_head(
        rng,
        slices=slices,
        rows=rows,
        columns=columns,
        pixel_spacing_mm=pixel_spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
        lesions=lesions,
        lesion_diameter_mm=lesion_diameter_mm,
        lesion_contrast=lesion_contrast,
        noise=noise,
    )
    plane = plane_geometry(
        rows=rows,
        columns=columns,
        slices=slices,
        pixel_spacing_mm=pixel_spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
        thickness_mm=slice_spacing_mm if thickness_mm is None else thickness_mm,
        tilt_degrees=tilt_degrees,
        turn_degrees=turn_degrees,
    )
    who = patient or PhantomPatient(f"PHANTOM^BRAIN {seed:02d}", f"PHANTOM-BR-{seed:04d}")
    study = StudyHeader(seed, "brain", who, description, body_part)
    datasets: list[Dataset] = []
    labels: dict[str, NDArray[np.uint8]] = {}
    annotated: str | None = None
    for number, name in enumerate(series, start=1):
        header = SeriesHeader(study, f"{number} {name}", number, "MR", name)
        kind = "FLAIR" if "FLAIR" in name else "T1 POST" if "POST" in name else "T1"
        volume = head.array
        if kind != "FLAIR":
            # A generator of its own for each series: its pixels do not depend on which others are made.
            volume = render_head(
                np.random.default_rng([seed, 2, number]),
                head.anatomy.tissue,
                head.anatomy.lesion,
                head.anatomy.lesion_core,
                contrast=T1_POST if kind == "T1 POST" else T1,
                scanner=Scanner(white_matter_units=420.0, noise=0.03, bias=0.06),
            )
        stored = _stored_mr(volume, bits=bits, signed=signed, photometric=photometric)
        layout = _StackLayout(
            sequence=kind,
            bits=bits,
            photometric=photometric,
            transfer_syntax=transfer_syntax,
            drop_slice=drop_slice if kind == "FLAIR" else None,
            duplicate_slice=duplicate_slice if kind == "FLAIR" else None,
            shuffle_instance_numbers=shuffle_instance_numbers,
        )
        made: list[tuple[Dataset, int | None]] = []
        if enhanced:
            one = enhanced_mr(header, plane, stored, sequence=kind, bits_stored=bits, photometric=photometric)
            encode(one, transfer_syntax)
            made.append((one, None))
        else:
            made.extend(_mr_slices(header, plane, stored, layout))
        for dataset, _ in made:
            _take_away(
                dataset,
                frame_of_reference=not with_frame_of_reference,
                pixel_spacing=not with_pixel_spacing,
                position=not with_position,
            )
        datasets += [dataset for dataset, _ in made]
        if kind == "FLAIR":
            annotated = header.series_uid
            for dataset, k in made:
                labels[dataset.SOPInstanceUID] = head.lesion_labels if k is None else head.lesion_labels[k]
    reason: str | None = None
    if annotated is None:
        reason = "NO-MODEL"
    elif not with_position:
        reason = "NO-POSITION"
    elif not with_pixel_spacing:
        reason = "NO-SPACING"
    elif duplicate_slice is not None:
        reason = "DUPLICATE-SLICES"
    elif drop_slice is not None and 0 < drop_slice < slices - 1:
        reason = "MISSING-SLICE"
    expected = Expected(
        outcome="not_analysed" if reason else "delivered",
        model=None if reason == "NO-MODEL" else BRAIN_MODEL,
        reason=reason,
        lesions=int(head.lesion_labels.max()),
    )
    told = f"brain MR, {expected.lesions or 'no'} lesion{'s' * (expected.lesions != 1)}"
    told += ", a slice missing" if reason == "MISSING-SLICE" else ""
    return _study(study, told, datasets, labels, expected, annotated)


def breast_study(
    seed: int,
    *,
    kind: BreastKind = "benign",
    rows: int = 470,
    columns: int = 560,
    frames: int | None = None,
    calibrated: bool = True,
    pixel_spacing_mm: float = 0.1,
    lesion_width_fraction: tuple[float, float] = (0.18, 0.36),
    lesion_db: float | None = None,
    photometric: Photometric = "MONOCHROME2",
    transfer_syntax: UID = ExplicitVRLittleEndian,
    laterality: Literal["L", "R"] = "L",
    body_part: str | None = "BREAST",
    description: str = "US BREAST",
    patient: PhantomPatient | None = None,
) -> GeneratedStudy:
    """One breast ultrasound picture, or a multi-frame one whose frames slide past each other.

    Parameters
    ----------
    frames : a US Multi-frame instance of that many frames
    calibrated : an ultrasound region tells millimetres; without it nothing does
    """
    rng = np.random.default_rng([seed, 3])
    image = breast_ultrasound(
        rng,
        kind=kind,
        rows=rows,
        columns=columns,
        lesion_width_fraction=lesion_width_fraction,
        lesion_db=lesion_db,
    )
    who = patient or PhantomPatient(f"PHANTOM^BREAST {seed:02d}", f"PHANTOM-US-{seed:04d}", sex="F")
    study = StudyHeader(seed, f"breast {kind}", who, description, body_part)
    header = SeriesHeader(study, "1", 1, "US", "Breast")
    pixels: NDArray[np.uint8] = image.array
    mask = image.mask
    if frames is not None:
        # The probe slides sideways by 3 pixels a frame: the truth moves with the picture.
        steps = [3 * (f - frames // 2) for f in range(frames)]
        pixels = np.stack([ndimage.shift(image.array, (0, step), order=0, mode="nearest") for step in steps])
        mask = np.stack(
            [ndimage.shift(image.mask.astype(np.uint8), (0, step), order=0) > 0 for step in steps]
        )
    if photometric == "MONOCHROME1":
        pixels = np.asarray(255 - pixels, dtype=np.uint8)
    elif photometric == "RGB":
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    sop_class = SOP_CLASSES["US" if frames is None else "US frames"]
    dataset = common_header(
        header,
        sop_class=sop_class,
        sop_uid=seeded_uid(seed, study.kind, "image"),
        transfer_syntax=ExplicitVRLittleEndian,
    )
    put_pixels(dataset, pixels, bits_stored=8, photometric=photometric, frames=frames)
    put_us(
        dataset,
        laterality=laterality,
        pixel_spacing_mm=pixel_spacing_mm if calibrated else None,
        frames=frames,
    )
    encode(dataset, transfer_syntax)
    labels = {str(dataset.SOPInstanceUID): mask.astype(np.uint8)}
    expected = Expected("delivered", BREAST_MODEL, lesions=int(mask.any()), class_name=kind)
    return _study(study, f"breast ultrasound, {kind}", [dataset], labels, expected, header.series_uid)


def ct_study(
    seed: int,
    *,
    slices: int = 12,
    rows: int = 256,
    columns: int = 256,
    pixel_spacing_mm: float = 1.6,
    slice_spacing_mm: float = 5.0,
    gantry_tilt_degrees: float = 0.0,
    signed: bool = False,
    transfer_syntax: UID = ExplicitVRLittleEndian,
    body_part: str | None = "ABDOMEN",
    description: str = "CT ABDOMEN",
    patient: PhantomPatient | None = None,
) -> GeneratedStudy:
    """A CT of the trunk, which no shipped model wants.

    Parameters
    ----------
    gantry_tilt_degrees : slices tilted, but following each other along the table
    signed : Hounsfield units stored as they are; else 1024 higher, with the intercept that says so
    """
    body = ct_body(
        np.random.default_rng([seed, 4]),
        slices=slices,
        rows=rows,
        columns=columns,
        pixel_spacing_mm=pixel_spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
    )
    plane = plane_geometry(
        rows=rows,
        columns=columns,
        slices=slices,
        pixel_spacing_mm=pixel_spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
        thickness_mm=slice_spacing_mm,
        tilt_degrees=0.0,
        turn_degrees=0.0,
        gantry_tilt_degrees=gantry_tilt_degrees,
    )
    who = patient or PhantomPatient(f"PHANTOM^BODY {seed:02d}", f"PHANTOM-CT-{seed:04d}")
    study = StudyHeader(seed, "ct", who, description, body_part)
    header = SeriesHeader(study, "1", 1, "CT", "AXIAL 5 MM")
    datasets = []
    for k in range(slices):
        dataset = common_header(
            header,
            sop_class=SOP_CLASSES["CT"],
            sop_uid=seeded_uid(seed, "ct", "image", k),
            transfer_syntax=ExplicitVRLittleEndian,
        )
        put_plane(dataset, plane, k, instance_number=k + 1)
        stored = body.array[k] if signed else (body.array[k].astype(np.int32) + 1024).astype(np.uint16)
        put_pixels(dataset, stored, bits_stored=16 if signed else 12)
        put_ct(dataset, gantry_tilt_degrees=gantry_tilt_degrees, intercept=0 if signed else -1024)
        encode(dataset, transfer_syntax)
        datasets.append(dataset)
    expected = Expected("not_analysed", None, reason="NO-MODEL")
    return _study(study, "CT of the trunk", datasets, {}, expected, None)


def demo_studies(seed: int = 1) -> list[GeneratedStudy]:
    """The demo's studies: some to be found, some to stay quiet, two to be refused with a reason."""
    return [
        brain_study(seed, lesions=2, lesion_diameter_mm=CLEAR_DIAMETER_MM, lesion_contrast=CLEAR_CONTRAST),
        brain_study(seed + 1, lesions=0),
        breast_study(seed + 2, kind="benign"),
        breast_study(seed + 3, kind="malignant"),
        breast_study(seed + 4, kind="normal"),
        ct_study(seed + 5),
        brain_study(
            seed + 6,
            lesions=1,
            series=("AX FLAIR",),
            drop_slice=11,
            lesion_diameter_mm=CLEAR_DIAMETER_MM,
            lesion_contrast=CLEAR_CONTRAST,
        ),
    ]


@dataclass(frozen=True)
class _StackLayout:
    """How the slices of one MR series become instances."""

    sequence: str
    bits: int
    photometric: Photometric
    transfer_syntax: UID
    drop_slice: int | None
    duplicate_slice: int | None
    shuffle_instance_numbers: bool


def _mr_slices(
    header: SeriesHeader, plane: PlaneGeometry, stored: NDArray[np.generic], layout: _StackLayout
) -> list[tuple[Dataset, int]]:
    """One instance for each slice, and the slice it shows."""
    indices = [k for k in range(plane.slices) if k != layout.drop_slice]
    numbers = {k: k + 1 for k in range(plane.slices)}
    if layout.shuffle_instance_numbers:
        order = np.random.default_rng([header.study.seed, 5, header.number]).permutation(plane.slices)
        numbers = {k: int(order[k]) + 1 for k in range(plane.slices)}
    wanted = [(k, numbers[k], "") for k in indices]
    if layout.duplicate_slice is not None:
        wanted.append((layout.duplicate_slice, plane.slices + 1, "again"))
    made = []
    for k, number, again in wanted:
        dataset = common_header(
            header,
            sop_class=SOP_CLASSES["MR"],
            sop_uid=seeded_uid(header.study.seed, "brain", "image", header.key, k, again),
            transfer_syntax=ExplicitVRLittleEndian,
        )
        put_plane(dataset, plane, k, instance_number=number)
        put_mr(dataset, layout.sequence, slice_spacing_mm=float(np.linalg.norm(plane.step_mm)))
        put_pixels(dataset, stored[k], bits_stored=layout.bits, photometric=layout.photometric)
        high = float(np.percentile(stored[plane.slices // 2], 99.5))
        if layout.photometric == "MONOCHROME2" and high > 2:
            dataset.WindowCenter, dataset.WindowWidth = str(int(high // 2)), str(int(high))
        encode(dataset, layout.transfer_syntax)
        made.append((dataset, k))
    return made


def _stored_mr(
    volume: NDArray[np.float32], *, bits: int, signed: bool, photometric: Photometric
) -> NDArray[np.generic]:
    """Scanner units as stored values."""
    # 16 bits are used in full width, as scanners that scale to the brightest voxel do.
    scaled = np.round(volume * (8.0 if bits == 16 else 1.0))
    if signed:
        high = 2 ** (bits - 1) - 1
        values = np.clip(scaled + SIGNED_OFFSET, -high - 1, high)
        values = -1 - values if photometric == "MONOCHROME1" else values
        return np.asarray(values, dtype=np.int16)
    top = 2**bits - 1
    values = np.clip(scaled, 0, top)
    values = top - values if photometric == "MONOCHROME1" else values
    return np.asarray(values, dtype=np.uint16)


def _take_away(dataset: Dataset, *, frame_of_reference: bool, pixel_spacing: bool, position: bool) -> None:
    """Remove what careless sources leave out, in the functional groups of a multi-frame instance too."""
    absent = ["FrameOfReferenceUID", "PositionReferenceIndicator"] if frame_of_reference else []
    absent += ["PixelSpacing", "PixelMeasuresSequence"] if pixel_spacing else []
    if position:
        absent += ["ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"]
        absent += ["PlanePositionSequence", "PlaneOrientationSequence"]
    groups = [dataset, *dataset.get("SharedFunctionalGroupsSequence", [])]
    groups += list(dataset.get("PerFrameFunctionalGroupsSequence", []))
    for group in groups:
        for keyword in absent:
            if keyword in group:
                del group[keyword]


def _study(
    header: StudyHeader,
    description: str,
    datasets: list[Dataset],
    labels: dict[str, NDArray[np.uint8]],
    expected: Expected,
    annotated_series_uid: str | None,
) -> GeneratedStudy:
    kind: Literal["brain", "breast", "ct"] = "ct"
    if header.kind == "brain":
        kind = "brain"
    elif header.kind.startswith("breast"):
        kind = "breast"
    truth = {uid: np.asarray(label > 0, dtype=np.bool_) for uid, label in labels.items()}
    return GeneratedStudy(
        header.study_uid, kind, description, datasets, truth, labels, expected, annotated_series_uid
    )
