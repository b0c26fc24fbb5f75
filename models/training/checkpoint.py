"""A training run on disk: a folder of safetensors shards of at most 16 MiB and a JSON that names them.

`checkpoint/step-000000120/` holds `state.json` (where the run stands; bytes and sha256 of each shard; shape
of each tensor) and `000.safetensors` and on. A tensor is stored flat, in pieces `name@first element`, so
that a large one spreads over shards. The folder is written as `.partial`, synced and renamed: a kill leaves
the older or the newer checkpoint, never half of one. Shards are small so that they pass where single files
are limited in size.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from config.errors import PrereadError
from models.training.early_stopping import Best

SHARD_BYTES_MAX = 16 * 2**20
PAYLOAD_BYTES_MAX = 15 * 2**20  # of a shard; the rest is for the names of its pieces
STATE_NAME = "state.json"


class CheckpointError(PrereadError):
    """A checkpoint that is damaged or belongs to another run."""


@dataclass(frozen=True)
class RunIdentity:
    """What may not change when a run is resumed."""

    seed: int
    recipe_sha256: str
    split_sha256: str
    scored_fold: int = 0


@dataclass(frozen=True)
class RunState:
    """Where a run stands. Random numbers are made of seed and step: no generator has a state to keep."""

    identity: RunIdentity
    step: int = 0
    seconds: float = 0.0
    best: Best = field(default_factory=Best)


@dataclass(eq=False)
class Trained:
    """Everything that training changes. `average` and `best` are filled in place."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    best: dict[str, Tensor]  # the average at the best judgement; empty before one


def save_checkpoint(folder: Path, trained: Trained, state: RunState) -> None:
    """Write the run durably below `folder`; older checkpoints go once the new one is whole."""
    target = folder / f"step-{state.step:09d}"
    if target.exists():  # A stop right after a checkpoint: the run stands where it stood.
        return
    partial = folder / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = _tensors_of(trained)
    shards = []
    for number, pieces in enumerate(_shards(tensors)):
        path = partial / f"{number:03d}.safetensors"
        save_file(pieces, path)
        size = path.stat().st_size
        assert size <= SHARD_BYTES_MAX, f"{path} has {size} bytes"
        shards.append({"file": path.name, "bytes": size, "sha256": _hash_of(path)})
        _sync(path)
    content = {
        "state": asdict(state),
        "shapes": {name: list(value.shape) for name, value in tensors.items()},
        "shards": shards,
    }
    (partial / STATE_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _sync(partial / STATE_NAME)
    _sync(partial)
    partial.rename(target)
    _sync(folder)
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The checkpoint to resume from, None when there is none."""
    whole = [path for path in folder.glob("step-*") if not path.name.endswith(".partial")]
    return max(whole, default=None)


def load_checkpoint(path: Path, trained: Trained, identity: RunIdentity) -> RunState:
    """Fill network, optimizer, average and best in place.

    Raises
    ------
    CheckpointError
        A shard is missing or damaged, or the run is another one.
    """
    content: dict[str, Any] = json.loads((path / STATE_NAME).read_text(encoding="utf-8"))
    stored = content["state"]
    found = RunIdentity(**stored["identity"])
    if found != identity:
        raise CheckpointError(
            "the checkpoint belongs to another recipe, seed, split or fold",
            where=str(path),
            remedy="Train into another folder, or begin anew.",
        )
    pieces: dict[str, dict[int, Tensor]] = {name: {} for name in content["shapes"]}
    for shard in content["shards"]:
        file = path / shard["file"]
        if not file.is_file() or _hash_of(file) != shard["sha256"]:
            raise CheckpointError(
                f"{shard['file']} is missing or not the file that was written",
                where=str(path),
                remedy="Copy the checkpoint again, all files of it.",
            )
        for key, value in load_file(file).items():
            name, first = key.rsplit("@", 1)
            pieces[name][int(first)] = value
    tensors = {
        name: torch.cat([value for _, value in sorted(parts.items())]).reshape(content["shapes"][name])
        for name, parts in pieces.items()
    }
    _fill(trained, tensors)
    return RunState(found, stored["step"], stored["seconds"], Best(**stored["best"]))


def _tensors_of(trained: Trained) -> dict[str, Tensor]:
    tensors = {f"network/{key}": value for key, value in trained.network.state_dict().items()}
    tensors |= {f"average/{key}": value for key, value in trained.average.items()}
    tensors |= {f"best/{key}": value for key, value in trained.best.items()}
    for index, values in trained.optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if value is not None:  # SGD without momentum keeps none
                tensors[f"optimizer/{index}/{key}"] = value
    return tensors


def _fill(trained: Trained, tensors: dict[str, Tensor]) -> None:
    def under(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): one for key, one in tensors.items() if key.startswith(prefix)}

    trained.network.load_state_dict(under("network/"))
    for key, value in under("average/").items():
        trained.average[key].copy_(value)
    device = next(iter(trained.average.values())).device
    trained.best.update({key: value.to(device) for key, value in under("best/").items()})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in under("optimizer/").items():
        index, name = key.split("/")
        moments.setdefault(int(index), {})[name] = value
    groups = trained.optimizer.state_dict()["param_groups"]
    trained.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Pieces of all tensors in order, as many to a shard as fit."""
    shards: list[dict[str, Tensor]] = [{}]
    room = PAYLOAD_BYTES_MAX
    for name, value in tensors.items():
        # clone: safetensors refuses shared memory; the flat order of a channels_last tensor is its logical
        # one.
        flat = value.detach().cpu().contiguous().reshape(-1).clone()
        width, first = flat.element_size(), 0
        while True:
            if room < width:
                shards.append({})
                room = PAYLOAD_BYTES_MAX
            piece = flat[first : first + room // width].clone()
            shards[-1][f"{name}@{first}"] = piece
            room -= piece.numel() * width
            first += piece.numel()
            if first >= flat.numel():
                break
    return shards


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
