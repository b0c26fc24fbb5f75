"""The closed list of what can be trained from a recipe, by what its objective learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.training.box_learning import BOXES
from models.training.canvas_learning import CANVAS
from models.training.learning import Learning
from models.training.recipes import GridRecipe, Recipe, RunRecipe
from models.training.voxel_learning import VOXELS

LEARNINGS: Mapping[str, Learning[Any]] = {
    "lesion_on_canvas": CANVAS,
    "voxel_labels": VOXELS,
    "lesion_boxes": BOXES,
}


def learning_of(recipe: RunRecipe) -> Learning[Any]:
    """How this recipe is learnt."""
    if isinstance(recipe, Recipe):
        return CANVAS
    assert isinstance(recipe, GridRecipe)
    return LEARNINGS[recipe.learning.objective.learns]
