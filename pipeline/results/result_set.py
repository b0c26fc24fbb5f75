"""From predictions to the result set of one study, model and revision: SEG, report, picture, findings.

The same arguments give the same bytes. Nothing here reads a clock, a file or a random source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydicom.dataset import Dataset

from config.settings import NodeSettings
from models.package import Package
from models.predictor import Prediction
from pipeline.reading.refusals import Refusal
from pipeline.reading.source_series import SourceSeries
from pipeline.results.authorship import Authorship, Kind
from pipeline.results.capture import build_capture
from pipeline.results.citation import SliceReference
from pipeline.results.discretion import without_quoted_values
from pipeline.results.findings import Findings
from pipeline.results.gather import findings_json, gather_findings, part_of
from pipeline.results.heat_map import encode
from pipeline.results.model_identity import NO_MODEL, model_identity
from pipeline.results.picture import draw_picture, shown_slice
from pipeline.results.predecessors import Predecessor, earlier_reports
from pipeline.results.seg import build_seg
from pipeline.results.source_repair import RepairedSource, bare_copy, repair_source
from pipeline.results.sr import SrClass, build_not_analysed_sr, build_sr
from pipeline.results.uids import RunKey, digest_inputs
from pipeline.results.write import to_part10


@dataclass(frozen=True, eq=False)
class ResultObject:
    """One object as the bytes that are stored and sent; a heat map is stored only."""

    kind: Kind | Literal["HEAT"]
    sop_uid: str
    sop_class: str
    series_uid: str
    part10: bytes


@dataclass(frozen=True, eq=False)
class ResultSet:
    """All objects of one study, model and revision, and the findings JSON of the job."""

    objects: tuple[ResultObject, ...]
    findings: Mapping[str, Any]


@without_quoted_values()
def build_result_set(
    sources: Sequence[SourceSeries],
    predictions: Sequence[Prediction],
    package: Package,
    *,
    node: NodeSettings,
    revision: int,
    job_created_at: datetime,
    predecessors: Sequence[Predecessor] = (),
    slot: int = 0,
    sr_class: SrClass = "comprehensive-3d",
    secondary_capture: bool = True,
    empty_segmentation: bool = False,
    notes: tuple[str, ...] = (),
) -> ResultSet | Refusal:
    """The results of one analysis.

    Parameters
    ----------
    sources : one volume, or the single images of a study, each with its prediction
    job_created_at : aware; the time all objects carry
    predecessors : objects of the revision before; lesions found again keep their tracking UID
    slot : place of the model among those of the node, 0-based; gives the series numbers
    sr_class : of the report, for archives that refuse one
    secondary_capture : whether a picture is made
    empty_segmentation : whether a source without a lesion gets a SEG too
    notes : what a reader must know of the study as a whole, one sentence each

    Returns
    -------
    the set, or the refusal of a source no valid object can cite; of several images, those that can be cited
    are reported and the others named in a note
    """
    usable = [
        (source, prediction, repair_source(source))
        for source, prediction in zip(sources, predictions, strict=True)
    ]
    refusals = [repaired for _, _, repaired in usable if isinstance(repaired, Refusal)]
    kept = [(s, p, r) for s, p, r in usable if isinstance(r, RepairedSource)]
    if not kept:
        return refusals[0]
    model = model_identity(package)
    repaired = [one for _, _, one in kept]
    key = RunKey(
        study_uid=repaired[0].study_uid,
        inputs=tuple(digest for source, _, _ in kept for digest in digest_inputs(source)),
        model=model.id,
        version=model.version,
        digest=model.digest,
        revision=revision,
        root=node.uid_root,
    )
    authorship = Authorship(key, model, node.installation, job_created_at, slot, repaired[0].zone)
    findings = gather_findings(
        [(source, prediction) for source, prediction, _ in kept],
        repaired,
        authorship,
        predecessors,
        (*notes, *(f"An image was left out: {refusal.sentence}" for refusal in refusals)),
    )
    objects: list[tuple[Kind, Dataset]] = []
    segmentations = {}
    for index, one in enumerate(findings.sources):
        if one.lesions or empty_segmentation:
            segmentations[index] = build_seg(
                repaired[index],
                one.labels,
                findings.lesions_of(index),
                authorship,
                part=part_of(repaired[index]),
            )
            objects.append(("SEG", segmentations[index]))
    report = build_sr(
        repaired,
        findings,
        segmentations,
        authorship,
        sr_class=sr_class,
        predecessors=earlier_reports(predecessors),
    )
    objects.append(("SR", report))
    if secondary_capture:
        shown = kept[findings.deciding_source][0]
        picture = draw_picture(shown, findings)
        slice_index = shown_slice(shown, findings)
        objects.append(
            ("SC", build_capture(repaired[findings.deciding_source], picture, slice_index, authorship))
        )
    heat = _heat_maps([source for source, _, _ in kept], repaired, findings, key)
    return ResultSet(
        (*(_written(kind, finished) for kind, finished in objects), *heat.values()),
        findings_json(findings, repaired, {index: one.sop_uid for index, one in heat.items()}),
    )


def _heat_maps(
    sources: Sequence[SourceSeries], repaired: Sequence[RepairedSource], findings: Findings, key: RunKey
) -> dict[int, ResultObject]:
    """The heat maps there are, by the index of their source."""
    made = {}
    for index, (source, one) in enumerate(zip(sources, findings.sources, strict=True)):
        if one.attention is not None:
            part = part_of(repaired[index])
            made[index] = ResultObject(
                kind="HEAT",
                sop_uid=key.instance_uid("HEAT", part),
                sop_class="",  # no DICOM object
                series_uid=key.series_uid("HEAT", part),
                part10=encode(one.attention, source, findings.model),
            )
    return made


@without_quoted_values()
def build_not_analysed_set(
    headers: Sequence[Dataset],
    refusal: Refusal,
    *,
    package: Package | None,
    node: NodeSettings,
    revision: int,
    job_created_at: datetime,
    slot: int = 0,
    sr_class: SrClass = "comprehensive-3d",
) -> ResultSet | Refusal:
    """The small report of a study that was not analysed, or why not even that can be written.

    Parameters
    ----------
    headers : of images of the study, at least one; as many are cited as can be
    package : the model that refused it; None when no model wanted it
    """
    copies = [bare_copy(header) for header in headers]
    refusals = [copy for copy in copies if isinstance(copy, Refusal)]
    images = [copy for copy in copies if isinstance(copy, Dataset)]
    if not images:
        return refusals[0]
    references = [
        SliceReference(str(header.SOPInstanceUID), str(header.SOPClassUID), None)
        for header, copy in zip(headers, copies, strict=True)
        if isinstance(copy, Dataset)
    ]
    model = model_identity(package) if package else NO_MODEL
    key = RunKey(
        study_uid=str(images[0].StudyInstanceUID),
        inputs=tuple((reference.sop_uid, 0, refusal.code) for reference in references),
        model=model.id,
        version=model.version,
        digest=model.digest,
        revision=revision,
        root=node.uid_root,
    )
    authorship = Authorship(key, model, node.installation, job_created_at, slot)
    report = build_not_analysed_sr(images, references, refusal, authorship, sr_class=sr_class)
    return ResultSet((_written("SR", report),), {})


def _written(kind: Kind, finished: Dataset) -> ResultObject:
    return ResultObject(
        kind=kind,
        sop_uid=str(finished.SOPInstanceUID),
        sop_class=str(finished.SOPClassUID),
        series_uid=str(finished.SeriesInstanceUID),
        part10=to_part10(finished),
    )
