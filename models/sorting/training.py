"""The heads of a sorter, one for each fold it does not see, and what each says of what it never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.networks.building import TrainingNoise, build_own_network, in_channels_last
from models.networks.slim_classifier import EffNetLite0Slim
from models.sorting.answers import Probabilities, probabilities_of
from models.sorting.cases import ONLY_JUDGED, View
from models.sorting.learning import FeatureTable, SortingObjective, feature_table, row_chances
from models.sorting.manifest import Question
from models.sorting.recipe import SorterRecipe
from models.sorting.slices import network_input
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.loop import LoopResult, train
from models.training.pretrained import load_imagenet
from models.training.record import Progress

BATCH = 16
TABLE_NAME = "features.safetensors"


def fresh_network(recipe: SorterRecipe, noise: TrainingNoise) -> EffNetLite0Slim:
    """The encoder as ImageNet left it, and a new head."""
    torch.manual_seed(recipe.seed)
    network = build_own_network(recipe.network, noise)
    assert isinstance(network, EffNetLite0Slim), "the one network a recipe of a sorter may name"
    load_imagenet(network.encoder)
    in_channels_last(network)
    return network


def kept_table(recipe: SorterRecipe, views: Sequence[View], path: Path) -> FeatureTable:
    """The features of all images, computed once and kept in a file."""
    if not path.is_file():
        questions = [question.asked() for question in recipe.questions]
        made = feature_table(
            fresh_network(recipe, TrainingNoise()),
            views,
            questions,
            seed=recipe.seed,
            rows_least=recipe.training.rows_least,
            copies_max=recipe.training.copies_max,
        )
        save_file({"features": made.features, "truths": made.truths, "views": made.views}, path)
    found = load_file(path)
    return FeatureTable(found["features"], found["truths"], found["views"])


def train_without(
    fold: int,
    recipe: SorterRecipe,
    views: Sequence[View],
    table: FeatureTable,
    out: Path,
    *,
    split_sha256: str,
    progress: Callable[[Progress], None],
) -> LoopResult:
    """Train the head that does not see a fold, or go on with a run that was stopped; writes its weights."""
    network = fresh_network(recipe, TrainingNoise(dropout=recipe.training.dropout))
    seen = table.rows_of([view.fold not in (fold, ONLY_JUDGED) for view in views])
    objective = SortingObjective(
        network.head,
        seen,
        row_chances(seen, views, recipe.shares),
        [question.asked() for question in recipe.questions],
        recipe.training.batch,
        recipe.training.label_smoothing,
    )
    return train(
        objective,
        recipe.training.settings(),
        out,
        identity=RunIdentity(recipe.seed, recipe.sha256, split_sha256, fold),
        limits=LoopLimits(recipe.training.steps),
        resume=True,
        progress=progress,
    )


def trained_network(recipe: SorterRecipe, weights: Path) -> nn.Module:
    """The network with the head of a finished run, ready to answer."""
    network = fresh_network(recipe, TrainingNoise())
    network.head.load_state_dict(load_file(weights))
    return network.eval()


def said_of(
    network: nn.Module, questions: Sequence[Question], views: Sequence[View]
) -> list[dict[str, Probabilities]]:
    """Probabilities of each question for every view, meaned over its slices."""
    images = np.concatenate([view.judged_canvases for view in views])
    logits = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            part = torch.from_numpy(network_input(images[start : start + BATCH]))
            logits.append(network(part).double().numpy())
    rows, first, found = np.concatenate(logits), 0, []
    for view in views:
        found.append(probabilities_of(questions, rows[first : first + view.judged]))
        first += view.judged
    return found


def judged_by(views: Sequence[View], fold: int) -> list[View]:
    """What the network that does not see a fold is asked about; only the shipped one about pieces without."""
    return [view for view in views if view.fold == fold or (fold == 0 and view.fold == ONLY_JUDGED)]
