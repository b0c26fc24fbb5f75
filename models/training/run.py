"""One training run: a training set and settings in, weights and the record of how they were made out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.training.allocation import keep_freed_memory
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.learning import KeptCase, Start
from models.training.learnings import learning_of
from models.training.loop import train
from models.training.processes import Processes, alone
from models.training.recipes import RunRecipe
from models.training.record import Progress

RUN_NAME = "run.json"
WEIGHTS_NAME = "weights.safetensors"


@dataclass(frozen=True)
class TrainingRun:
    """The record of a run, kept as run.json beside the weights."""

    recipe: str
    recipe_sha256: str
    split_sha256: str
    scored_fold: int
    seed: int
    steps: int
    seconds: float
    real_cases: int
    extra_cases: int
    simulated_fraction: float  # of the samples seen
    finished: bool


@dataclass(frozen=True)
class RunFacts:
    """Which run it is, and on how many cases."""

    split_sha256: str
    scored_fold: int
    seed: int
    real_cases: int
    extra_cases: int


def run_training(
    recipe: RunRecipe,
    cases: Iterable[KeptCase],
    out_folder: Path,
    identity: RunFacts,
    *,
    inner: Iterable[KeptCase] = (),
    minutes: float | None = None,
    stop_after_seconds: float | None = None,
    initial_weights: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    processes: Processes | None = None,
) -> TrainingRun:
    """Train, or go on with what a stopped call left in `out_folder`.

    Parameters
    ----------
    cases : to learn from, read once
    inner : to be judged on while training, where the settings say so
    out_folder : receives checkpoint/, metrics.jsonl, weights.safetensors (when finished) and
    run.json
    minutes : length of the schedule besides the recipe's steps; what ends first completes the cosine
    stop_after_seconds : stop cleanly after this long; call again to go on
    initial_weights : of an earlier run

    Raises
    ------
    ValueError
        The folder holds another run's checkpoint.
    """
    out_folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    learning = learning_of(recipe)
    settings = learning.settings(recipe)
    weights = load_file(initial_weights) if initial_weights is not None else None
    processes = processes or alone()
    torch.manual_seed(identity.seed)
    result = train(
        learning.begin(recipe, cases, inner, Start(processes.device, weights)),
        settings,
        out_folder,
        identity=RunIdentity(identity.seed, recipe.sha256, identity.split_sha256, identity.scored_fold),
        limits=LoopLimits(settings.schedule.steps, minutes, stop_after_seconds),
        resume=True,
        progress=progress or (lambda _: None),
        processes=processes,
    )
    run = TrainingRun(
        recipe=recipe.id,
        recipe_sha256=recipe.sha256,
        split_sha256=identity.split_sha256,
        scored_fold=identity.scored_fold,
        seed=identity.seed,
        steps=result.step,
        seconds=round(result.seconds, 1),
        real_cases=identity.real_cases,
        extra_cases=identity.extra_cases,
        simulated_fraction=learning.simulated_share(recipe, identity.real_cases, identity.extra_cases),
        finished=result.finished,
    )
    if processes.is_first:
        (out_folder / RUN_NAME).write_text(json.dumps(asdict(run), indent=2) + "\n", encoding="utf-8")
    return run


def read_run(folder: Path) -> TrainingRun:
    """The record of a finished run."""
    return TrainingRun(**json.loads((folder / RUN_NAME).read_text(encoding="utf-8")))
