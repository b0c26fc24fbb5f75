"""Prepared cases kept as memory maps, named by the content they were made from and the steps that made them.

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
from models.training.learning import KeptCase
from models.training.learnings import learning_of
from models.training.recipes import RunRecipe

FOLDER = "cache"
KEY_CHARACTERS = 32
VERSION = 1  # of what preparing does


def steps_sha256(recipe: RunRecipe) -> str:
    """Of everything that decides what is kept of a case."""
    steps = learning_of(recipe).steps(recipe)
    return hashlib.sha256(json.dumps([VERSION, steps]).encode()).hexdigest()


def paths_of(work: Path, item: Listed, recipe: RunRecipe) -> dict[str, Path]:
    """Where the arrays of a case are kept, by name."""
    content = f"{item.sha256} {item.truth_sha256} {steps_sha256(recipe)}"
    key = hashlib.sha256(content.encode()).hexdigest()[:KEY_CHARACTERS]
    return {name: work / FOLDER / f"{key}.{name}.npy" for name in learning_of(recipe).arrays}


def fill(
    work: Path,
    items: Sequence[Listed],
    recipe: RunRecipe,
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
        paths = paths_of(work, item, recipe)
        if not all(path.is_file() for path in paths.values()):
            try:
                arrays = learning_of(recipe).prepared(load(item), recipe)
            except PreprocessError as error:
                remedy = "Correct the recipe's steps, or take the case out."
                raise CasesError(f"case {item.name}: {error}", remedy=remedy) from None
            for name, path in paths.items():
                partial = path.with_suffix(".partial")
                with partial.open("wb") as stream:
                    np.save(stream, arrays[name])
                partial.rename(path)
            made += 1
        progress(done + 1, len(items))
    return made


def kept_case(work: Path, item: Listed, recipe: RunRecipe) -> KeptCase:
    """A case as it was kept, memory-mapped."""
    paths = paths_of(work, item, recipe)
    arrays = {name: np.load(path, mmap_mode="c", allow_pickle=False) for name, path in paths.items()}
    return KeptCase(item.name, item.class_name or None, False, arrays)
