"""Contact sheets on the card of a package: cases that may be published, with what the model made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.overlap import dice
from models.evaluation.pictures import contact_sheet, outlined, outlined_structures, save_jpeg
from models.manifest import Findings
from models.postprocess import Labels
from models.predictor import Prediction, Predictor
from models.screen_colours import to_rgb
from models.volume import Volume

CELL_PIXELS = 180  # of a slice on a contact sheet


@dataclass(frozen=True, eq=False)
class PicturedCase:
    """A case to show on the card; only what may be published.

    `truth`: labels, as of a Case, or a mask. `sentence` says what it is, without the full stop; what the
    model made of it is added.
    """

    volume: Volume
    truth: NDArray[Any] | None
    sentence: str


def draw_pictures(predictor: Predictor, cases: Sequence[PicturedCase]) -> list[tuple[str, str]]:
    """One contact sheet per case: its path in the package and its sentence."""
    findings = predictor.package.manifest.findings
    captions = []
    for index, case in enumerate(cases):
        prediction = predictor.predict(case.volume)
        if findings.kind == "structures":
            cells = structure_cells(case, prediction.labels, findings)
            said = structures_said(prediction.labels, case.truth, [one.label for one in findings.segments])
        else:
            truth = None if case.truth is None else case.truth > 0
            cells = lesion_cells(case, prediction.labels)
            said = said_of(prediction, truth)
        name = f"pictures/{index + 1}.jpg"
        save_jpeg(contact_sheet(cells, min(6, len(cells))), predictor.package.folder / name)
        captions.append((name, f"{case.sentence}: {said}"))
    return captions


def lesion_cells(case: PicturedCase, numbers: Labels) -> list[NDArray[np.uint8]]:
    """Every slice of a case with the model's outlines, and the reader's where there are any."""
    truth = None if case.truth is None else case.truth > 0
    return [
        outlined(plane, numbers[k] > 0, None if truth is None else truth[k], CELL_PIXELS)
        for k, plane in enumerate(case.volume.array)
    ]


def structure_cells(case: PicturedCase, numbers: Labels, findings: Findings) -> list[NDArray[np.uint8]]:
    """The slices of a case that hold a structure of model or reader; all where none does."""
    colours = [to_rgb(segment.colour) for segment in findings.segments]
    truth = np.zeros(numbers.shape, np.uint8) if case.truth is None else case.truth
    shown = np.flatnonzero(((numbers > 0) | (truth > 0)).any((1, 2)))
    return [
        outlined_structures(case.volume.array[k], numbers[k], truth[k], colours, CELL_PIXELS)
        for k in (shown if len(shown) else range(len(numbers)))
    ]


def structures_said(numbers: Labels, truth: NDArray[Any] | None, labels: Sequence[str]) -> str:
    """What a model made of each structure of a case, and what its picture's lines and tints mean."""
    words = [
        f"{label} {outline_words(numbers == number, None if truth is None else truth == number)}"
        for number, label in enumerate(labels, start=1)
    ]
    return f"{'; '.join(words)}. Lines: model{'; there is no truth' if truth is None else ', tint: truth'}."


def said_of(prediction: Prediction, truth: NDArray[np.bool_] | None) -> str:
    """What a model made of a case, in words, and what the colours of its picture mean."""
    words = outline_words(prediction.labels > 0, truth)
    if prediction.class_name is not None and prediction.class_scores is not None:
        words += f"; class {prediction.class_name} ({prediction.class_scores[prediction.class_name]:.2f})"
    return f"{words}. Red: model{'; there is no truth' if truth is None else ', green: truth'}."


def outline_words(found: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> str:
    """How an outline compares with the truth, where there is one; both (slices, rows, columns)."""
    is_drawn = bool(found.any())
    if truth is None:
        return "outlined" if is_drawn else "nothing outlined"
    if not truth.any():
        return "outlined, falsely" if is_drawn else "nothing outlined"
    if not (found & truth).any():
        return "missed, and outlined elsewhere" if is_drawn else "missed"
    return f"Dice {dice(found, truth):.2f}"
