"""What decides a training run: a frozen settings tree, made from a recipe file (see recipe_file).

One kind for the canvas of the shipped packages, one for networks that read a grid.
"""

from __future__ import annotations

import hashlib

from pydantic import Field
from pydantic_core import to_json

from models.grid_steps import Grid
from models.networks.registry import EffNetLite0UNetSpec, NetworkSpec
from models.steps import PreprocessStep, Strict
from models.training.cases import DataKind
from models.training.settings import AugmentSettings, DiceOver, TrainSettings

LEADING = ("id", "kind", "classes", "network", "preprocess")


class TrainingSettings(Strict):
    """Section `training` of a recipe: batches, rates, regularisation, losses, augmentation."""

    canvas_rows: int = Field(ge=32, le=1024)  # cases are held on one canvas of this size while training
    canvas_columns: int = Field(ge=32, le=1024)
    augment: AugmentSettings
    batch: int = Field(ge=1)
    steps: int = Field(ge=1)
    encoder_rate: float = Field(gt=0)
    decoder_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warm_up_steps: int = Field(ge=1)
    ema_decay: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    drop_rate: float = Field(ge=0, lt=1)
    decoder_dropout: float = Field(default=0.0, ge=0, lt=1)  # of whole channels, before each step up
    dice_over: DiceOver
    class_weight: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    # Share of a batch's real slices that show a lesion; 0: drawn by class instead.
    positive_share: float = Field(ge=0, le=1)
    # Share of a batch that is generated, when generated cases are given.
    extra_share: float = Field(ge=0, le=1)


class Recipe(TrainingSettings):
    """Everything that decides a training run except data, seed and time."""

    id: str  # also the package's id
    kind: DataKind
    classes: tuple[str, ...]  # empty: no class head
    network: EffNetLite0UNetSpec
    preprocess: tuple[PreprocessStep, ...]

    @property
    def sha256(self) -> str:
        """Hash of the settings, recorded in the package and in checkpoints.

        Settings at their default are left out, and the order of fields is fixed, so that a new one does not
        change what older packages name.
        """
        fields = self.model_dump(mode="json", exclude_defaults=True)
        ordered = {name: fields.pop(name) for name in LEADING if name in fields} | fields
        return hashlib.sha256(to_json(ordered)).hexdigest()


class GridRecipe(Strict):
    """The same for a network on a grid, which learns what its objective says."""

    id: str
    kind: DataKind
    classes: tuple[str, ...]
    network: NetworkSpec
    grid: Grid
    learning: TrainSettings

    @property
    def sha256(self) -> str:
        """Hash of the settings; those at their default are left out, so that a new one changes nothing."""
        return hashlib.sha256(to_json(self.model_dump(mode="json", exclude_defaults=True))).hexdigest()

    @property
    def dimensions(self) -> int:
        """Of the network's windows."""
        return len(self.grid.tiling.window)


RunRecipe = Recipe | GridRecipe


class FineTuning(Strict):
    """Section `fine_tuning`: a second, shorter run from the first one's weights, a warm restart.

    It is there to learn what was generated after the first run, so more of a batch is generated; the average
    forgets faster because the run is short, and outlines get more of the loss than classes.
    """

    steps: int = Field(ge=1)
    rate_factor: float = Field(gt=0, le=1)
    warm_up_steps: int = Field(ge=1)
    ema_decay: float = Field(ge=0, lt=1)
    class_weight_factor: float = Field(ge=0)
    extra_share: float = Field(ge=0, le=1)


def fine_tuned(recipe: Recipe, tuning: FineTuning) -> Recipe:
    """The recipe of the second run."""
    return recipe.model_copy(
        update={
            "steps": tuning.steps,
            "encoder_rate": recipe.encoder_rate * tuning.rate_factor,
            "decoder_rate": recipe.decoder_rate * tuning.rate_factor,
            "warm_up_steps": tuning.warm_up_steps,
            "ema_decay": tuning.ema_decay,
            "class_weight": recipe.class_weight * tuning.class_weight_factor,
            "extra_share": tuning.extra_share,
        }
    )
