"""Findings to a structured report: TID 1500, with what was found, where, how large, by whom, and its limits.

Each lesion has two measurement groups under one tracking UID: its segment with volume and axes, and its
outline on the key image with the area; viewers that read only outlines show all numbers then. No finding is
said explicitly, by a group with a coded evaluation and no number. Nothing is verified: the flags say so.
Source: PS3.16 TID 1500, 1410, 1411, 1501; PS3.3 A.35 (SR IODs)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset

from config.identity import MANUFACTURER, PRODUCT, RESEARCH_SENTENCE
from pipeline.reading.refusals import Refusal
from pipeline.results import codes
from pipeline.results.authorship import Authorship, coded
from pipeline.results.citation import SliceReference, cite_classes
from pipeline.results.codes import Code
from pipeline.results.findings import Findings, Lesion, TrackedLesion
from pipeline.results.seg import frames_of_segment
from pipeline.results.source_repair import RepairedSource, with_value
from pipeline.results.uids import device_uid

SrClass = Literal["comprehensive-3d", "comprehensive", "enhanced"]

_CLASSES: Final[Mapping[SrClass, Any]] = {
    "comprehensive-3d": sr.Comprehensive3DSR,
    "comprehensive": sr.ComprehensiveSR,
    "enhanced": sr.EnhancedSR,
}
SR_CLASS_UIDS: Final[Mapping[SrClass, str]] = {
    "comprehensive-3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}
_SIDES: Final = {"L": codes.LEFT, "R": codes.RIGHT, "B": codes.BILATERAL}
_DIGITS: Final = 4  # decimals of a measured value; a thousandth of a millimetre is below any voxel
_CODE_VALUE_MAX: Final = 16
_MEANING_MAX: Final = 64


def build_sr(
    repaired: Sequence[RepairedSource],
    findings: Findings,
    segmentations: Mapping[int, Dataset],
    authorship: Authorship,
    *,
    sr_class: SrClass = "comprehensive-3d",
    predecessors: Sequence[Dataset] = (),
) -> Dataset:
    """The report of one result set.

    Parameters
    ----------
    repaired : the sources, in the order of `findings.sources`
    segmentations : the SEG of each source that has lesions, by its index
    sr_class : of the three SOP classes, the one the archive takes
    predecessors : earlier reports of this model on this study, at least their identifiers
    """
    groups: list[Any] = []
    for tracked in findings.lesions:
        groups += _lesion_groups(
            tracked, findings, repaired[tracked.source], segmentations[tracked.source], authorship
        )
    for index, source in enumerate(repaired):
        groups.append(_statement_group(index, source, findings, authorship, revised=bool(predecessors)))
    evidence = [instance for source in repaired for instance in source.instances]
    references = [reference for source in repaired for reference in source.references]
    return _document(
        groups,
        images=[_library_image(instance) for source in repaired for instance in source.instances],
        evidence=[*evidence, *segmentations.values()],
        references=references,
        modality=repaired[0].modality,
        authorship=authorship,
        sr_class=sr_class,
        predecessors=predecessors,
        is_complete=True,
    )


def build_not_analysed_sr(
    images: Sequence[Dataset],
    references: Sequence[SliceReference],
    refusal: Refusal,
    authorship: Authorship,
    *,
    sr_class: SrClass = "comprehensive-3d",
) -> Dataset:
    """A small report that says that a study was not analysed, and why; never that it is negative.

    Parameters
    ----------
    images : bare copies of headers of the study (see `source_repair.bare_copy`), at least one
    references : their true SOP classes
    """
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=authorship.key.tracking_uid("not analysed", 0), identifier="not analysed"
        ),
        finding_type=coded(codes.NOT_ANALYSED),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                name=coded(codes.REASON),
                value=coded(
                    Code(refusal.code[:_CODE_VALUE_MAX], codes.PRIVATE_SCHEME, _meaning(refusal.sentence))
                ),
            )
        ],
    )
    _append_texts(group, (f"Not analysed: {refusal.sentence}", refusal.remedy))
    return _document(
        [group],
        # Reports and other objects without pixels are evidence, but no images.
        images=[image for image in images if image.Rows and image.Columns],
        evidence=images,
        references=references,
        modality="",
        authorship=authorship,
        sr_class=sr_class,
        predecessors=(),
        is_complete=False,
    )


def _document(
    groups: Sequence[Any],
    *,
    images: Sequence[Dataset],
    evidence: Sequence[Dataset],
    references: Sequence[SliceReference],
    modality: str,
    authorship: Authorship,
    sr_class: SrClass,
    predecessors: Sequence[Dataset],
    is_complete: bool,
) -> Dataset:
    report = sr.MeasurementReport(
        observation_context=_observer(authorship),
        procedure_reported=coded(codes.PROCEDURES.get(modality, codes.PROCEDURE_UNKNOWN)),
        imaging_measurements=groups,
        title=coded(codes.REPORT_TITLE),
        referenced_images=list(images),
    )
    # An archive that refuses one class gets another object, so the class is part of its identity.
    document: Dataset = _CLASSES[sr_class](
        evidence=list(evidence),
        content=report[0],
        is_complete=is_complete,
        is_final=False,
        is_verified=False,
        previous_versions=list(predecessors) or None,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                designator=codes.PRIVATE_SCHEME,
                name=codes.PRIVATE_SCHEME_NAME,
                responsible_organization=MANUFACTURER,
            )
        ],
        **authorship.arguments("SR", "" if sr_class == "comprehensive-3d" else sr_class),
    )
    cite_classes(document, references)
    authorship.finish(document)
    return document


def _observer(authorship: Authorship) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(authorship.installation, authorship.key.root),
        name=PRODUCT,
        manufacturer_name=MANUFACTURER,
        model_name=f"{authorship.model.id} {authorship.model.version}"[:_MEANING_MAX],
        serial_number=authorship.installation,
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=sr.CodedConcept.from_code(coded(codes.DEVICE)),
            observer_identifying_attributes=device,
        )
    )


def _lesion_groups(
    tracked: TrackedLesion,
    findings: Findings,
    source: RepairedSource,
    segmentation: Dataset,
    authorship: Authorship,
) -> list[Any]:
    """The groups of one lesion, with the same tracking identifier and finding."""
    plan = findings.model.segment
    lesion = tracked.lesion
    side = _SIDES.get(source.laterality)

    def common() -> dict[str, Any]:
        # Content items belong to one tree, so each group gets its own.
        return {
            "tracking_identifier": sr.TrackingIdentifier(
                uid=tracked.tracking_uid, identifier=tracked.tracking_id
            ),
            "finding_type": coded(plan.kind),
            "finding_category": coded(plan.category),
            "finding_sites": [
                sr.FindingSite(anatomic_location=coded(plan.region), laterality=coded(side) if side else None)
            ]
            if plan.region
            else None,
            "algorithm_id": _algorithm(authorship),
        }

    score = [] if lesion.score is None else [(codes.PROBABILITY, lesion.score, codes.NO_UNITS)]
    frames = frames_of_segment(segmentation, lesion.label)
    outline = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=_outline(lesion, source),
        measurements=_measurements([_area(lesion), *(() if source.is_placed else (*_axes(lesion), *score))]),
        geometric_purpose=coded(codes.OUTLINE),
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
            measurements=_measurements([*volume, *_axes(lesion), *score]),
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


def _statement_group(
    index: int, source: RepairedSource, findings: Findings, authorship: Authorship, *, revised: bool
) -> Any:
    """What is said about a whole source: findings or none, its class, scores as text, and the limits."""
    one = findings.sources[index]
    lesions = findings.lesions_of(index)
    evaluations = [
        (codes.PROCESSING_SUMMARY, codes.WITH_FINDINGS if lesions else codes.WITHOUT_FINDINGS),
        (codes.PRESENCE, codes.PRESENT if lesions else codes.ABSENT),
    ]
    plan = findings.model.class_plan(one.class_name)
    if plan is not None:
        evaluations.append((codes.CLASSIFICATION, plan.concept))
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
    texts = [] if lesions else [findings.model.negative_statement]
    if one.class_scores:
        # As text: a bare number without an outline stops some viewers from loading the report.
        shown = sorted(one.class_scores.items(), key=lambda item: -item[1])
        texts.append("Scores: " + ", ".join(f"{name} {score:.2f}" for name, score in shown) + ".")
    if revised:
        texts.append(f"Revision {authorship.key.revision} of the analysis; it replaces the earlier report.")
    texts += [*findings.notes, *source.notes, *one.notes]
    texts += [RESEARCH_SENTENCE, findings.model.card_line]
    _append_texts(group, texts)
    return group


def _append_texts(group: Any, texts: Iterable[str]) -> None:
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


def _library_image(instance: Dataset) -> Dataset:
    """An entry of the image library: which image, its modality and size.

    By modality highdicom adds a dozen items of geometry to each, which stand in the images already, and asks
    2D images for attributes that they do not have; that was three quarters of the time and most of the size.
    """
    return with_value(instance, "Modality", "OT")


def _meaning(sentence: str) -> str:
    return sentence[:_MEANING_MAX].rstrip()
