"""From package and labelled data to the declared block, explain.json and pictures of the maps."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.evaluation.evaluate import subset_of
from models.evaluation.pictures import TRUTH_COLOUR, contact_sheet, outlined
from models.evaluation.run import ReportSubset
from models.explanation.attending import Recipe
from models.explanation.attention import CAPTION, heat_over
from models.explanation.block import Explain, ExplainSanity
from models.explanation.trust import (
    Explained,
    Progress,
    Subject,
    TrustFigures,
    explained_cases,
    measure_trust,
    sanity_of,
)
from models.predictor import Predictor
from models.training.judged_on import judged_on

FORMAT = "preread-explanation/1"
JSON, SHEET = "explain.json", "attention.png"
SHOWN, COLUMNS = 20, 5
CELL_PIXELS, CAPTION_PIXELS = 220, 34
SEED = 45


@dataclass(frozen=True, eq=False)
class Judged:
    """A block for the package, and what it rests on."""

    block: Explain
    figures: TrustFigures
    explained: tuple[Explained, ...]


def judge_explanation(
    predictor: Predictor,
    data_folder: Path,
    recipe: Recipe,
    *,
    subset: ReportSubset = "scored",
    progress: Progress | None = None,
) -> Judged:
    """Test the heat maps of a package on cases its training did not see.

    Raises
    ------
    CasesError, SplitError
        The data folder is not the one the frozen split was drawn for.
    PrereadError
        The package has nothing to explain, or no such layer.
    ValueError
        Too few cases have a class that is a finding.
    """
    manifest = predictor.package.manifest
    make = recipe.maker(manifest)
    on = judged_on(predictor.package)
    source, items = on.cases_in(data_folder), subset_of(on.split, on.kind, subset)
    subject = Subject(predictor.network, make, manifest.inference.flip, predictor.device)
    explained = explained_cases(
        predictor, subject, (source.load(item.name) for item in items), progress, len(items)
    )
    figures = measure_trust(subject, explained, progress)
    sanity = sanity_of(figures, recipe, dataset=on.dataset, split_sha256=on.split.sha256, subset=subset)
    return Judged(block_of(sanity), figures, tuple(explained))


def block_of(sanity: ExplainSanity) -> Explain:
    """What a package declares: the method where it passed, none where it did not, with the figures."""
    if sanity.faults:
        return Explain(method="none", layer=None, sanity=sanity)
    return Explain(method=sanity.tried, layer=sanity.layer, sanity=sanity)


def write_judged(judged: Judged, package_digest: str, out: Path) -> None:
    """Write explain.json and attention.png; the picture shows patients and stays where the data may stay."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "package_digest": package_digest,
        "block": judged.block.model_dump(mode="json"),
        "faults": judged.block.sanity.faults,
        **asdict(judged.figures),
    }
    (out / JSON).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    Image.fromarray(attention_sheet(judged)).save(out / SHEET, "PNG", optimize=True)


def attention_sheet(judged: Judged) -> NDArray[np.uint8]:
    """Twenty cases drawn by a fixed seed: the image with the reader's outline, its heat beside it."""
    by_name = {case.name: case for case in judged.figures.cases}
    drawn = random.Random(SEED).sample(list(judged.explained), min(SHOWN, len(judged.explained)))
    cells = []
    for one in drawn:
        index = int(one.on_source.sum((1, 2)).argmax())
        trust = by_name[one.case.name]
        share = "no lesion" if trust.energy_share is None else f"{trust.energy_share:.2f} of heat inside"
        area = "" if trust.area_share is None else f" ({trust.area_share:.2f} of the image)"
        cells.append(_cell(one, index, (f"{one.case.name}: {one.class_name}", f"{share}{area}")))
    return contact_sheet(cells, min(COLUMNS, len(cells)))


def _cell(one: Explained, index: int, words: Sequence[str]) -> NDArray[np.uint8]:
    plane, truth = one.case.volume.array[index], one.case.mask[index]
    left = outlined(plane, np.zeros_like(truth), truth, CELL_PIXELS)
    size = (left.shape[1], left.shape[0])
    plain = outlined(plane, np.zeros_like(truth), None, CELL_PIXELS)[..., 0]
    heat = np.asarray(Image.fromarray(one.on_source[index]).resize(size, Image.Resampling.BILINEAR))
    right = heat_over(plain, heat)
    edge = (left == TRUTH_COLOUR).all(2)
    right[edge] = TRUTH_COLOUR
    cell = Image.new("RGB", (2 * CELL_PIXELS + 6, left.shape[0] + CAPTION_PIXELS))
    cell.paste(Image.fromarray(left), (0, 0))
    cell.paste(Image.fromarray(right), (CELL_PIXELS + 2, 0))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(11)
    for line, text in enumerate((words[0], f"{words[1]}; {CAPTION}")):
        draw.text((3, left.shape[0] + 2 + 14 * line), text, fill=(210, 210, 210), font=font)
    return np.asarray(cell)
