"""A network trained again on its package's own training folds, as its recipe trains it, with teachers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic_core import to_json
from safetensors.torch import load_file
from torch import Tensor, nn

from config.errors import PrereadError
from models.compression.teaching import TaughtObjective
from models.training.allocation import keep_freed_memory
from models.training.cases import Case
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.learning import KeptCase, Learning, Start
from models.training.learnings import learning_of
from models.training.loop import train
from models.training.processes import joined
from models.training.recipes import RunRecipe
from models.training.record import Progress
from models.training.settings import TrainSettings

SCORED_FOLD = 0
WARM_UP_SHARE = 10  # one step in so many, at most
AVERAGED_SHARE = 10


@dataclass(frozen=True)
class Lessons:
    """How a student is trained.

    steps : of the run, whatever the recipe says
    teacher_weight : of the term that asks for agreement with the teachers
    rate_factor : on the recipe's rates; below 1 where the student has learnt before
    deadline_seconds : stop cleanly after this long; the next call goes on
    """

    steps: int
    teacher_weight: float
    rate_factor: float = 1.0
    deadline_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Retrained:
    """The student's weights, float32, and what they took."""

    weights: dict[str, Tensor]
    steps: int
    seconds: float
    recipe_sha256: str


def lesson_settings(settings: TrainSettings, lessons: Lessons) -> TrainSettings:
    """Of the student's run: as many steps as said, a warm-up and an average that fit into them."""
    rates = {
        name: rate * lessons.rate_factor
        for name in ("rate", "encoder_rate")
        if (rate := getattr(settings.optimizer, name)) is not None
    }
    warm_up = max(1, min(settings.schedule.warm_up_steps, lessons.steps // WARM_UP_SHARE))
    return settings.model_copy(
        update={
            "optimizer": settings.optimizer.model_copy(update=rates),
            "schedule": settings.schedule.model_copy(
                update={"steps": lessons.steps, "warm_up_steps": warm_up}
            ),
            "ema_decay": min(settings.ema_decay, 1 - AVERAGED_SHARE / max(AVERAGED_SHARE + 1, lessons.steps)),
            "inner": None,
        }
    )


def retrained(
    weights: dict[str, Tensor] | None,
    teachers: Sequence[nn.Module],
    recipe: RunRecipe,
    cases: Iterable[Case],
    lessons: Lessons,
    work: Path,
    *,
    seed: int,
    split_sha256: str,
    progress: Callable[[Progress], None],
) -> Retrained:
    """Train the student, or go on with what a stopped call left in `work`.

    Parameters
    ----------
    weights : with which the student begins; None: fresh, a known encoder from ImageNet
    teachers : in evaluation mode
    recipe : of the student; its steps and rates are replaced by those of the lessons
    cases : of the training folds, and generated ones

    Raises
    ------
    CheckpointError
        `work` holds another run.
    PrereadError
        The deadline came first.
    """
    learning = learning_of(recipe)
    settings = lesson_settings(learning.settings(recipe), lessons)
    identity = _identity(weights, teachers, recipe, lessons)
    work.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with joined() as processes:
        torch.manual_seed(seed)
        own = learning.begin(recipe, _kept(cases, learning, recipe), (), Start(processes.device, weights))
        result = train(
            TaughtObjective(own, [one.to(processes.device) for one in teachers], lessons.teacher_weight),
            settings,
            work,
            identity=RunIdentity(seed, identity, split_sha256, SCORED_FOLD),
            limits=LoopLimits(lessons.steps, stop_after_seconds=lessons.deadline_seconds),
            resume=True,
            progress=progress,
            processes=processes,
        )
    if result.weights is None:
        raise PrereadError(
            f"stopped at step {result.step} of {lessons.steps}",
            where=str(work),
            remedy="Call again with the same settings to go on.",
        )
    return Retrained(load_file(result.weights), result.step, result.seconds, recipe.sha256)


def _kept(cases: Iterable[Case], learning: Learning[RunRecipe], recipe: RunRecipe) -> Iterator[KeptCase]:
    for case in cases:
        yield KeptCase(case.name, case.class_name, case.is_simulated, learning.prepared(case, recipe))


def _identity(
    weights: dict[str, Tensor] | None, teachers: Sequence[nn.Module], recipe: RunRecipe, lessons: Lessons
) -> str:
    """Hash of everything that decides the student's weights but cases and seed."""
    content = hashlib.sha256(
        to_json([recipe.sha256, lessons.steps, lessons.rate_factor, lessons.teacher_weight])
    )
    for state in (weights or {}, *(one.state_dict() for one in teachers)):
        for name, value in sorted(state.items()):
            content.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
