"""Findings of one source to a DICOM segmentation: BINARY, on the source's grid, one segment per lesion or
structure. A structure that was not outlined has no segment: viewers stop at a segment without frames.

Without a finding: one segment that is empty on every slice: "looked for everywhere, found nowhere".

The object is built from the repaired headers by highdicom and then finished: segment identification per
frame, the distance of slices as we measured it, an empty Patient Orientation where there are no coordinates,
true references, derived UIDs. Frames inside do not stand in slice order; map them by their references.
Source: PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation Image)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from config.identity import PRODUCT
from pipeline.results.authorship import CREATOR, Authorship, coded
from pipeline.results.citation import cite_slices, placeholder
from pipeline.results.codes import ARTIFICIAL_INTELLIGENCE, BILATERAL, LEFT, RIGHT
from pipeline.results.findings import Labels, ModelIdentity, SegmentPlan, TrackedLesion
from pipeline.results.source_repair import RepairedSource

SEG_CLASS: Final = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAX: Final = 64
_EXTENT: Final = " (approximate extent)"
_CONTENT_LABEL: Final = "AI_LESIONS"
_CONTENT_LABEL_OF_STRUCTURES: Final = "AI_STRUCTURES"
_SIDES: Final = {"L": LEFT, "R": RIGHT, "B": BILATERAL}


def build_seg(
    repaired: RepairedSource,
    labels: Labels,
    lesions: Sequence[TrackedLesion],
    authorship: Authorship,
    *,
    part: str = "",
) -> Dataset:
    """The segmentation of one source.

    Parameters
    ----------
    repaired : the copy of the source's headers
    labels : (slices, rows, columns), in the order of `repaired.slices`; values 1..n, one per finding
    lesions : the n lesions or structures, by label; none gives the empty segment
    part : tells this SEG from others of the same set: the source image, for 2D images

    Raises
    ------
    ValueError
        Lesions that are not those of the labels.
    """
    if [tracked.lesion.label for tracked in lesions] != list(range(1, int(labels.max()) + 1)):
        raise ValueError(f"{len(lesions)} lesions for labels up to {int(labels.max())}")
    one_frame = not repaired.is_placed and len(repaired.slices) > 1
    described = [_description(tracked, authorship.model) for tracked in lesions]
    segmentation: Dataset = highdicom.seg.Segmentation(
        source_images=[repaired.slices[0]] if one_frame else list(repaired.slices),
        pixel_array=_all_segments_in_one_frame(labels, len(lesions)) if one_frame else labels,
        segmentation_type="BINARY",
        segment_descriptions=described or [_empty_description(authorship.model)],
        content_label=_CONTENT_LABEL_OF_STRUCTURES
        if authorship.model.outlines_structures
        else _CONTENT_LABEL,
        content_description=f"{authorship.model.title}, not verified by a physician"[:_LABEL_MAX],
        content_creator_name=CREATOR,
        omit_empty_frames=bool(lesions),
        **authorship.arguments("SEG", part),
    )
    _identify_segment_per_frame(segmentation)
    for tracked, item in zip(lesions, segmentation.SegmentSequence, strict=False):
        _modify_region(item, authorship.model.plan_of(tracked.number))
    if one_frame:
        _spread_over_frames(segmentation, labels)
        _name_all_slices(segmentation, len(repaired.slices))
    if repaired.is_placed:
        measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        if repaired.slice_spacing_mm is not None:
            measures.SpacingBetweenSlices = str(format_number_as_ds(repaired.slice_spacing_mm))
    else:
        segmentation.PatientOrientation = None
    cite_slices(segmentation, repaired.references)
    authorship.finish(segmentation)
    return segmentation


def frames_of_segment(segmentation: Dataset, number: int) -> list[tuple[int, str, int | None]]:
    """(frame of the SEG, 1-based; source instance; source frame or None) of every frame of a segment."""
    found = []
    for index, group in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            frame = source.get("ReferencedFrameNumber")
            found.append((index, str(source.ReferencedSOPInstanceUID), None if frame is None else int(frame)))
    return found


def _description(tracked: TrackedLesion, model: ModelIdentity) -> highdicom.seg.SegmentDescription:
    plan = model.plan_of(tracked.number)
    label = plan.label if model.outlines_structures else f"{plan.label} {tracked.number}"
    if model.outlines_extents:
        # Cut from the left part: what a viewer shows must not look like a boundary.
        label = f"{label[: _LABEL_MAX - len(_EXTENT)]}{_EXTENT}"
    return highdicom.seg.SegmentDescription(
        segment_number=tracked.lesion.label,
        segment_label=label[:_LABEL_MAX],
        tracking_id=tracked.tracking_id,
        tracking_uid=tracked.tracking_uid,
        display_color=highdicom.color.CIELabColor(*model.colour_of(tracked.number)),
        **_what_and_by_whom(model, plan),
    )


def _empty_description(model: ModelIdentity) -> highdicom.seg.SegmentDescription:
    """The segment of a source without a finding: nothing is tracked."""
    nothing = "No structure outlined" if model.outlines_structures else f"{model.segment.label}: none"
    return highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=nothing[:_LABEL_MAX],
        display_color=highdicom.color.CIELabColor(*model.segment.colour),
        **_what_and_by_whom(model, model.segment),
    )


def _modify_region(item: Dataset, plan: SegmentPlan) -> None:
    """Which part of the region and which side, where the package says it (PS3.3 C.8.20.2, 10.5)."""
    modifiers = [code for code in (plan.modifier, _SIDES.get(plan.side or "")) if code is not None]
    if not modifiers:
        return
    codes = [highdicom.sr.CodedConcept.from_code(coded(code)) for code in modifiers]
    item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = codes
    if "AnatomicRegionSequence" in item:
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = copy.deepcopy(codes)


def _what_and_by_whom(model: ModelIdentity, plan: SegmentPlan) -> dict[str, Any]:
    return {
        "segmented_property_category": coded(plan.category),
        "segmented_property_type": coded(plan.kind),
        "algorithm_type": "AUTOMATIC",
        "algorithm_identification": highdicom.AlgorithmIdentificationSequence(
            name=model.id,
            family=coded(ARTIFICIAL_INTELLIGENCE),
            version=model.version,
            source=PRODUCT,
            parameters=dict(model.parameters),
        ),
        "anatomic_regions": [coded(plan.region)] if plan.region else None,
    }


def _identify_segment_per_frame(segmentation: Dataset) -> None:
    """Older viewers look for the segment number in each frame; of a single segment it is shared."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        group.SegmentIdentificationSequence = copy.deepcopy(shared.SegmentIdentificationSequence)
    del shared.SegmentIdentificationSequence


def _all_segments_in_one_frame(labels: Labels, count: int) -> NDArray[np.uint16]:
    """A frame with one pixel of each segment: the pattern from which all real frames are made."""
    pattern = np.zeros(labels.shape[1] * labels.shape[2], dtype=np.uint16)
    pattern[:count] = np.arange(1, count + 1)
    return pattern.reshape(1, *labels.shape[1:])


def _spread_over_frames(segmentation: Dataset, labels: Labels) -> None:
    """Frames of a loop without coordinates, which highdicom cannot index: per segment and source frame."""
    patterns = list(segmentation.PerFrameFunctionalGroupsSequence)
    groups, planes = [], []
    for number, pattern in enumerate(patterns, start=1):
        is_drawn = (labels == number).any(axis=(1, 2))
        # The empty segment has all frames.
        for index in np.flatnonzero(is_drawn if labels.any() else ~is_drawn).tolist():
            group = copy.deepcopy(pattern)
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            source.ReferencedSOPInstanceUID = placeholder(index)
            content = group.FrameContentSequence[0]
            content.StackID = "1"
            content.InStackPositionNumber = index + 1
            content.DimensionIndexValues = [number, index + 1]
            groups.append(group)
            planes.append(labels[index] == number)
    segmentation.PerFrameFunctionalGroupsSequence = groups
    segmentation.NumberOfFrames = len(groups)
    bits = np.packbits(np.stack(planes).ravel(), bitorder="little").tobytes()
    segmentation.PixelData = bits + b"\0" * (len(bits) % 2)
    position = copy.deepcopy(segmentation.DimensionIndexSequence[0])
    position.DimensionIndexPointer = Tag("InStackPositionNumber")
    position.FunctionalGroupPointer = Tag("FrameContentSequence")
    position.DimensionDescriptionLabel = "In-Stack Position Number"
    segmentation.DimensionIndexSequence = [segmentation.DimensionIndexSequence[0], position]


def _name_all_slices(segmentation: Dataset, count: int) -> None:
    """Whole-object references to every slice, where the object was built from the first one alone."""
    series = segmentation.ReferencedSeriesSequence[0]
    for holder, keyword in ((segmentation, "SourceImageSequence"), (series, "ReferencedInstanceSequence")):
        if keyword not in holder:
            continue
        items = [copy.deepcopy(holder[keyword].value[0]) for _ in range(count)]
        for index, item in enumerate(items):
            item.ReferencedSOPInstanceUID = placeholder(index)
        setattr(holder, keyword, items)
