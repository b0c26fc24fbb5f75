"""PURE: the declared post-processing, from probabilities to numbered lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.steps import (
    Argmax,
    FillHoles,
    ImageGate,
    KeepDetections,
    KeepLargest,
    MinComponent,
    MinPeak,
    PostprocessStep,
    Threshold,
)

Labels = NDArray[np.uint16]
LESIONS_MAX = 65_535  # labels are uint16
CONNECTED = np.ones((3, 3, 3), bool)  # voxels that share a corner belong together


@dataclass(frozen=True, eq=False)
class Lesions:
    """Numbered lesions.

    Parameters
    ----------
    labels : (slices, rows, columns), 0 background, 1 .. n by falling number of voxels
    scores : mean probability of each lesion, in that order
    notes : what a reader should know, such as a map that was suppressed
    """

    labels: Labels
    scores: tuple[float, ...]
    notes: tuple[str, ...]


def postprocess(
    probability: NDArray[np.float32],
    steps: Sequence[PostprocessStep],
    *,
    voxel_ml: float | None,
    class_scores: Mapping[str, float] | None,
) -> Lesions:
    """Run the steps on a map (slices, rows, columns) of the source grid.

    Raises
    ------
    ValueError
        A step needs a voxel volume or class scores that are not there, or no threshold was declared.
    """
    mask: NDArray[np.bool_] | None = None
    notes: list[str] = []
    for step in steps:
        if isinstance(step, Threshold):
            mask = probability >= threshold_of(probability, step)
            continue
        if mask is None:
            raise ValueError("post-processing must begin with a threshold")
        match step:
            case FillHoles():
                mask = np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
            case MinComponent():
                mask = drop_components(mask, components_kept_by_size(mask, step, voxel_ml))
            case MinPeak():
                mask = drop_components(mask, components_kept_by_peak(mask, probability, step))
            case Argmax() | KeepLargest() | KeepDetections():
                # See models.structure_labels and models.detection_prediction.
                raise ValueError(f"{step.step} is for structures or detectors, not for a map of lesions")
            case ImageGate():
                if class_scores is None:
                    raise ValueError("image_gate needs class scores, the network gave none")
                if chosen_class(class_scores, steps) == step.class_name and mask.any():
                    notes.append(
                        f"The map shows a region of {int(mask.sum())} pixels, but the image is classed "
                        f"{step.class_name}; it is not drawn."
                    )
                    mask = np.zeros_like(mask)
    if mask is None:
        raise ValueError("post-processing must begin with a threshold")
    labels, scores = number_by_size(mask, probability)
    return Lesions(labels, scores, tuple(notes))


def threshold_of(probability: NDArray[np.float32], step: Threshold) -> float:
    """The threshold of one map."""
    if step.of_peak is None:
        return step.probability
    return max(step.floor, min(step.probability, step.of_peak * float(probability.max())))


def chosen_class(scores: Mapping[str, float], steps: Sequence[PostprocessStep]) -> str:
    """The likeliest class (the first of equals), or what an image gate with a probability says instead."""
    gate = next((step for step in steps if isinstance(step, ImageGate)), None)
    if gate is None or gate.probability is None:
        return max(scores, key=lambda name: scores[name])
    if scores[gate.class_name] >= gate.probability:
        return gate.class_name
    return max((name for name in scores if name != gate.class_name), key=lambda name: scores[name])


def components_kept_by_size(
    mask: NDArray[np.bool_], step: MinComponent, voxel_ml: float | None
) -> NDArray[np.bool_]:
    """(components,) whether each is large enough."""
    labels, count = ndimage.label(mask, CONNECTED)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if step.minimum_ml is not None:
        if voxel_ml is None:
            raise ValueError("min_component in mL needs a volume with known spacing")
        return np.asarray(voxels * voxel_ml >= step.minimum_ml)
    assert step.minimum_share is not None  # the step's own validator
    return np.asarray(voxels >= step.minimum_share * mask[0].size)


def components_kept_by_peak(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], step: MinPeak
) -> NDArray[np.bool_]:
    """(components,) whether each is sure enough somewhere."""
    labels, count = ndimage.label(mask, CONNECTED)
    if count == 0:
        return np.zeros(0, bool)
    return np.asarray(ndimage.maximum(probability, labels, range(1, count + 1)) >= step.probability)


def drop_components(mask: NDArray[np.bool_], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the components that are not kept."""
    labels, _ = ndimage.label(mask, CONNECTED)
    return np.asarray(np.concatenate([[False], kept])[labels])


def number_by_size(
    mask: NDArray[np.bool_], probability: NDArray[np.float32]
) -> tuple[Labels, tuple[float, ...]]:
    """Connected lesions numbered from the largest, with their mean probability."""
    found, count = ndimage.label(mask, CONNECTED)
    if count == 0:
        return np.zeros(mask.shape, np.uint16), ()
    if count > LESIONS_MAX:
        raise ValueError(f"{count} separate regions: this map is noise; check the input")
    voxels = np.bincount(found.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-voxels, kind="stable")
    number = np.zeros(count + 1, np.uint16)
    number[order + 1] = np.arange(1, count + 1)
    means = np.asarray(ndimage.mean(probability, found, range(1, count + 1)))
    return number[found], tuple(float(means[index]) for index in order)
