import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.training.checkpoint import (
    SHARD_BYTES_MAX,
    CheckpointError,
    RunIdentity,
    RunState,
    Trained,
    load_checkpoint,
    newest,
    save_checkpoint,
)
from models.training.early_stopping import Best
from models.training.objective import ParameterGroup
from models.training.optimisation import build_optimizer
from models.training.settings import AdamW, Sgd

IDENTITY = RunIdentity(3, "recipe", "split", 1)
ADAMW = AdamW(optimizer="adamw", rate=1e-3)


def trained(width: int, settings: AdamW | Sgd = ADAMW, *, steps: int = 1) -> Trained:
    """A network that has learnt for some steps."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    optimizer = build_optimizer([ParameterGroup(list(network.parameters()))], settings)
    for _ in range(steps):
        network(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    average = {key: value.clone() for key, value in network.state_dict().items()}
    return Trained(network, optimizer, average, {})


def everything(one: Trained) -> dict[str, torch.Tensor]:
    moments = {
        f"{index}/{key}": value
        for index, values in one.optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    best = {f"best/{key}": value for key, value in one.best.items()}
    average = {f"average/{key}": value for key, value in one.average.items()}
    return {**one.network.state_dict(), **average, **moments, **best}


def same(a: Trained, b: Trained) -> bool:
    first, second = everything(a), everything(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "settings", [ADAMW, Sgd(optimizer="sgd", rate=1e-3)], ids=lambda settings: settings.optimizer
)
def test_everything_that_training_changes_comes_back(tmp_path, settings):
    before = trained(5, settings, steps=3)
    before.best.update({key: value + 1 for key, value in before.average.items()})
    state = RunState(IDENTITY, 3, 12.5, Best(0.5, 2, 1))
    save_checkpoint(tmp_path, before, state)
    after = trained(5, settings)
    assert not same(before, after)
    assert load_checkpoint(newest(tmp_path), after, IDENTITY) == state
    assert same(before, after)


def test_no_shard_is_larger_than_16_mib_and_large_tensors_are_spread(tmp_path):
    before = trained(700_000)  # AdamW: weights of 8 MiB, five times over
    save_checkpoint(tmp_path, before, RunState(IDENTITY, 1))
    shards = sorted(newest(tmp_path).glob("*.safetensors"))
    assert len(shards) > 2
    assert max(shard.stat().st_size for shard in shards) <= SHARD_BYTES_MAX
    pieces = [name for shard in shards for name in load_file(shard)]
    assert any(not name.endswith("@0") for name in pieces)
    after = trained(700_000, steps=0)
    load_checkpoint(newest(tmp_path), after, IDENTITY)
    assert same(before, after)


def test_kernels_laid_out_channels_last_keep_their_values(tmp_path):
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    values = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = build_optimizer([ParameterGroup(list(network.parameters()))], ADAMW)
    save_checkpoint(tmp_path, Trained(network, optimizer, dict(values), {}), RunState(IDENTITY))
    with torch.no_grad():
        network.weight.zero_()
    load_checkpoint(newest(tmp_path), Trained(network, optimizer, dict(values), {}), IDENTITY)
    assert torch.equal(network.weight, values["weight"])
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_cut_short_by_a_kill_is_not_resumed_from(tmp_path):
    save_checkpoint(tmp_path, trained(5), RunState(IDENTITY, 1))
    half = tmp_path / "step-000000002.partial"
    half.mkdir()
    assert newest(tmp_path).name == "step-000000001"
    save_checkpoint(tmp_path, trained(5), RunState(IDENTITY, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000002"]


def test_a_damaged_or_missing_shard_is_refused_by_name(tmp_path):
    save_checkpoint(tmp_path, trained(5), RunState(IDENTITY, 1))
    shard = newest(tmp_path) / "000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"000\.safetensors"):
        load_checkpoint(newest(tmp_path), trained(5), IDENTITY)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"000\.safetensors"):
        load_checkpoint(newest(tmp_path), trained(5), IDENTITY)


@pytest.mark.parametrize("change", ["seed", "recipe_sha256", "split_sha256", "scored_fold"])
def test_another_run_cannot_take_the_checkpoint(tmp_path, change):
    save_checkpoint(tmp_path, trained(5), RunState(IDENTITY, 1))
    other = RunIdentity(**{**vars(IDENTITY), change: 9 if change in ("seed", "scored_fold") else "other"})
    with pytest.raises(CheckpointError, match="another recipe, seed, split or fold"):
        load_checkpoint(newest(tmp_path), trained(5), other)


def test_the_state_can_be_read_without_torch(tmp_path):
    save_checkpoint(tmp_path, trained(5), RunState(IDENTITY, 7, 3.0))
    content = json.loads((newest(tmp_path) / "state.json").read_text())
    assert (content["state"]["step"], content["state"]["identity"]["seed"]) == (7, 3)
