"""Boxes of lesions in volumes on a grid, from a recipe; see models.training.detection."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from models.evaluation.lesions import numbered
from models.grid import labels_to_grid, to_grid
from models.networks.building import TrainingNoise, build_own_network
from models.networks.centernet import CenterNet
from models.networks.own_specs import CenterNetSpec
from models.training.cases import Case, CasesError
from models.training.detection import LesionBoxesObjective
from models.training.learning import Arrays, KeptCase, Learning, Start
from models.training.patch_set import GridCase, PatchSet, grid_case, patch_set
from models.training.recipes import GridRecipe
from models.training.settings import LesionBoxes, TrainSettings

LESIONS_MAX = 255  # labels are kept as bytes


def prepared_with_numbers(case: Case, recipe: GridRecipe) -> Arrays:
    """A case by the package's own steps, each connected lesion with a number of its own.

    Image (a, b, c) float16, labels (a, b, c) uint8, spacing (3,) in mm. A lesion that falls between the
    voxels of the grid is not learnt from.
    """
    lesions = numbered(case.mask)
    if (count := int(lesions.max())) > LESIONS_MAX:
        raise CasesError(f"case {case.name} has {count} separate lesions, at most {LESIONS_MAX} are learnt")
    gridded = to_grid(case.volume, recipe.grid.steps)
    return {
        "image": gridded.image.astype(np.float16),
        "labels": labels_to_grid(lesions.astype(np.uint8), gridded),
        "spacing": np.array([1.0 if one is None else one for one in gridded.spacing_mm], np.float32),
    }


def begin_boxes(
    recipe: GridRecipe, cases: Iterable[KeptCase], inner: Iterable[KeptCase], start: Start
) -> LesionBoxesObjective:
    """The recipe's detector with fresh or given weights, and patches of the cases."""
    settings, spec = recipe.learning.objective, recipe.network
    assert isinstance(settings, LesionBoxes), "the list of what can be trained"
    assert isinstance(spec, CenterNetSpec), "the recipe's own check"
    network = build_own_network(spec, TrainingNoise(dropout=recipe.learning.dropout))
    assert isinstance(network, CenterNet), "what this entry builds"
    if start.weights is not None:
        network.load_state_dict(start.weights)
    judged = [_on_device(case, start.device) for case in inner]
    return LesionBoxesObjective(
        network.to(start.device),
        _patches(cases, start.device),
        settings,
        recipe.learning.batch,
        patch_set(judged) if judged else None,
    )


def _patches(cases: Iterable[KeptCase], device: torch.device) -> PatchSet:
    return patch_set(_on_device(case, device) for case in cases)


def _on_device(case: KeptCase, device: torch.device) -> GridCase:
    arrays = case.arrays
    return grid_case(case.name, arrays["image"][None], arrays["labels"], arrays["spacing"].tolist(), device)


def _settings(recipe: GridRecipe) -> TrainSettings:
    return recipe.learning


def _steps(recipe: GridRecipe) -> object:
    return ["numbered", *(step.model_dump(mode="json") for step in recipe.grid.steps)]


def _simulated_share(recipe: GridRecipe, real: int, generated: int) -> float:
    """Every case is drawn as often as any other."""
    return generated / (real + generated) if generated else 0.0


BOXES = Learning(
    ("image", "labels", "spacing"), _steps, prepared_with_numbers, _settings, begin_boxes, _simulated_share
)
