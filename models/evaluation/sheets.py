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
from models.evaluation.pictures import contact_sheet, outlined, outlined_structures
from models.evaluation.structure_rows import StructureRow
from models.screen_colours import Rgb, to_rgb
from models.training.judged_on import CasesIn

SHOWN = 20
CELL_PIXELS = 220
CAPTION_PIXELS = 30
COLUMNS = 5
DICES_MAX = 4  # structures whose Dice stand under a picture; of more, the mean and the worst
LEGEND_PIXELS = 18
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
    findings = kept.predictor.package.manifest.findings
    colours = [to_rgb(segment.colour) for segment in findings.segments]
    for judged in cases:
        case = source.load(judged.name)
        found = kept.of(case.volume).labels
        index = judged.measures.shown_slice
        if findings.kind == "structures":
            pixels = outlined_structures(
                case.volume.array[index], found[index], case.labels[index], colours, CELL_PIXELS
            )
        else:
            pixels = outlined(
                case.volume.array[index],
                found[index] > 0,
                case.mask[index] if case.mask[index].any() else None,
                CELL_PIXELS,
            )
        pictures.append(CasePicture(judged.name, words_of(judged, len(found)), pixels))
    return pictures


def words_of(case: JudgedCase, slices: int) -> str:
    """How a case came out, in a few words; of structures the Dice of each, in their order."""
    result = case.measures.result
    if result.structures:
        words = " / ".join("–" if one.dice is None else f"{one.dice:.2f}" for one in result.structures)
        if len(result.structures) > DICES_MAX:
            worst = min(result.structures, key=lambda one: 2.0 if one.dice is None else one.dice)
            words = f"{result.dice:.2f}" if result.dice is not None else "–"
            words += "" if worst.dice is None else f", {worst.label} {worst.dice:.2f}"
        return f"Dice {words}, slice {case.measures.shown_slice + 1} of {slices}"
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


def save_sheet(pictures: Sequence[CasePicture], path: Path, structures: Sequence[StructureRow] = ()) -> None:
    """All pictures with their lines on one PNG; below them what the colours of structures mean."""
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
    sheet = contact_sheet(cells, min(COLUMNS, len(cells)))
    if structures:
        sheet = np.concatenate([sheet, legend(structures, sheet.shape[1])])
    Image.fromarray(sheet).save(path, "PNG", optimize=True)


def legend(structures: Sequence[StructureRow], width: int) -> NDArray[np.uint8]:
    """(h, width, 3) a line for each structure in its colour."""
    rows: list[tuple[Rgb, str]] = [(row.colour, row.label) for row in structures]
    picture = Image.new("RGB", (width, LEGEND_PIXELS * (len(rows) + 1) + 6))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for index, (colour, label) in enumerate(rows):
        top = LEGEND_PIXELS * index + 4
        draw.rectangle((3, top, 14, top + 11), fill=colour)
        draw.text((20, top - 1), label, fill=(255, 255, 255), font=font)
    words = "line: model; tint: reader"
    draw.text((3, LEGEND_PIXELS * len(rows) + 3), words, fill=(200, 200, 200), font=font)
    return np.asarray(picture)
