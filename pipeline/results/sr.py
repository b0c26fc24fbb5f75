"""Findings to a structured report: TID 1500, with what was found, where, how large, by whom, and its limits.

Each lesion or structure has two measurement groups under one tracking UID: its segment with volume and axes,
and its outline on the key image with the area; viewers that read only outlines show all numbers then. No
finding is said explicitly, by a group with a coded evaluation and no number, and so is a structure that was
looked for and not outlined. Nothing is verified: the flags say so.
Source: PS3.16 TID 1500, 1410, 1411, 1501; PS3.3 A.35 (SR IODs)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset

from config.identity import MANUFACTURER, PRODUCT
from pipeline.reading.refusals import Refusal
from pipeline.results import codes
from pipeline.results.authorship import Authorship, coded
from pipeline.results.citation import SliceReference, cite_classes
from pipeline.results.codes import Code
from pipeline.results.findings import Findings
from pipeline.results.gather import part_of
from pipeline.results.source_repair import RepairedSource, with_value
from pipeline.results.sr_groups import append_texts, lesion_groups, not_outlined_group, statement_group
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
    segmentations : the SEG of each source that has one, every source with lesions, by its index
    sr_class : of the three SOP classes, the one the archive takes
    predecessors : earlier reports of this model on this study, at least their identifiers
    """
    groups: list[Any] = []
    for tracked in findings.lesions:
        groups += lesion_groups(
            tracked, findings, repaired[tracked.source], segmentations[tracked.source], authorship
        )
    for index, source in enumerate(repaired):
        groups += [
            not_outlined_group(plan, part_of(source), source.laterality, authorship)
            for plan in findings.not_found_in(index)
        ]
        groups.append(statement_group(index, source, findings, authorship, revised=bool(predecessors)))
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
    append_texts(group, (f"Not analysed: {refusal.sentence}", refusal.remedy))
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


def _library_image(instance: Dataset) -> Dataset:
    """An entry of the image library: which image, its modality and size.

    By modality highdicom adds a dozen items of geometry to each, which stand in the images already, and asks
    2D images for attributes that they do not have; that was three quarters of the time and most of the size.
    """
    return with_value(instance, "Modality", "OT")


def _meaning(sentence: str) -> str:
    return sentence[:_MEANING_MAX].rstrip()
