"""From settings to an optimizer, the rate at each share of a run, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.training.objective import ParameterGroup
from models.training.settings import AdamW, Schedule, Sgd


def build_optimizer(groups: Sequence[ParameterGroup], settings: AdamW | Sgd) -> torch.optim.Optimizer:
    """An optimizer over the groups; a pretrained encoder learns at its own rate."""
    rows = [
        {
            "params": group.parameters,
            "lr": settings.encoder_rate if group.is_encoder and settings.encoder_rate else settings.rate,
        }
        for group in groups
    ]
    match settings:
        case AdamW():
            return torch.optim.AdamW(rows, weight_decay=settings.weight_decay)
        case Sgd():
            return torch.optim.SGD(
                rows,
                lr=settings.rate,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=settings.weight_decay,
            )


def rate_factor(schedule: Schedule, step: int, share: float) -> float:
    """What the rates are multiplied with in step `step` (0-based), `share` of the run being over."""
    warm = min(1.0, (step + 1) / schedule.warm_up_steps) if schedule.warm_up_steps else 1.0
    match schedule.decay:
        case "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * share))
        case "polynomial":
            return float(warm * max(0.0, 1 - share) ** schedule.power)
        case "none":
            return warm


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and batch statistics; counters are copied."""
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[key].mul_(decay).add_(value, alpha=1 - decay)
        else:
            average[key].copy_(value)
