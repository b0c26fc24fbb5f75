"""The training loop: draw, augment, forward in bfloat16, loss, AdamW on a cosine, moving average, checkpoint.

Every random number of step n is drawn from a seed made of (run seed, n), so a run that was killed and resumed
makes the same weights as one that was not, and there is no generator state to store.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.networks.building import build_network, in_channels_last
from models.networks.unet import EffNetLite0UNet
from models.steps import Standardise
from models.training.augment import augment
from models.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from models.training.lesion_change import Batch
from models.training.losses import joint_loss
from models.training.pretrained import load_imagenet
from models.training.recipes import Recipe
from models.training.training_set import TrainingSet, draw_batch

NO_LESION = "normal"  # the class of images without one


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    share: float  # of the schedule, 0 to 1
    loss: dict[str, float]
    seconds: float  # of training, over all resumptions
    seconds_left: float


@dataclass(frozen=True)
class LoopLimits:
    """When a run ends. The cosine follows whichever of steps and minutes is further, so it always
    completes.
    """

    steps: int
    minutes: float | None = None  # of training time
    stop_after_seconds: float | None = None  # of this call: stop cleanly, to be resumed
    checkpoint_seconds: float = 120.0
    log_steps: int = 25


@dataclass(frozen=True)
class LoopResult:
    """How a call of the loop ended."""

    finished: bool
    step: int
    seconds: float
    weights: Path | None  # moving average, float32 safetensors, once finished


def train(
    data: TrainingSet,
    recipe: Recipe,
    out: Path,
    *,
    seed: int,
    split_sha256: str,
    scored_fold: int = 0,
    limits: LoopLimits,
    resume: bool,
    progress: Callable[[Progress], None],
    pretrained: bool = True,
    initial_weights: dict[str, Tensor] | None = None,
) -> LoopResult:
    """Train until the limits; `out` receives checkpoint, metrics.jsonl and weights.safetensors.

    Raises
    ------
    ValueError
        Resuming a run that was started with another recipe, seed, split or fold.
    """
    torch.manual_seed(seed)
    network = build_network(
        recipe.network,
        dropout=recipe.dropout,
        drop_rate=recipe.drop_rate,
        decoder_dropout=recipe.decoder_dropout,
    )
    if initial_weights is not None:
        network.load_state_dict(initial_weights)
    elif pretrained:
        load_imagenet(network.encoder)
    in_channels_last(network)  # measured: 1.2 x on two cores with bfloat16
    optimizer = build_optimizer(network, recipe)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    average = {key: value.clone() for key, value in network.state_dict().items()}
    checkpoint = out / "checkpoint.safetensors"
    state = RunState(0, 0.0, seed, recipe.sha256, split_sha256, scored_fold)
    if resume and checkpoint.is_file():
        stored = load_checkpoint(checkpoint, network, average, optimizer)
        if replace(stored, step=state.step, seconds=state.seconds) != state:
            raise ValueError(
                f"{checkpoint} belongs to another recipe, seed, split or fold; train into another folder"
            )
        state = stored
    step, earlier_seconds = state.step, state.seconds
    began = saved = time.monotonic()
    log = out / "metrics.jsonl"
    while True:
        now = time.monotonic()
        seconds = earlier_seconds + now - began
        share = step / limits.steps
        if limits.minutes is not None:
            share = max(share, seconds / (60 * limits.minutes))
        stop = limits.stop_after_seconds is not None and now - began >= limits.stop_after_seconds
        if share >= 1 or stop or now - saved >= limits.checkpoint_seconds:
            state = replace(state, step=step, seconds=seconds)
            save_checkpoint(checkpoint, network, average, optimizer, state)
            saved = now
        if share >= 1:
            weights = out / "weights.safetensors"
            save_file({key: value.contiguous().clone() for key, value in average.items()}, weights)
            return LoopResult(True, step, seconds, weights)
        if stop:
            return LoopResult(False, step, seconds, None)
        warm = min(1.0, (step + 1) / recipe.warm_up_steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        loss = training_step(network, optimizer, data, recipe, seed=seed, step=step)
        step += 1
        update_average(average, network, min(recipe.ema_decay, (step + 1) / (step + 10)))
        if step % limits.log_steps == 0:
            seconds = earlier_seconds + time.monotonic() - began
            left = seconds / max(share, 1e-6) * (1 - share)
            line = Progress(step, share, loss, seconds, left)
            with log.open("a", encoding="utf-8") as stream:
                stream.write(
                    json.dumps({"step": step, "share": round(share, 4), "seconds": round(seconds, 1), **loss})
                    + "\n"
                )
            progress(line)


def build_optimizer(network: EffNetLite0UNet, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; the pretrained encoder learns slower than the fresh decoder."""
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    fresh = [parameter for parameter in network.parameters() if id(parameter) not in encoder]
    return torch.optim.AdamW(
        [
            {"params": list(network.encoder.parameters()), "lr": recipe.encoder_rate},
            {"params": fresh, "lr": recipe.decoder_rate},
        ],
        weight_decay=recipe.weight_decay,
    )


def step_seed(seed: int, step: int) -> int:
    """A seed for one step, far from its neighbours'."""
    return (seed * 1_000_003 + step * 7_919 + 17) % (2**62)


def training_step(
    network: EffNetLite0UNet,
    optimizer: torch.optim.Optimizer,
    data: TrainingSet,
    recipe: Recipe,
    *,
    seed: int,
    step: int,
) -> dict[str, float]:
    """One update; returns the terms of the loss."""
    generator = torch.Generator().manual_seed(step_seed(seed, step))
    torch.manual_seed(
        step_seed(seed, step) + 1
    )  # dropout and stochastic depth draw from the global generator
    indices = draw_batch(data, recipe.batch, recipe.extra_share, generator)
    image = data.images[data.neighbours[indices]].float()
    mask = data.masks[indices][:, None].float()
    no_lesion = recipe.classes.index(NO_LESION) if NO_LESION in recipe.classes else None
    image, mask, classes = augment(
        Batch(image, mask, data.classes[indices]), recipe.augment, no_lesion, generator
    )
    scale = next(item for item in recipe.preprocess if isinstance(item, Standardise))
    image = ((image - scale.mean) / scale.deviation).contiguous(memory_format=torch.channels_last)
    network.train()
    # bfloat16: 1.8 x faster than float32 on CPUs with avx512_bf16 and on GPUs; weights and losses stay
    # float32.
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(image)
    terms = joint_loss(
        maps,
        mask,
        classes if recipe.classes else None,
        over=recipe.dice_over,
        class_weight=recipe.class_weight,
        label_smoothing=recipe.label_smoothing,
    )
    optimizer.zero_grad()
    terms["total"].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return {key: float(value.detach()) for key, value in terms.items()}


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and batch statistics; counters are copied."""
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[key].mul_(decay).add_(value, alpha=1 - decay)
        else:
            average[key].copy_(value)
