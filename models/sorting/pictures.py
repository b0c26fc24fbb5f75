"""A sheet of generated series with what the sorter said of them; patients of data sets are not shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.evaluation.pictures import contact_sheet, save_jpeg
from models.sorting.answers import SeriesAnswers, answer_all
from models.sorting.cases import View
from models.sorting.sorter import Sorter

COLUMNS, EACH = 6, 3
CELL, LINE = 160, 13
KINDS_WITH_PATIENTS = frozenset({"inverted", "sector"})  # made from a patient's images


def sheet_of(sorter: Sorter, views: Sequence[View], path: Path) -> None:
    """Generated series of fold 0, the first few of each kind; under each what was said."""
    cells, drawn = [], dict[str, int]()
    for view in views:
        if view.fold != 0 or not view.is_generated or view.kind in KINDS_WITH_PATIENTS:
            continue
        drawn[view.kind] = drawn.get(view.kind, 0) + 1
        if drawn[view.kind] <= EACH:
            cells.append(_cell(sorter, view))
    save_jpeg(contact_sheet(cells, COLUMNS), path)


def _cell(sorter: Sorter, view: View) -> NDArray[np.uint8]:
    manifest = sorter.package.manifest
    said = answer_all(manifest.questions, sorter.probabilities(view.judged_canvases), view.pixels)
    lines = [
        f"{one.question}: {one.name} {one.score:.2f}" if one.is_known else f"{one.question}: unknown"
        for one in SeriesAnswers(sorter.package.name, said).given
    ]
    page = Image.new("L", (CELL, CELL + LINE * len(lines)))
    middle = view.canvases[view.judged // 2]
    page.paste(Image.fromarray(middle).resize((CELL, CELL), Image.Resampling.BILINEAR), (0, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for index, line in enumerate(lines):
        draw.text((2, CELL + index * LINE), line, fill=255, font=font)
    return np.asarray(page.convert("RGB"))
