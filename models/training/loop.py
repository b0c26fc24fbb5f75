"""The training loop: draw, augment, forward, loss, step, moving average, judgement, checkpoint.

What is learnt is an `Objective`; everything else is here or in `TrainSettings`. Every random number of step
n is drawn from a seed made of (run seed, n), so a run that was killed and resumed makes the same weights as
one that was not, and there is no generator state to store.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from config.errors import PrereadError
from models.training.checkpoint import (
    RunIdentity,
    RunState,
    Trained,
    load_checkpoint,
    newest,
    save_checkpoint,
)
from models.training.clock import Clock, LoopLimits
from models.training.judging import judged_average
from models.training.objective import TOTAL, AnyObjective, Judgement
from models.training.optimisation import build_optimizer, rate_factor, update_average
from models.training.processes import Processes, alone
from models.training.record import Progress, Record
from models.training.settings import TrainSettings

CHECKPOINT_FOLDER, WEIGHTS_NAME = "checkpoint", "weights.safetensors"


class TrainingError(PrereadError):
    """A run that cannot go on."""


@dataclass(frozen=True)
class LoopResult:
    """How a call of the loop ended."""

    finished: bool
    step: int
    seconds: float
    weights: Path | None  # moving average, or the best judged one; float32 safetensors, once finished


@dataclass(frozen=True, eq=False)
class _Run:
    """What stays the same object through all steps."""

    objective: AnyObjective
    settings: TrainSettings
    processes: Processes
    module: nn.Module  # the objective's, wrapped for several processes
    trained: Trained
    rates: list[float]  # of each group at factor 1
    micro_batches: range  # of each update that this process computes
    seed: int

    @property
    def patience(self) -> int | None:
        """Of early stopping; None: the run goes to its end."""
        return self.settings.inner.patience if self.settings.inner else None

    @property
    def is_bfloat16(self) -> bool:
        """Whether the forward pass runs in bfloat16 on this device."""
        chosen = self.settings.precision_cuda, self.settings.precision_cpu
        return chosen[self.processes.device.type != "cuda"] == "bfloat16"


def train(
    objective: AnyObjective,
    settings: TrainSettings,
    out: Path,
    *,
    identity: RunIdentity,
    limits: LoopLimits,
    resume: bool,
    progress: Callable[[Progress], None],
    processes: Processes | None = None,
) -> LoopResult:
    """Train until the limits, or until the inner part gets no better.

    `out` receives checkpoint/, metrics.jsonl, curves.svg, pictures/ and, when finished, weights.safetensors.

    Raises
    ------
    CheckpointError
        Resuming a run that was started with another recipe, seed, split or fold, or a damaged checkpoint.
    TrainingError
        The loss is not a number any more, or the inner part to judge with is missing.
    """
    run, state = _begin(objective, settings, out, identity, resume, processes or alone(torch.device("cpu")))
    record = Record(out, state.step) if run.processes.is_first else None
    clock = Clock(limits, state.seconds)
    while True:
        turn = clock.turn(state.step, run.processes)
        state = replace(state, seconds=turn.seconds)
        ended = turn.share >= 1 or state.best.has_run_out(run.patience)
        if ended or turn.is_due or turn.is_stopped:
            if run.processes.is_first:
                save_checkpoint(out / CHECKPOINT_FOLDER, run.trained, state)
            clock.saved()
        if ended:
            return LoopResult(True, state.step, turn.seconds, _shipped(run, out))
        if turn.is_stopped:
            return LoopResult(False, state.step, turn.seconds, None)
        terms = _update(run, state.step, turn.share)
        state = replace(state, step=state.step + 1)
        figures: dict[str, float] = {}
        if settings.inner and state.step % settings.inner.every_steps == 0:
            state, judgement = _judged(run, state)
            figures = judgement.figures
            if record:
                record.keep_pictures(state.step, judgement.pictures)
        if figures or state.step % limits.log_steps == 0:
            losses = _agreed_losses(terms, state.step, run.processes)
            if record:
                line = clock.progress(state.step, turn.share, losses, figures, run.processes.device)
                record.add(line)
                progress(line)


def step_seed(seed: int, step: int, micro_batch: int = 0) -> int:
    """A seed for one micro-batch of one step, far from its neighbours'."""
    return (seed * 1_000_003 + step * 7_919 + micro_batch * 15_485_863 + 17) % (2**62)


def _begin(
    objective: AnyObjective,
    settings: TrainSettings,
    out: Path,
    identity: RunIdentity,
    resume: bool,
    processes: Processes,
) -> tuple[_Run, RunState]:
    """A fresh run, or the one whose checkpoint lies in `out`."""
    if processes.device.type == "cuda":  # On the CPU the same seed makes the same weights without it.
        torch.use_deterministic_algorithms(True, warn_only=True)
    micro_batches = processes.share_of(settings.micro_batches)
    network, folder = objective.network, out / CHECKPOINT_FOLDER
    optimizer = build_optimizer(objective.groups(), settings.optimizer)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    average = {key: value.clone() for key, value in network.state_dict().items()}
    trained, state = Trained(network, optimizer, average, {}), RunState(identity)
    if resume and (stored := newest(folder)):
        state = load_checkpoint(stored, trained, identity)
    processes.wait()  # Nobody writes or removes a checkpoint while another reads it.
    if not resume and processes.is_first:
        shutil.rmtree(folder, ignore_errors=True)
    module = processes.wrapped(objective.module)
    return _Run(objective, settings, processes, module, trained, rates, micro_batches, identity.seed), state


def _update(run: _Run, step: int, schedule_share: float) -> dict[str, Tensor]:
    """One update of weights and average; returns the terms of the loss, meaned over this process's part.

    A micro-batch has seeds of its own: whichever process computes it computes the same.
    """
    optimizer, device, parts = run.trained.optimizer, run.processes.device, len(run.micro_batches)
    factor = rate_factor(run.settings.schedule, step, schedule_share)
    for group, rate in zip(optimizer.param_groups, run.rates, strict=True):
        group["lr"] = rate * factor
    optimizer.zero_grad()
    total: dict[str, Tensor] = {}
    for micro_batch in run.micro_batches:
        seed = step_seed(run.seed, step, micro_batch)
        generator = torch.Generator(device).manual_seed(seed)
        torch.manual_seed(seed + 1)  # dropout and stochastic depth draw from the global generator
        batch = run.objective.draw(generator)
        run.objective.network.train()
        with _gradients_kept(run.module, micro_batch == run.micro_batches[-1]):
            # bfloat16: 1.8 x faster than float32 on CPUs with avx512_bf16 and on GPUs; weights and losses
            # stay float32.
            with torch.autocast(device.type, torch.bfloat16, enabled=run.is_bfloat16):
                outputs = run.objective.forward(run.module, batch)
            terms = run.objective.terms(outputs, batch)
            (terms[TOTAL] / parts).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for name, value in terms.items():
            total[name] = total.get(name, torch.zeros_like(value)) + value.detach() / parts
    if run.settings.clip_norm is not None:
        learning = [one for group in optimizer.param_groups for one in group["params"]]
        nn.utils.clip_grad_norm_(learning, run.settings.clip_norm)
    optimizer.step()
    # A young average forgets faster, or it would long remember the first, random weights.
    decay = min(run.settings.ema_decay, (step + 2) / (step + 11))
    update_average(run.trained.average, run.trained.network, decay)
    return total


def _judged(run: _Run, state: RunState) -> tuple[RunState, Judgement]:
    """The average judged on the inner part, and kept when it is the best so far."""
    judgement = judged_average(run.objective, run.trained.average)
    # One process's score: whether a run ends must not hang on the last bits of several devices.
    score = run.processes.agreed(torch.tensor([judgement.score], dtype=torch.float64)).item()
    state = replace(state, best=state.best.after(score, state.step))
    if run.patience is not None and state.best.step == state.step:
        run.trained.best.update({key: value.clone() for key, value in run.trained.average.items()})
    return state, judgement


@contextlib.contextmanager
def _gradients_kept(module: nn.Module, is_last: bool) -> Iterator[None]:
    """Processes exchange gradients once per update, with the last micro-batch."""
    if isinstance(module, nn.parallel.DistributedDataParallel) and not is_last:
        with module.no_sync():
            yield
    else:
        yield


def _agreed_losses(terms: dict[str, Tensor], step: int, processes: Processes) -> dict[str, float]:
    """The terms as numbers, meaned over all processes."""
    names = sorted(terms)
    means = processes.mean(torch.stack([terms[name].float() for name in names])).tolist()
    losses = dict(zip(names, means, strict=True))
    if not all(math.isfinite(value) for value in losses.values()):
        raise TrainingError(
            f"the loss is not a number after step {step}: {losses}",
            remedy="Lower the rate, lengthen the warm-up or train in float32.",
        )
    return {name: losses[name] for name in terms}


def _shipped(run: _Run, out: Path) -> Path:
    """Write the weights that the run is for."""
    path = out / WEIGHTS_NAME
    weights = run.trained.best or run.trained.average
    if run.processes.is_first:
        save_file({key: value.cpu().contiguous().clone() for key, value in weights.items()}, path)
    run.processes.wait()
    return path
