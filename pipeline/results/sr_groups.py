"""Measurement groups of a report: two for each lesion or structure, one for a structure that was not
outlined, one for what is said about a whole source.

The outline group carries the contour on the key image, the other one the segment; both have the tracking
identifier of the segment. Numbers stand only where an outline of the same lesion stands too, since some
viewers stop at a bare number. Source: PS3.16 TID 1410, 1411, 1501
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset

from config.identity import MANUFACTURER, RESEARCH_SENTENCE
from pipeline.results import codes
from pipeline.results.authorship import Authorship, coded
from pipeline.results.codes import Code
from pipeline.results.findings import Findings, Lesion, SegmentPlan, TrackedLesion
from pipeline.results.seg import frames_of_segment
from pipeline.results.source_repair import RepairedSource
from pipeline.results.structures import sentences_of

_SIDES: Final = {"L": codes.LEFT, "R": codes.RIGHT, "B": codes.BILATERAL}
_DIGITS: Final = 4  # decimals of a measured value; a thousandth of a millimetre is below any voxel


def lesion_groups(
    tracked: TrackedLesion,
    findings: Findings,
    source: RepairedSource,
    segmentation: Dataset,
    authorship: Authorship,
) -> list[Any]:
    """The groups of one lesion or structure, with the same tracking identifier and finding.

    The size of a structure is what is measured; its diameters mean nothing, and the mean probability of its
    voxels is not that of a finding, so it is told as text.
    """
    plan = findings.model.plan_of(tracked.number)
    lesion = tracked.lesion

    def common() -> dict[str, Any]:
        # Content items belong to one tree, so each group gets its own.
        return {
            "tracking_identifier": sr.TrackingIdentifier(
                uid=tracked.tracking_uid, identifier=tracked.tracking_id
            ),
            "finding_type": coded(plan.kind),
            "finding_category": coded(plan.category),
            "finding_sites": _sites(plan, source.laterality),
            "algorithm_id": _algorithm(authorship),
        }

    score = [] if lesion.score is None else [(codes.PROBABILITY, lesion.score, codes.NO_UNITS)]
    told = [] if findings.model.outlines_structures else [*_axes(lesion), *score]
    frames = frames_of_segment(segmentation, lesion.label)
    outline = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=_outline(lesion, source),
        measurements=_measurements([_area(lesion), *([] if source.is_placed else told)]),
        # PS3.16 CID 219: what surrounds a detected lesion is not its outline.
        geometric_purpose=coded(codes.BOUNDED_BY if findings.model.outlines_extents else codes.OUTLINE),
        **common(),
    )
    if source.is_placed:
        volume = [] if lesion.volume_ml is None else [(codes.VOLUME, lesion.volume_ml, codes.MILLILITRE)]
        whole = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=str(segmentation.SOPClassUID),
                sop_instance_uid=str(segmentation.SOPInstanceUID),
                segment_number=lesion.label,
                source_images=_source_images(frames, source),
            ),
            measurements=_measurements([*volume, *told]),
            **common(),
        )
        return [whole, outline]
    key_frames = [frame for frame in frames if frame[1:] == _key(lesion, source)]
    in_segment = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegmentationFrame(
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            frame_number=key_frames[0][0],
            segment_number=lesion.label,
            source_image=_source_images(key_frames, source)[0],
        ),
        measurements=_measurements([_area(lesion)]),
        **common(),
    )
    _drop_segment_beside_frame(in_segment[0])
    return [outline, in_segment]


def not_outlined_group(plan: SegmentPlan, part: str, laterality: str, authorship: Authorship) -> Any:
    """A structure that was looked for in a source and not outlined: coded, and without a number.

    Parameters
    ----------
    part : tells the sources of a study apart, see `gather.part_of`
    """
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=authorship.key.structure_uid(part, plan.number), identifier=plan.label
        ),
        finding_type=coded(plan.kind),
        finding_category=coded(plan.category),
        finding_sites=_sites(plan, laterality),
        algorithm_id=_algorithm(authorship),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(name=coded(codes.OUTLINING), value=coded(codes.NOT_OUTLINED))
        ],
    )
    return group


def statement_group(
    index: int, source: RepairedSource, findings: Findings, authorship: Authorship, *, revised: bool
) -> Any:
    """What is said about a whole source: findings or none, its class, scores as text, and the limits."""
    one = findings.sources[index]
    lesions = findings.lesions_of(index)
    evaluations = [(codes.PROCESSING_SUMMARY, codes.WITH_FINDINGS if lesions else codes.WITHOUT_FINDINGS)]
    if not findings.model.outlines_structures:
        evaluations.append((codes.PRESENCE, codes.PRESENT if lesions else codes.ABSENT))
    plan = findings.model.class_plan(one.class_name)
    if plan is not None:
        evaluations.append((codes.CLASSIFICATION, plan.concept))
    if one.is_unusual is not None:
        evaluations.append((codes.LIKENESS, codes.UNUSUAL if one.is_unusual else codes.USUAL))
    first = source.references[0]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=authorship.key.tracking_uid(f"statement {first.sop_uid}", first.frame_number or 0),
            identifier=f"image {index + 1}" if len(findings.sources) > 1 else "study",
        ),
        finding_type=coded(findings.model.segment.kind),
        algorithm_id=_algorithm(authorship),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(name=coded(name), value=coded(value)) for name, value in evaluations
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=source.built_class,
                referenced_sop_instance_uid=first.sop_uid,
                referenced_frame_numbers=None if first.frame_number is None else [first.frame_number],
            )
        ]
        if not source.is_placed
        else None,
    )
    if findings.model.outlines_structures:
        texts = sentences_of(findings, index)
    else:
        texts = [] if lesions else [findings.model.negative_statement]
    if one.class_scores:
        # As text: a bare number without an outline stops some viewers from loading the report.
        shown = sorted(one.class_scores.items(), key=lambda item: -item[1])
        texts.append("Scores: " + ", ".join(f"{name} {score:.2f}" for name, score in shown) + ".")
    if revised:
        texts.append(f"Revision {authorship.key.revision} of the analysis; it replaces the earlier report.")
    texts += [*findings.notes, *source.notes, *one.notes]
    texts += [RESEARCH_SENTENCE, findings.model.card_line]
    append_texts(group, texts)
    return group


def _sites(plan: SegmentPlan, laterality: str) -> list[sr.FindingSite] | None:
    """Where it is: the region, the part of it, and the side that the package or the image names."""
    if plan.region is None:
        return None
    side = _SIDES.get(plan.side or laterality)
    return [
        sr.FindingSite(
            anatomic_location=coded(plan.region),
            laterality=coded(side) if side else None,
            topographical_modifier=coded(plan.modifier) if plan.modifier else None,
        )
    ]


def append_texts(group: Any, texts: Iterable[str]) -> None:
    """Add texts as comments to a group, each once."""
    for text in dict.fromkeys(texts):
        group[0].ContentSequence.append(
            sr.TextContentItem(name=coded(codes.COMMENT), value=text, relationship_type="CONTAINS")
        )


def _algorithm(authorship: Authorship) -> sr.AlgorithmIdentification:
    model = authorship.model
    return sr.AlgorithmIdentification(
        name=model.id,
        version=model.version,
        parameters=[f"{name}={value}" for name, value in model.parameters.items()],
        family=coded(codes.ARTIFICIAL_INTELLIGENCE),
        manufacturer=MANUFACTURER,
    )


def _measurements(values: Iterable[tuple[Code, float, Code]]) -> list[sr.Measurement]:
    return [
        sr.Measurement(name=coded(concept), value=round(value, _DIGITS), unit=coded(unit))
        for concept, value, unit in values
    ]


def _area(lesion: Lesion) -> tuple[Code, float, Code]:
    if lesion.area_mm2 is None:
        return codes.AREA, float(lesion.area_px), codes.PIXELS
    return codes.AREA, lesion.area_mm2, codes.SQUARE_MILLIMETRE


def _axes(lesion: Lesion) -> list[tuple[Code, float, Code]]:
    if lesion.long_axis_mm is not None and lesion.short_axis_mm is not None:
        long, short, unit = lesion.long_axis_mm, lesion.short_axis_mm, codes.MILLIMETRE
    else:
        long, short, unit = lesion.long_axis_px or 0.0, lesion.short_axis_px or 0.0, codes.PIXELS
    return [(codes.LONG_AXIS, long, unit), (codes.SHORT_AXIS, short, unit)]


def _outline(lesion: Lesion, source: RepairedSource) -> sr.ImageRegion:
    """The outline on the key image: closed, (column, row), from the outer corner of the first pixel."""
    closed = np.vstack([lesion.outline, lesion.outline[:1]])[:, ::-1] + 0.5
    key = source.references[lesion.key_slice]
    return sr.ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=closed,
        source_image=sr.SourceImageForRegion(
            referenced_sop_class_uid=source.built_class,
            referenced_sop_instance_uid=key.sop_uid,
            referenced_frame_numbers=None if key.frame_number is None else [key.frame_number],
        ),
    )


def _key(lesion: Lesion, source: RepairedSource) -> tuple[str, int | None]:
    key = source.references[lesion.key_slice]
    return key.sop_uid, key.frame_number


def _source_images(
    frames: Sequence[tuple[int, str, int | None]], source: RepairedSource
) -> list[sr.SourceImageForSegmentation]:
    """The images a segment was drawn on, each instance once."""
    numbers: dict[str, list[int]] = {}
    for _, uid, number in frames:
        numbers.setdefault(uid, [])
        if number is not None:
            numbers[uid].append(number)
    return [
        sr.SourceImageForSegmentation(
            referenced_sop_class_uid=source.built_class,
            referenced_sop_instance_uid=uid,
            referenced_frame_numbers=sorted(of_instance) or None,
        )
        for uid, of_instance in numbers.items()
    ]


def _drop_segment_beside_frame(item: Dataset) -> None:
    """A reference names frames or segments, never both (PS3.3 10.3); the library writes both."""
    for child in item.get("ContentSequence", ()):
        for reference in child.get("ReferencedSOPSequence", ()):
            if "ReferencedFrameNumber" in reference and "ReferencedSegmentNumber" in reference:
                del reference.ReferencedSegmentNumber
        _drop_segment_beside_frame(child)
