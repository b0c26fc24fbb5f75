"""The smallest thing the loop can train: a line through noisy points, milliseconds a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from models.training.objective import Judgement, ParameterGroup, all_weights
from models.training.settings import (
    AdamW,
    AugmentSettings,
    InnerPart,
    LesionOnCanvas,
    Schedule,
    TrainSettings,
)
from models.training.smoke import SMOKE


class Points(NamedTuple):
    x: Tensor
    y: Tensor


def line_settings(*, steps: int = 20, inner: InnerPart | None = None, **changes: object) -> TrainSettings:
    """Settings whose objective part nobody reads."""
    augment: AugmentSettings = SMOKE.augment
    unused = LesionOnCanvas(
        learns="lesion_on_canvas",
        augment=augment,
        dice_over="batch",
        class_weight=0.0,
        label_smoothing=0.0,
        positive_share=0.0,
        extra_share=0.0,
    )
    settings = TrainSettings(
        objective=unused,
        optimizer=AdamW(optimizer="adamw", rate=0.05),
        schedule=Schedule(steps=steps),
        batch=8,
        ema_decay=0.5,
        inner=inner,
    )
    return settings.model_copy(update=changes)


@dataclass(eq=False)
class LineObjective:
    """y = 2 x + 1; the score of a judgement is taken from a list."""

    network: nn.Module
    batch: int = 8
    scores: list[float] | None = None
    judged: int = 0
    poisoned_at: int | None = None  # the draw whose points are not numbers
    drawn: int = 0

    @property
    def module(self) -> nn.Module:
        return self.network

    def groups(self) -> list[ParameterGroup]:
        return all_weights(self.network)

    def draw(self, generator: Generator) -> Points:
        x = torch.randn(self.batch, 1, generator=generator)
        y = 2 * x + 1 + 0.1 * torch.randn(self.batch, 1, generator=generator)
        self.drawn += 1
        return Points(x, y * torch.nan if self.drawn == self.poisoned_at else y)

    def forward(self, module: nn.Module, batch: Points) -> Tensor:
        found: Tensor = module(batch.x)
        return found

    def terms(self, outputs: Tensor, batch: Points) -> dict[str, Tensor]:
        loss = (outputs - batch.y).square().mean()
        return {"squares": loss, "total": loss}

    def judge(self, network: nn.Module) -> Judgement | None:
        if self.scores is None:
            return None
        score = self.scores[self.judged]
        self.judged += 1
        return Judgement(score, {"score": score})


def line_objective(**settings: object) -> LineObjective:
    torch.manual_seed(1)
    return LineObjective(nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.1), nn.Linear(4, 1)), **settings)  # type: ignore[arg-type]
