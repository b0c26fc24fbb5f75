"""One file that holds a training run: weights, their moving average, optimizer state, step and time.

A single safetensors file, replaced by rename after a sync, so that a kill leaves either the old or the new
one.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class RunState:
    """Where a run stands."""

    step: int
    seconds: float
    seed: int
    recipe_sha256: str
    split_sha256: str
    scored_fold: int = 0  # a checkpoint that names none is of a run without fold 0


def save_checkpoint(
    path: Path,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: RunState,
) -> None:
    """Write the run durably."""
    tensors = {f"network/{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"average/{key}": value for key, value in average.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in values.items()}
    partial = path.with_suffix(".partial")
    # clone: safetensors refuses shared memory and layouts that are not contiguous (channels_last).
    save_file(
        {key: value.detach().contiguous().clone() for key, value in tensors.items()},
        partial,
        {"state": json.dumps(asdict(state))},
    )
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.rename(path)


def load_checkpoint(
    path: Path, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> RunState:
    """Fill network, average and optimizer in place."""
    with safe_open(path, "pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118  # not a mapping
        state = RunState(**json.loads(stored.metadata()["state"]))
    network.load_state_dict(
        {key.removeprefix("network/"): value for key, value in tensors.items() if key.startswith("network/")}
    )
    average.update(
        {key.removeprefix("average/"): value for key, value in tensors.items() if key.startswith("average/")}
    )
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state
