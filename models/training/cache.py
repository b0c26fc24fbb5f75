"""Prepared slices kept as memory maps, named by the content they were made from and the steps that made them.

A second run, another fold, another learning rate read them instead of preparing again; another step, canvas
or a changed mask makes another file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.preprocess import PreprocessError
from models.training.cases import Case, CasesError, Listed
from models.training.recipes import Recipe
from models.training.training_set import CaseSlices, slices_of

FOLDER = "cache"
KEY_CHARACTERS = 32
VERSION = 1  # of what slices_of does


def steps_sha256(recipe: Recipe) -> str:
    """Of everything that decides how a case becomes slices."""
    steps = [step.model_dump(mode="json") for step in recipe.preprocess]
    canvas = (recipe.canvas_rows, recipe.canvas_columns)
    return hashlib.sha256(json.dumps([VERSION, steps, canvas]).encode()).hexdigest()


def paths_of(work: Path, item: Listed, recipe: Recipe) -> tuple[Path, Path]:
    """Where the images and masks of a case are kept."""
    content = f"{item.sha256} {item.truth_sha256} {steps_sha256(recipe)}"
    key = hashlib.sha256(content.encode()).hexdigest()[:KEY_CHARACTERS]
    folder = work / FOLDER
    return folder / f"{key}.images.npy", folder / f"{key}.masks.npy"


def fill(
    work: Path,
    items: Sequence[Listed],
    recipe: Recipe,
    load: Callable[[Listed], Case],
    progress: Callable[[int, int], None],
) -> int:
    """Prepare what is not kept yet; returns how many cases that were.

    Raises
    ------
    CasesError
        The steps cannot take a case.
    """
    (work / FOLDER).mkdir(parents=True, exist_ok=True)
    made = 0
    for done, item in enumerate(items):
        images, masks = paths_of(work, item, recipe)
        if not (images.is_file() and masks.is_file()):
            try:
                slices = slices_of(load(item), recipe)
            except PreprocessError as error:
                remedy = "Correct the recipe's preprocess, or take the case out."
                raise CasesError(f"case {item.name}: {error}", remedy=remedy) from None
            for path, array in ((masks, slices.masks), (images, slices.images)):
                partial = path.with_suffix(".partial")
                with partial.open("wb") as stream:
                    np.save(stream, array)
                partial.rename(path)
            made += 1
        progress(done + 1, len(items))
    return made


def kept_slices(work: Path, item: Listed, recipe: Recipe) -> CaseSlices:
    """A case as it was kept, memory-mapped."""
    images, masks = paths_of(work, item, recipe)
    return CaseSlices(
        np.load(images, mmap_mode="r", allow_pickle=False),
        np.load(masks, mmap_mode="r", allow_pickle=False),
        item.class_name or None,
        is_simulated=False,
    )
