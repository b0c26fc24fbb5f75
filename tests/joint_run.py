"""A run on a canvas without stages: the recipe's objective through the loop."""

import torch

from models.training.canvas_learning import begin_on_canvas, settings_of
from models.training.checkpoint import RunIdentity
from models.training.learning import Start
from models.training.loop import train
from models.training.processes import joined


def train_joint(
    data, recipe, out, *, seed, split_sha256, scored_fold=0, limits, resume, progress, pretrained=True
):
    """Train the recipe's network on a set."""
    with joined() as processes:
        torch.manual_seed(seed)
        return train(
            begin_on_canvas(recipe, data, Start(processes.device, pretrained=pretrained)),
            settings_of(recipe),
            out,
            identity=RunIdentity(seed, recipe.sha256, split_sha256, scored_fold),
            limits=limits,
            resume=resume,
            progress=progress,
            processes=processes,
        )
