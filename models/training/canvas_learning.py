"""The lesion map and the classes of images on a canvas, from a recipe; see models.training.joint."""

from __future__ import annotations

from collections.abc import Iterable

from models.networks.building import build_network, in_channels_last
from models.steps import Standardise
from models.training.cases import Case
from models.training.joint import LesionOnCanvasObjective
from models.training.learning import Arrays, KeptCase, Learning, Start
from models.training.pretrained import load_imagenet
from models.training.recipes import Recipe
from models.training.settings import AdamW, LesionOnCanvas, Schedule, TrainSettings
from models.training.training_set import CaseSlices, TrainingSet, put_together, slices_of


def settings_of(recipe: Recipe) -> TrainSettings:
    """The parts of a recipe that the loop and this objective read."""
    return TrainSettings(
        objective=_objective_of(recipe),
        optimizer=AdamW(
            optimizer="adamw",
            rate=recipe.decoder_rate,
            encoder_rate=recipe.encoder_rate,
            weight_decay=recipe.weight_decay,
        ),
        schedule=Schedule(steps=recipe.steps, warm_up_steps=recipe.warm_up_steps),
        batch=recipe.batch,
        ema_decay=recipe.ema_decay,
        precision_cpu="bfloat16",
    )


def begin_on_canvas(recipe: Recipe, data: TrainingSet, start: Start) -> LesionOnCanvasObjective:
    """The recipe's network, from ImageNet or given weights, and what it learns from."""
    network = build_network(
        recipe.network,
        dropout=recipe.dropout,
        drop_rate=recipe.drop_rate,
        decoder_dropout=recipe.decoder_dropout,
    )
    if start.weights is not None:
        network.load_state_dict(start.weights)
    elif start.pretrained:
        load_imagenet(network.encoder)
    in_channels_last(network)  # measured: 1.2 x on two cores with bfloat16
    return LesionOnCanvasObjective(
        network.to(start.device),
        data.to(start.device),
        _objective_of(recipe),
        recipe.batch,
        next(step for step in recipe.preprocess if isinstance(step, Standardise)),
        recipe.classes,
    )


def _objective_of(recipe: Recipe) -> LesionOnCanvas:
    return LesionOnCanvas(
        learns="lesion_on_canvas",
        augment=recipe.augment,
        dice_over=recipe.dice_over,
        class_weight=recipe.class_weight,
        label_smoothing=recipe.label_smoothing,
        positive_share=recipe.positive_share,
        extra_share=recipe.extra_share,
    )


def _prepared(case: Case, recipe: Recipe) -> Arrays:
    slices = slices_of(case, recipe)
    return {"images": slices.images, "masks": slices.masks}


def _begin(
    recipe: Recipe, cases: Iterable[KeptCase], inner: Iterable[KeptCase], start: Start
) -> LesionOnCanvasObjective:
    slices = (
        CaseSlices(case.arrays["images"], case.arrays["masks"], case.class_name, case.is_simulated)
        for case in cases
    )
    return begin_on_canvas(recipe, put_together(slices, recipe), start)


def _steps(recipe: Recipe) -> object:
    steps = [step.model_dump(mode="json") for step in recipe.preprocess]
    return [steps, (recipe.canvas_rows, recipe.canvas_columns)]


def _simulated_share(recipe: Recipe, real: int, generated: int) -> float:
    """A batch has a fixed share of generated cases."""
    return round(recipe.batch * recipe.extra_share) / recipe.batch if generated else 0.0


CANVAS = Learning(("images", "masks"), _steps, _prepared, settings_of, _begin, _simulated_share)
