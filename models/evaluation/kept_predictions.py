"""What a package said about cases, kept in a folder, so that a second report needs no second inference.

A file is named by the sha256 of package digest, pixels, geometry, torch version and device: another package
or another image never gets an old answer. The folder holds outlines of patients' lesions; it stays with the
report it was made for.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.detection_prediction import DetectedBoxes
from models.postprocess import Labels
from models.predictor import Prediction, Predictor
from models.volume import Volume

STEPS = 255  # a kept probability is a whole number of 255ths


@dataclass(frozen=True, eq=False)
class Said:
    """One prediction as it is kept; arrays are (slices, rows, columns) of the source."""

    levels: NDArray[np.uint8]  # probability of lesion in 255ths, rounded
    labels: Labels
    lesion_scores: tuple[float, ...]
    class_scores: dict[str, float] | None
    class_name: str | None
    detected: DetectedBoxes | None = None

    @property
    def probability(self) -> NDArray[np.float32]:
        """Probability of lesion, to the nearest 255th."""
        return np.divide(self.levels, STEPS, dtype=np.float32)


def said_of(prediction: Prediction) -> Said:
    """A prediction as it is kept."""
    return Said(
        np.round(prediction.probability * STEPS).astype(np.uint8),
        prediction.labels,
        prediction.lesion_scores,
        prediction.class_scores,
        prediction.class_name,
        prediction.detected,
    )


class KeptPredictions:
    """A predictor with a memory.

    Parameters
    ----------
    folder : made when it is missing; None keeps nothing
    """

    def __init__(self, predictor: Predictor, folder: Path | None) -> None:
        self.predictor = predictor
        self.folder = folder
        self.computed = 0  # predictions that were not found in the folder

    def of(self, volume: Volume) -> Said:
        """What the package says about a volume. Raises as Predictor.predict does."""
        path = None if self.folder is None else self.folder / f"{self.key(volume)}.npz"
        kept = None if path is None else read_said(path)
        if kept is not None:
            return kept
        said = said_of(self.predictor.predict(volume))
        self.computed += 1
        if path is not None:
            write_said(path, said)
        return said

    def key(self, volume: Volume) -> str:
        """Name of what decides the answer."""
        parts = {
            "package": self.predictor.package.digest,
            "torch": torch.__version__,
            "device": self.predictor.device.type,
            "shape": volume.shape,
            "dtype": str(volume.array.dtype),
            "pixel_spacing_mm": volume.pixel_spacing_mm,
            "slice_spacing_mm": volume.slice_spacing_mm,
            "affine": None if volume.affine is None else volume.affine.tolist(),
        }
        content = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        content.update(np.ascontiguousarray(volume.array).tobytes())
        return content.hexdigest()


def read_said(path: Path) -> Said | None:
    """A kept prediction; None when there is none, or it was cut off in the middle of writing."""
    try:
        # Opened here: numpy forgets to close what it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            words: dict[str, Any] = json.loads(str(stored["words"]))
            return Said(
                stored["levels"],
                stored["labels"],
                tuple(words["lesion_scores"]),
                words["class_scores"],
                words["class_name"],
                DetectedBoxes(stored["boxes"], stored["box_scores"], tuple(words["drawn"]))
                if "boxes" in stored.files
                else None,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_said(path: Path, said: Said) -> None:
    """Keep a prediction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words: dict[str, Any] = {
        "lesion_scores": said.lesion_scores,
        "class_scores": said.class_scores,
        "class_name": said.class_name,
    }
    boxes: dict[str, Any] = {}
    if said.detected is not None:
        words["drawn"] = said.detected.drawn
        boxes = {"boxes": said.detected.boxes, "box_scores": said.detected.scores}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, levels=said.levels, labels=said.labels, words=json.dumps(words), **boxes)
    partial.rename(path)
