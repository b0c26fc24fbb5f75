"""One label for every voxel of a volume on a grid, from a recipe; see models.training.segmentation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from models.grid import labels_to_grid, to_grid
from models.networks.building import TrainingNoise, build_grid_network, build_own_network
from models.networks.own_specs import UNetSpec
from models.networks.registry import CanvasNetworkSpec, OnnxSpec
from models.training.cases import Case
from models.training.learning import Arrays, KeptCase, Learning, Start
from models.training.patch_set import GridCase, PatchSet, grid_case, patch_set, planes_of
from models.training.recipes import GridRecipe
from models.training.segmentation import VoxelLabelsObjective
from models.training.settings import TrainSettings, VoxelLabels


def prepared_on_grid(case: Case, recipe: GridRecipe) -> Arrays:
    """A case by the package's own steps: image (a, b, c) float16, labels (a, b, c), spacing (3,) in mm.

    An axis whose spacing is unknown counts as 1 mm: it decides only how rotation is drawn.
    """
    gridded = to_grid(case.volume, recipe.grid.steps)
    return {
        "image": gridded.image.astype(np.float16),
        "labels": labels_to_grid(case.labels, gridded),
        "spacing": np.array([1.0 if one is None else one for one in gridded.spacing_mm], np.float32),
    }


def begin_voxels(
    recipe: GridRecipe, cases: Iterable[KeptCase], inner: Iterable[KeptCase], start: Start
) -> VoxelLabelsObjective:
    """The recipe's network with fresh or given weights, and patches of the cases."""
    settings = recipe.learning.objective
    assert isinstance(settings, VoxelLabels), "the list of what can be trained"
    network = _network(recipe)
    if start.weights is not None:
        network.load_state_dict(start.weights)
    judged = [one for case in inner for one in _on_device(case, recipe, start.device)]
    return VoxelLabelsObjective(
        network.to(start.device),
        _patches(cases, recipe, start.device),
        settings,
        recipe.learning.batch,
        patch_set(judged) if judged else None,
    )


def _network(recipe: GridRecipe) -> nn.Module:
    spec = recipe.network
    if isinstance(spec, UNetSpec):
        return build_own_network(spec, TrainingNoise(dropout=recipe.learning.dropout))
    assert not isinstance(spec, CanvasNetworkSpec | OnnxSpec), "the recipe's own check"
    return build_grid_network(spec)


def _patches(cases: Iterable[KeptCase], recipe: GridRecipe, device: torch.device) -> PatchSet:
    return patch_set(one for case in cases for one in _on_device(case, recipe, device))


def _on_device(case: KeptCase, recipe: GridRecipe, device: torch.device) -> list[GridCase]:
    arrays = case.arrays
    whole = grid_case(case.name, arrays["image"][None], arrays["labels"], arrays["spacing"].tolist(), device)
    return planes_of(whole) if recipe.dimensions == 2 else [whole]


def _settings(recipe: GridRecipe) -> TrainSettings:
    return recipe.learning


def _steps(recipe: GridRecipe) -> object:
    return [step.model_dump(mode="json") for step in recipe.grid.steps]


def _simulated_share(recipe: GridRecipe, real: int, generated: int) -> float:
    """Every case is drawn as often as any other."""
    return generated / (real + generated) if generated else 0.0


VOXELS = Learning(
    ("image", "labels", "spacing"), _steps, prepared_on_grid, _settings, begin_voxels, _simulated_share
)
