"""A detector at work: volume in; boxes, their scores, and the sure ones as numbered ellipsoids out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.ellipsoids import numbered_ellipsoids, score_map
from models.inference.boxes_back import Boxes
from models.inference.boxes_on_grid import Detector, boxes_on_grid
from models.manifest import Manifest
from models.networks.own_specs import CenterNetSpec
from models.postprocess import Labels
from models.resample import FloatArray
from models.steps import KeepDetections
from models.volume import Volume

APPROXIMATE = (
    "Outlines are approximate extents, ellipsoids in the detector's boxes, and not boundaries; diameters are "
    "those of the boxes."
)
BOX_TOLERANCE = 0.5  # voxels by which a corner of the golden case may differ


@dataclass(frozen=True, eq=False)
class DetectedBoxes:
    """Everything a detector found, the surest first, far below the operating point too.

    Parameters
    ----------
    boxes : (n, 6) low and high corners in voxels of the source; voxel i covers i to i + 1
    scores : (n,) 0 to 1
    drawn : index of the box of lesion 1, 2, ...
    """

    boxes: Boxes
    scores: NDArray[np.float64]
    drawn: tuple[int, ...]

    @property
    def of_lesions(self) -> Boxes:
        """(lesions, 6) the boxes of what is drawn."""
        return self.boxes[list(self.drawn)]

    @property
    def lesion_scores(self) -> tuple[float, ...]:
        """Of what is drawn."""
        return tuple(float(score) for score in self.scores[list(self.drawn)])


@dataclass(frozen=True, eq=False)
class DetectionPrediction:
    """Findings of a volume; arrays are (slices, rows, columns) of the source.

    Parameters
    ----------
    labels : 1 .. n an ellipsoid each, the surest first
    score_map : score of the surest box at each voxel, drawn or not
    notes : what a reader should know
    """

    detected: DetectedBoxes
    labels: Labels
    score_map: FloatArray
    notes: tuple[str, ...]


def predict_detections(
    volume: Volume, manifest: Manifest, network: Detector, device: torch.device
) -> DetectionPrediction:
    """Find lesions in a volume.

    Parameters
    ----------
    manifest : of a detector's package

    Raises
    ------
    PreprocessError, TooLarge
        As `models.inference.boxes_on_grid.boxes_on_grid`.
    """
    assert manifest.grid is not None, "the manifest's own check: a detector has a grid"
    assert isinstance(manifest.network, CenterNetSpec), "the same check"
    (step,) = manifest.postprocess
    assert isinstance(step, KeepDetections), "the same check"
    boxes, scores = boxes_on_grid(
        volume,
        manifest.grid,
        network,
        manifest.network,
        batch=manifest.inference.batch,
        device=device,
        bytes_per_window_voxel=manifest.runtime.memory.per_canvas_pixel,
    )
    return drawn_detections(boxes, scores, step, volume.shape)


def drawn_detections(
    boxes: Boxes, scores: NDArray[np.float64], step: KeepDetections, shape: tuple[int, int, int]
) -> DetectionPrediction:
    """The boxes that are findings, as labels.

    Parameters
    ----------
    boxes, scores : the surest first
    """
    sure = int((scores >= step.score).sum())
    shown = min(sure, step.at_most)
    labels, drawn = numbered_ellipsoids(boxes[:shown], shape)
    notes = [APPROXIMATE] if drawn else []
    if sure > shown:
        notes.append(f"{sure} places reach the threshold; the surest {shown} are drawn.")
    return DetectionPrediction(
        DetectedBoxes(boxes, scores, drawn), labels, score_map(boxes, scores, shape), tuple(notes)
    )


def other_detections(
    found: DetectedBoxes, expected: DetectedBoxes, *, score_tolerance: float
) -> tuple[list[str], float]:
    """In which drawn boxes two answers differ, in words, and the largest difference of scores."""
    mine, theirs = found.of_lesions, expected.of_lesions
    if len(mine) != len(theirs):
        return [f"{len(mine)} boxes instead of {len(theirs)}"], 1.0
    scores = np.abs(np.subtract(found.lesion_scores, expected.lesion_scores))
    corners, score = float(np.abs(mine - theirs).max(initial=0)), float(scores.max(initial=0))
    faults = []
    if corners > BOX_TOLERANCE:
        faults.append(f"corners of boxes differ by up to {corners:.2f} voxels")
    if score > score_tolerance:
        faults.append(f"scores differ by up to {score:.4f}")
    return faults, score
