"""One training run: data folder and recipe in, weights and the record of how they were made out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file

from models.training.allocation import keep_freed_memory
from models.training.cases import Case, list_cases, load_cases, load_extra
from models.training.clock import LoopLimits
from models.training.joint import train_joint
from models.training.recipes import Recipe, fine_tuning
from models.training.record import Progress
from models.training.split import check_against_folder, read_split, split_path
from models.training.training_set import build_training_set

RUN_NAME = "run.json"


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


def run_training(
    recipe: Recipe,
    data_folder: Path,
    out_folder: Path,
    *,
    seed: int = 45,
    scored_fold: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    stop_after_seconds: float | None = None,
    resume: bool = True,
    extra_cases: Path | Sequence[Case] | None = None,
    initial_weights: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingRun:
    """Train on all folds but `scored_fold`.

    Parameters
    ----------
    data_folder : the folder of the recipe's data set, or the folder that holds it
    out_folder : receives checkpoint/, metrics.jsonl, weights.safetensors (when finished) and
    run.json steps, minutes : length of the schedule (default: the recipe's steps); what ends first completes
    the cosine stop_after_seconds : stop cleanly after this long; call again with `resume` to go on
    extra_cases : generated cases mixed in (recipe.extra_share of each batch), or a folder of .npz with them
    initial_weights : of an earlier run: a shorter fine-tuning run from there, see recipes.fine_tuning

    Raises
    ------
    CasesError, SplitError
        The data folder is not the one the frozen split was drawn for, or the split leaks.
    ValueError
        Resuming another run's checkpoint.
    """
    folder = data_folder / recipe.kind if (data_folder / recipe.kind).is_dir() else data_folder
    if initial_weights is not None:
        recipe = fine_tuning(recipe)
    split = read_split(split_path(recipe.kind))
    check_against_folder(split, list_cases(recipe.kind, folder))
    out_folder.mkdir(parents=True, exist_ok=True)
    real = list(load_cases(recipe.kind, folder, split.training(scored_fold)))
    extra = load_extra(extra_cases) if isinstance(extra_cases, Path) else list(extra_cases or [])
    data = build_training_set([*real, *extra], recipe)
    keep_freed_memory()
    result = train_joint(
        data,
        recipe,
        out_folder,
        seed=seed,
        split_sha256=split.sha256,
        scored_fold=scored_fold,
        limits=LoopLimits(steps or recipe.steps, minutes, stop_after_seconds),
        resume=resume,
        progress=progress or (lambda _: None),
        initial_weights=load_file(initial_weights) if initial_weights is not None else None,
    )
    run = TrainingRun(
        recipe=recipe.id,
        recipe_sha256=recipe.sha256,
        split_sha256=split.sha256,
        scored_fold=scored_fold,
        seed=seed,
        steps=result.step,
        seconds=round(result.seconds, 1),
        real_cases=len(real),
        extra_cases=len(extra),
        simulated_fraction=round(recipe.batch * recipe.extra_share) / recipe.batch if extra else 0.0,
        finished=result.finished,
    )
    (out_folder / RUN_NAME).write_text(json.dumps(asdict(run), indent=2) + "\n", encoding="utf-8")
    return run
