"""The stages that train: one network for each fold, and a short second run where the recipe has one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from models.package import hash_of
from models.training import cache
from models.training.case_stages import cases_key
from models.training.cases import Case, CasesError, Listed
from models.training.inner_part import inner_part
from models.training.judged_on import CasesIn
from models.training.learning import KeptCase
from models.training.learnings import learning_of
from models.training.order import VERSIONS, Order
from models.training.recipes import Recipe, RunRecipe, fine_tuned
from models.training.record import Progress
from models.training.run import WEIGHTS_NAME, RunFacts, TrainingRun, read_run, run_training
from models.training.split import Split
from models.training.stages import Telling, Unfinished, Work


@dataclass(frozen=True)
class Trained:
    """The network that did not see a fold: its runs, oldest first, and the last one's weights."""

    runs: list[TrainingRun]
    weights: Path


class Trainer:
    """Trains networks of one recipe; generated cases are made once for all of them, when one is trained."""

    def __init__(self, order: Order, work: Work, cases: CasesIn) -> None:
        self.order, self.work, self.cases = order, work, cases
        self.cases_key = cases_key(cases)
        self.began = time.monotonic()

    def train(self, split: Split, fold: int, *, name: str | None = None) -> Trained:
        """The network that does not see `fold`.

        Parameters
        ----------
        name : of the stage's folder, else that of the fold

        Raises
        ------
        CasesError
            There is no such fold.
        Unfinished
            The deadline came first.
        """
        if fold not in split.fold_numbers:
            raise CasesError(f"there is no fold {fold}", remedy=f"Known: {split.fold_numbers}.")
        recipe, place, seed = self.order.recipe, name or f"fold-{fold}", self.order.recipe.seed
        folder = self._run(f"train/{place}", recipe.run, split, fold, seed, None)
        runs = [read_run(folder)]
        if recipe.fine_tuning is not None:
            run = recipe.run
            assert isinstance(run, Recipe), "the recipe's own check"
            tuned, first = fine_tuned(run, recipe.fine_tuning), folder / WEIGHTS_NAME
            folder = self._run(f"fine-tune/{place}", tuned, split, fold, seed + 1, first)
            runs.append(read_run(folder))
        return Trained(runs, folder / WEIGHTS_NAME)

    def _run(
        self, name: str, recipe: RunRecipe, split: Split, fold: int, seed: int, start: Path | None
    ) -> Path:
        section, learning = self.order.recipe.generated, learning_of(recipe)
        settings = learning.settings(recipe)
        inputs = {
            "version": VERSIONS["train"],
            "recipe": recipe.sha256,
            "split": split.sha256,
            "cases": self.cases_key,
            "fold": fold,
            "seed": seed,
            "minutes": self.order.minutes,
            "generated": None if section is None else [section.like, section.cases, self.order.recipe.seed],
            "start": None if start is None else hash_of(start),
        }

        def progress(line: Progress) -> None:
            losses = ", ".join(f"{part} {value:.3f}" for part, value in line.loss.items())
            self.work.tell(Telling(name, f"{losses}; {line.seconds_left / 60:.0f} min left", line.share))

        def make(out: Path) -> None:
            items, inner = split.training(fold), []
            if settings.inner is not None:
                parts = inner_part(split, fold, share=settings.inner.share, seed=seed)
                items, inner = parts.training, parts.inner
            extra = [
                KeptCase(case.name, case.class_name, True, learning.prepared(case, recipe))
                for case in self._generated
            ]
            run = run_training(
                recipe,
                [*(self._kept(item, recipe) for item in items), *extra],
                out,
                RunFacts(split.sha256, fold, seed, len(items), len(self._generated)),
                inner=[self._kept(item, recipe) for item in inner],
                minutes=self.order.minutes,
                stop_after_seconds=self._seconds_left(),
                initial_weights=start,
                progress=progress,
                processes=self.work.processes,
            )
            if not run.finished:
                raise Unfinished(f"{name} stopped at step {run.steps} of {settings.schedule.steps}")

        return self.work.stage(name, inputs, make, together=True)

    def _kept(self, item: Listed, recipe: RunRecipe) -> KeptCase:
        return cache.kept_case(self.work.folder, self.cases.items[item.name], recipe)

    @cached_property
    def _generated(self) -> list[Case]:
        section = self.order.recipe.generated
        if section is None or not section.cases:
            return []
        words = f"{section.cases} cases like {section.like}"
        self.work.tell(Telling("generate", words))
        cases = list(self.order.generate(section.like, section.cases, self.order.recipe.seed))
        self.work.tell(Telling("generate", words, 1.0))
        return cases

    def _seconds_left(self) -> float | None:
        deadline = self.order.deadline_seconds
        return None if deadline is None else max(0.0, deadline - (time.monotonic() - self.began))
