"""Pictures of cases with the outlines of model and reader: the twenty worst, and twenty at random.

They show patients: they are written where the report is written, and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.evaluation.document import JudgedCase, worst_first
from models.evaluation.kept_predictions import KeptPredictions
from models.evaluation.pictures import contact_sheet, outlined
from models.training.judged_on import CasesIn

SHOWN = 20
CELL_PIXELS = 220
CAPTION_PIXELS = 30
COLUMNS = 5
SEED = 45


@dataclass(frozen=True, eq=False)
class CasePicture:
    """One case: (rows, columns, 3) picture and two lines about it."""

    name: str
    result: str
    pixels: NDArray[np.uint8]

    def png(self) -> bytes:
        """The picture as PNG, without the lines."""
        stream = BytesIO()
        Image.fromarray(self.pixels).save(stream, "PNG", optimize=True)
        return stream.getvalue()


def worst_cases(cases: Sequence[JudgedCase]) -> list[JudgedCase]:
    """The cases that came out worst, the worst first."""
    return worst_first(cases)[:SHOWN]


def random_cases(cases: Sequence[JudgedCase]) -> list[JudgedCase]:
    """As many cases drawn without looking, so that the worst are not taken for the usual; in name order."""
    drawn = random.Random(SEED).sample(sorted(cases, key=lambda case: case.name), min(SHOWN, len(cases)))
    return sorted(drawn, key=lambda case: case.name)


def pictures_of(cases: Sequence[JudgedCase], kept: KeptPredictions, source: CasesIn) -> list[CasePicture]:
    """The slice of each case that tells most."""
    pictures = []
    for judged in cases:
        case = source.load(judged.name)
        found = kept.of(case.volume).labels > 0
        index = judged.measures.shown_slice
        pixels = outlined(
            case.volume.array[index],
            found[index],
            case.mask[index] if case.mask[index].any() else None,
            CELL_PIXELS,
        )
        pictures.append(CasePicture(judged.name, words_of(judged, len(found)), pixels))
    return pictures


def words_of(case: JudgedCase, slices: int) -> str:
    """How a case came out, in a few words."""
    result = case.measures.result
    if result.dice is not None:
        missed = "missed, outlined elsewhere" if result.is_drawn else "missed"
        words = f"Dice {result.dice:.2f}" if result.dice > 0 else missed
    else:
        words = "falsely outlined" if result.is_drawn else "rightly left alone"
    if slices > 1:
        words += f", slice {case.measures.shown_slice + 1} of {slices}"
    if result.true_class is not None and result.found_class is not None:
        agrees = result.true_class == result.found_class
        words += f", {result.true_class}" + ("" if agrees else f", called {result.found_class}")
    return words


def save_sheet(pictures: Sequence[CasePicture], path: Path) -> None:
    """All pictures with their lines on one PNG."""
    font = ImageFont.load_default(11)
    cells = []
    for picture in pictures:
        rows, columns = picture.pixels.shape[:2]
        cell = Image.new("RGB", (max(columns, CELL_PIXELS), rows + CAPTION_PIXELS))
        cell.paste(Image.fromarray(picture.pixels), (0, 0))
        draw = ImageDraw.Draw(cell)
        draw.text((3, rows + 2), picture.name, fill=(200, 200, 200), font=font)
        draw.text((3, rows + 15), picture.result, fill=(255, 255, 255), font=font)
        cells.append(np.asarray(cell))
    Image.fromarray(contact_sheet(cells, min(COLUMNS, len(cells)))).save(path, "PNG", optimize=True)
