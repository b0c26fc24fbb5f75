"""PURE everything that is measured on one case: what a model said beside what is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.evaluation.case_result import CaseResult, result_of, structures_result
from models.evaluation.detection_figures import judged_boxes
from models.evaluation.detections import hits_of_boxes
from models.evaluation.kept_predictions import Said
from models.evaluation.lesions import diameters, match_lesions, numbered
from models.evaluation.overlap import OutlineKind, iou, outline_kind
from models.evaluation.scales import Scale
from models.evaluation.surface import hd95, nsd
from models.postprocess import postprocess
from models.steps import FillHoles, PostprocessStep, Threshold
from models.training.cases import Case


@dataclass(frozen=True)
class TrueLesion:
    """One connected part of the truth, and whether the shipped setting found it."""

    diameter: float  # of the ball or disc of equal size
    is_found: bool


@dataclass(frozen=True)
class DrawnLesion:
    """One region the model might draw; `is_hit`: it found a lesion that nothing surer had found."""

    score: float
    is_hit: bool


@dataclass(frozen=True)
class Border:
    """The border of one structure; None where there is no truth, or nothing to measure a distance to."""

    nsd: float | None
    hd95: float | None


@dataclass(frozen=True)
class CaseMeasures:
    """One case.

    result : what the declared figures of a package are computed from
    nsd, hd95 : None where there is no truth, or nothing to measure a distance to
    truth_size, found_size : of all lesions or structures together, in the scale's size unit
    true_lesions, false_lesions : at the shipped setting
    candidates : every region of the map at the outline's threshold, before small and unsure ones are dropped
    precise : the drawn lesions at the shipped setting, hits by the IoU that average precision asks for
    slice_scores, slice_is_drawn, slice_has_lesion : of each slice
    shown_slice : where truth and outline differ most; without a difference, where the truth is largest
    borders : of each structure by its number; the fields of lesions, slices and iou, nsd, hd95 are empty then
    """

    result: CaseResult
    kind: OutlineKind
    iou: float | None
    nsd: float | None
    hd95: float | None
    truth_size: float
    found_size: float
    true_lesions: tuple[TrueLesion, ...]
    false_lesions: int
    candidates: tuple[DrawnLesion, ...]
    precise: tuple[DrawnLesion, ...]
    slice_scores: tuple[float, ...]
    slice_is_drawn: tuple[bool, ...]
    slice_has_lesion: tuple[bool, ...]
    shown_slice: int
    borders: tuple[Border, ...] = ()


def measure(case: Case, said: Said, steps: Sequence[PostprocessStep], scale: Scale) -> CaseMeasures:
    """Compare. `steps` are the package's post-processing, `said` what came out of it."""
    found, truth = said.labels > 0, case.mask
    lesions = numbered(truth)
    at_shipped = match_lesions(said.labels, lesions, said.lesion_scores)
    is_found = {hit.truth for hit in at_shipped.hits}
    return CaseMeasures(
        result=replace(
            result_of(case, said.labels, said.class_name, said.class_scores),
            boxes=None if said.detected is None else judged_boxes(case, said.detected),
        ),
        kind=outline_kind(found, truth),
        iou=iou(found, truth),
        nsd=nsd(found, truth, scale.spacing, scale.tolerance),
        hd95=hd95(found, truth, scale.spacing),
        truth_size=float(truth.sum()) * scale.voxel_size,
        found_size=float(found.sum()) * scale.voxel_size,
        true_lesions=tuple(
            TrueLesion(float(diameter), number + 1 in is_found)
            for number, diameter in enumerate(diameters(lesions, scale.voxel))
        ),
        false_lesions=len(at_shipped.false),
        candidates=candidates_of(said, lesions, steps),
        precise=precise_of(said, lesions, scale.precision_iou),
        slice_scores=tuple(float(score) for score in said.probability.max((1, 2))),
        slice_is_drawn=tuple(bool(flag) for flag in np.asarray(found.any((1, 2)))),
        slice_has_lesion=tuple(bool(flag) for flag in np.asarray(truth.any((1, 2)))),
        shown_slice=shown_slice(found ^ truth, truth),
    )


def candidates_of(
    said: Said, lesions: NDArray[np.int64], steps: Sequence[PostprocessStep]
) -> tuple[DrawnLesion, ...]:
    """Regions at the outline's threshold with holes filled, each scored by its highest probability.

    The other steps drop the small and unsure: they choose one operating point, and a curve has all of them.
    """
    if said.detected is not None:
        found, _ = hits_of_boxes(said.detected.boxes, lesions)
        return boxes_drawn(said.detected.scores, found > 0)
    outline = [step for step in steps if isinstance(step, Threshold | FillHoles)]
    probability = said.probability
    labels = postprocess(probability, outline, voxel_ml=None, class_scores=None).labels
    peaks = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(peaks, labels.ravel(), probability.ravel())
    return drawn_lesions(labels, lesions, [float(peak) for peak in peaks[1:]])


def boxes_drawn(scores: NDArray[np.float64], is_hit: NDArray[np.bool_]) -> tuple[DrawnLesion, ...]:
    """A detector's candidates, each with its score and whether it is a hit."""
    return tuple(DrawnLesion(float(score), bool(hit)) for score, hit in zip(scores, is_hit, strict=True))


def precise_of(said: Said, lesions: NDArray[np.int64], iou_min: float) -> tuple[DrawnLesion, ...]:
    """Lesions at the shipped setting, hits by their IoU alone."""
    return drawn_lesions(said.labels, lesions, said.lesion_scores, iou_min=iou_min, by_centre=False)


def drawn_lesions(
    labels: NDArray[np.uint16],
    lesions: NDArray[np.int64],
    scores: Sequence[float],
    *,
    iou_min: float = 0.1,
    by_centre: bool = True,
) -> tuple[DrawnLesion, ...]:
    """Each drawn region with its score and whether it is a hit."""
    matching = match_lesions(labels, lesions, scores, iou_min=iou_min, by_centre=by_centre)
    hits = {hit.found for hit in matching.hits}
    return tuple(DrawnLesion(score, number + 1 in hits) for number, score in enumerate(scores))


def measure_structures(case: Case, said: Said, labels: Sequence[str], scale: Scale) -> CaseMeasures:
    """Compare each structure with the truth. `labels` by number, from 1."""
    found, truth = said.labels, case.labels
    result = structures_result(case, found, labels, scale)
    borders = []
    for number in range(1, len(labels) + 1):
        masks = found == number, truth == number
        borders.append(Border(nsd(*masks, scale.spacing, scale.tolerance), hd95(*masks, scale.spacing)))
    return CaseMeasures(
        result=result,
        kind=outline_kind(found, truth),
        iou=None,
        nsd=None,
        hd95=None,
        truth_size=sum(one.truth_size for one in result.structures),
        found_size=sum(one.found_size for one in result.structures),
        true_lesions=(),
        false_lesions=0,
        candidates=(),
        precise=(),
        slice_scores=(),
        slice_is_drawn=(),
        slice_has_lesion=(),
        shown_slice=shown_slice(found != truth, case.mask),
        borders=tuple(borders),
    )


def shown_slice(differing: NDArray[np.bool_], truth: NDArray[np.bool_]) -> int:
    """The slice that tells most about the case; `differing`: voxels where outline and truth do."""
    voxels = differing.sum((1, 2))
    return int(np.argmax(voxels if voxels.any() else truth.sum((1, 2))))
