"""PURE: headers of a series in, one stack of planes with its geometry out, or the coded reason why not.

Slices are ordered by their position along the normal of the image plane, never by file name or Instance
Number. Images of another orientation or size (a localizer inside the series) are set aside; images that
repeat a position are split by acquisition, phase, echo or b-value; what remains must be an even stack.
Nothing is interpolated or guessed: a doubtful stack is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.reading.image_planes import REPEAT_KEYS, ImagePlane, calibrated_spacing, planes_of
from pipeline.reading.pixels import frames_of
from pipeline.reading.refusals import Refusal, refuse

REPEAT_MM: Final = 0.01  # positions closer than this are one position
ORIENTATION_DEGREES: Final = 0.5  # at 250 mm from the centre of rotation, half a slice of 4 mm
SPACING_FRACTION: Final = 0.01  # results.md section 5: above 1 % the volume in mL would be wrong
UID_LENGTH_MAX: Final = 64


@dataclass(frozen=True)
class StackRules:
    """What a model asks of a stack.

    Parameters
    ----------
    slices_min, slices_max : inclusive
    tilt_degrees_max : gantry tilt accepted, with the affine made from the true positions
    gap_factor : a distance above this many medians is a missing slice
    uneven_fraction_max : most deviation of a distance from the median
    axis, axis_degrees_max : the normal must lie within this angle of the axis (LPS), either way; None: any
    """

    slices_min: int = 1
    slices_max: int = 5000
    tilt_degrees_max: float = 1.0
    gap_factor: float = 1.5
    uneven_fraction_max: float = 0.1
    axis: tuple[float, float, float] | None = None
    axis_degrees_max: float = 90.0


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes in slice order with the geometry of the volume they make.

    Parameters
    ----------
    planes : one per slice, rising along the normal
    affine : (4, 4), (column, row, slice, 1) to LPS mm; None for an image without coordinates
    pixel_spacing_mm : (between rows, between columns); None when uncalibrated
    slice_spacing_mm : between positions along the normal; thickness for a single slice; None when unknown
    notes : what was set aside or found, one sentence each
    """

    planes: tuple[ImagePlane, ...]
    affine: NDArray[np.float64] | None
    pixel_spacing_mm: tuple[float, float] | None
    slice_spacing_mm: float | None
    notes: tuple[str, ...] = ()


def assemble(headers: Sequence[Dataset], rules: StackRules) -> Stack | Refusal:
    """The one stack that the images of a series make.

    Parameters
    ----------
    headers : of all instances of one series, in any order
    rules : what the model asks

    Returns
    -------
    the stack, the same for any order of `headers`, or the refusal

    Source: PS3.3 C.7.6.2.1.1 (position is the centre of the first voxel, not its corner)
    """
    wrong = _identity(headers)
    if wrong is not None:
        return wrong
    planes = sorted(planes_of(headers), key=lambda plane: (plane.sop_uid, plane.frame_index))
    chosen = _main_group(planes, rules)
    if isinstance(chosen, Refusal):
        return chosen
    group, notes = chosen
    single = _without_repeats(group)
    if isinstance(single, Refusal):
        return single
    stack_planes, repeat_notes = single
    slices = len(stack_planes)
    if slices < rules.slices_min:
        return refuse("TOO-FEW-SLICES", what="The stack", slices=slices, least=rules.slices_min)
    if slices > rules.slices_max:
        return refuse("TOO-MANY-SLICES", what="The stack", slices=slices, most=rules.slices_max)
    return _with_geometry(stack_planes, rules, (*notes, *repeat_notes))


def single_images(headers: Sequence[Dataset]) -> list[Stack | Refusal]:
    """Each instance as a stack of its own, in the order given: for images without a frame of reference."""
    return [_single_image(header, index) for index, header in enumerate(headers)]


def slices_of(headers: Sequence[Dataset]) -> int:
    """Frames of all instances together."""
    return sum(frames_of(header) for header in headers)


def _single_image(header: Dataset, index: int) -> Stack | Refusal:
    wrong = _identity([header])
    if wrong is not None:
        return wrong
    frames = frames_of(header)
    if frames > 1:
        return refuse("MULTI-FRAME", what=f"The image {header.SOPInstanceUID}", frames=frames)
    (plane,) = planes_of([header])
    spacing, note = calibrated_spacing(header)
    placed = ImagePlane(**{**vars(plane), "instance": index})
    return Stack((placed,), None, spacing, None, (note,) if note else ())


def _identity(headers: Sequence[Dataset]) -> Refusal | None:
    """UIDs that results would have to cite, and one patient."""
    seen: set[str] = set()
    people: dict[tuple[str, str], str] = {}
    for header in headers:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            uid = str(header.get(keyword) or "")
            if not uid:
                return refuse("MISSING-UID", attribute=keyword)
            if len(uid) > UID_LENGTH_MAX or not uid.replace(".", "").isdigit() or not uid.isascii():
                return refuse("UID-INVALID", attribute=keyword, length=len(uid))
        sop = str(header.SOPInstanceUID)
        if sop in seen:
            return refuse("SAME-UID-TWICE", sop=sop)
        seen.add(sop)
        person = (str(header.get("PatientID") or ""), str(header.get("PatientName") or ""))
        people[person] = min(sop, people.get(person, sop))
    if len(people) > 1:
        first, second = sorted(people.values())[:2]
        return refuse("MIXED-PATIENTS", first=first, second=second)
    return None


def _main_group(
    planes: Sequence[ImagePlane], rules: StackRules
) -> tuple[list[ImagePlane], tuple[str, ...]] | Refusal:
    """The images of one orientation and size that are the series, and notes about the others."""
    placed = [plane for plane in planes if plane.is_placed]
    if not placed:
        first = planes[0].sop_uid if planes else "none"
        return refuse("NO-POSITION", count=len(planes), of=len(planes), first=first)
    groups = _grouped(placed)
    wanted = [group for group in groups if _along_axis(group[0], rules)] or groups
    # Sorted by size, then by the first UID, so that the order of arrival never decides.
    wanted.sort(key=lambda group: (-len(group), group[0].sop_uid, group[0].frame_index))
    main = wanted[0]
    if len(wanted) > 1 and len(wanted[1]) * 2 >= len(main):
        counts = ", ".join(str(len(group)) for group in wanted)
        turned = any(
            degrees_between(main[0].normal, group[0].normal) > ORIENTATION_DEGREES for group in wanted[1:]
        )
        return refuse("MIXED-ORIENTATION" if turned else "MIXED-SIZE", groups=len(wanted), counts=counts)
    unplaced = [plane for plane in planes if not plane.is_placed]
    if len(unplaced) * 2 >= len(main):
        return refuse("NO-POSITION", count=len(unplaced), of=len(planes), first=unplaced[0].sop_uid)
    aside = len(placed) - len(main)
    notes = []
    if aside:
        notes.append(f"{aside} image(s) of another orientation or size in the series were set aside.")
    if unplaced:
        notes.append(f"{len(unplaced)} image(s) without position in the series were set aside.")
    return main, tuple(notes)


def _grouped(planes: Sequence[ImagePlane]) -> list[list[ImagePlane]]:
    """Planes of equal size whose axes are parallel within the tolerance."""
    groups: list[list[ImagePlane]] = []
    for plane in planes:
        for group in groups:
            if (plane.rows, plane.columns) == (group[0].rows, group[0].columns) and _parallel(
                plane, group[0]
            ):
                group.append(plane)
                break
        else:
            groups.append([plane])
    return groups


def _parallel(one: ImagePlane, other: ImagePlane) -> bool:
    pairs = (
        (one.row_direction, other.row_direction),
        (one.column_direction, other.column_direction),
    )
    return all(
        a is not None and b is not None and degrees_between(a, b) <= ORIENTATION_DEGREES for a, b in pairs
    )


def _along_axis(plane: ImagePlane, rules: StackRules) -> bool:
    if rules.axis is None:
        return True
    angle = degrees_between(plane.normal, np.array(rules.axis))
    return min(angle, 180.0 - angle) <= rules.axis_degrees_max


def degrees_between(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Degrees between two vectors, exact for small angles too."""
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), float(one @ other)))


def _heights(planes: Sequence[ImagePlane], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([plane.position @ normal for plane in planes if plane.position is not None])


def _without_repeats(
    group: Sequence[ImagePlane],
) -> tuple[list[ImagePlane], tuple[str, ...]] | Refusal:
    """The group in slice order, with one image per position."""
    normal = group[0].normal
    ordered = _ordered(group, normal)
    twins = _first_twins(ordered, normal)
    if twins is None:
        return ordered, ()
    positions = _positions(ordered, normal)
    indices = range(len(REPEAT_KEYS))
    for keys in (*((i,) for i in indices), *combinations(indices, 2)):
        parts: dict[tuple[str, ...], list[ImagePlane]] = {}
        for plane in ordered:
            parts.setdefault(tuple(plane.repeat_keys[i] for i in keys), []).append(plane)
        if len(parts) == 1 or any(_first_twins(part, normal) for part in parts.values()):
            continue
        value, largest = min(parts.items(), key=lambda item: (-len(item[1]), item[0]))
        if len(largest) * 2 <= positions:
            continue
        name = " and ".join(REPEAT_KEYS[i][0] for i in keys)
        shown = ", ".join(_shown(v) for v in value)
        note = f"The series holds {len(parts)} stacks told apart by {name}; the one with {shown} was read."
        return largest, (note,)
    return refuse("DUPLICATE-SLICES", first=twins[0].sop_uid, second=twins[1].sop_uid)


def _shown(value: str) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        return value or "none"


def _ordered(planes: Sequence[ImagePlane], normal: NDArray[np.float64]) -> list[ImagePlane]:
    heights = _heights(planes, normal)
    order = sorted(range(len(planes)), key=lambda i: (heights[i], planes[i].sop_uid, planes[i].frame_index))
    return [planes[i] for i in order]


def _first_twins(
    ordered: Sequence[ImagePlane], normal: NDArray[np.float64]
) -> tuple[ImagePlane, ImagePlane] | None:
    heights = _heights(ordered, normal)
    close = np.flatnonzero(np.diff(heights) < REPEAT_MM)
    return (ordered[close[0]], ordered[close[0] + 1]) if close.size else None


def _positions(ordered: Sequence[ImagePlane], normal: NDArray[np.float64]) -> int:
    return 1 + int(np.count_nonzero(np.diff(_heights(ordered, normal)) >= REPEAT_MM))


def _with_geometry(
    planes: Sequence[ImagePlane], rules: StackRules, notes: tuple[str, ...]
) -> Stack | Refusal:
    spacing = _one_spacing(planes)
    if isinstance(spacing, Refusal):
        return spacing
    first = planes[0]
    if first.position is None or first.row_direction is None or first.column_direction is None:
        raise AssertionError("only placed planes reach this step")
    normal = first.normal
    if len(planes) == 1:
        step = normal * (first.thickness_mm or 1.0)
        slice_spacing = first.thickness_mm
    else:
        uneven = _unevenness(planes, normal, rules)
        if uneven is not None:
            return uneven
        positions = np.array([plane.position for plane in planes])
        step = (positions[-1] - positions[0]) / (len(planes) - 1)
        slice_spacing = float(step @ normal)
        crooked = _crookedness(planes, positions, step, spacing)
        if crooked is not None:
            return crooked
        tilt = degrees_between(step, normal)
        if tilt > rules.tilt_degrees_max:
            return refuse("GANTRY-TILT", degrees=tilt)
        if tilt > ORIENTATION_DEGREES:
            notes = (
                *notes,
                f"The stack is tilted by {tilt:.1f} degrees; its geometry follows the true positions.",
            )
    affine = np.eye(4)
    affine[:3, 0] = first.row_direction * spacing[1]
    affine[:3, 1] = first.column_direction * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return Stack(tuple(planes), affine, spacing, slice_spacing, notes)


def _one_spacing(planes: Sequence[ImagePlane]) -> tuple[float, float] | Refusal:
    """The pixel spacing of all slices, or why there is none."""
    spacings: list[tuple[float, float]] = []
    for plane in planes:
        if plane.pixel_spacing_mm is None:
            return refuse("NO-SPACING", attribute="Pixel Spacing", first=plane.sop_uid)
        spacings.append(plane.pixel_spacing_mm)
    thicknesses = [plane.thickness_mm for plane in planes if plane.thickness_mm is not None]
    for name, values in (
        ("Pixel Spacing", [s[0] for s in spacings]),
        ("Pixel Spacing", [s[1] for s in spacings]),
        ("Slice Thickness", thicknesses),
    ):
        if values and max(values) > min(values) * (1 + SPACING_FRACTION):
            return refuse("MIXED-SPACING", attribute=name, least=min(values), most=max(values))
    return spacings[0]


def _unevenness(
    planes: Sequence[ImagePlane], normal: NDArray[np.float64], rules: StackRules
) -> Refusal | None:
    """Whether a slice is missing (gaps where the rest is even), or the distances vary as such."""
    distances = np.diff(_heights(planes, normal))
    usual = float(np.median(distances))
    off = np.abs(distances - usual) > max(rules.uneven_fraction_max * usual, REPEAT_MM)
    if not off.any():
        return None
    at = int(np.argmax(off))
    gaps = distances > rules.gap_factor * usual
    # Where few distances are odd and each of them is long, images are missing; otherwise the spacing varies.
    if np.array_equal(gaps, off) and gaps.sum() * 2 < len(distances):
        missing = int(np.maximum(1, np.rint(distances[gaps] / usual) - 1).sum())
        return refuse(
            "MISSING-SLICE",
            before=planes[at].sop_uid,
            after=planes[at + 1].sop_uid,
            gap_mm=distances[at],
            usual_mm=usual,
            missing=missing,
            gaps=int(gaps.sum()),
        )
    return refuse(
        "UNEVEN-SPACING",
        least_mm=distances.min(),
        most_mm=distances.max(),
        before=planes[at].sop_uid,
        after=planes[at + 1].sop_uid,
    )


def _crookedness(
    planes: Sequence[ImagePlane],
    positions: NDArray[np.float64],
    step: NDArray[np.float64],
    spacing: tuple[float, float],
) -> Refusal | None:
    """A slice shifted sideways by more than half a pixel from the line through first and last."""
    line = positions[0] + np.arange(len(planes))[:, None] * step
    along = step / np.linalg.norm(step)
    aside = positions - line
    aside -= (aside @ along)[:, None] * along
    distances = np.linalg.norm(aside, axis=1)
    worst = int(np.argmax(distances))
    if distances[worst] <= max(0.5 * min(spacing), REPEAT_MM):
        return None
    return refuse("UNEVEN-POSITIONS", slice=planes[worst].sop_uid, off_mm=distances[worst])
