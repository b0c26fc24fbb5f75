"""Two processes that torchrun starts train as one does: the same losses to 1e-5, on the CPU over loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from grid_recipe import HIPPOCAMPUS, SMALL, made, write_cases
from safetensors.torch import load_file

from config.errors import PrereadError
from models.training.processes import Processes, alone

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
HERE = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.loop import train
from models.training.patch_set import patch_set
from models.training.processes import joined
from models.training.segmentation import VoxelLabelsObjective
from models.training.settings import InnerPart
from models.training.smoke_volumes import SMOKE_VOLUMES, smoke_network, smoke_volumes

settings = SMOKE_VOLUMES.model_copy(update={"micro_batches": 4, "inner": InnerPart(every_steps=3)})
with joined() as processes:
    network = smoke_network(seed=1 + processes.rank)
    # What the first process knows counts: another one's network and inner part do not.
    inner = patch_set(smoke_volumes(1, seed=processes.rank))
    objective = VoxelLabelsObjective(network, patch_set(smoke_volumes(3)), settings.objective, 2, inner)
    train(objective, settings, Path(sys.argv[1]), identity=RunIdentity(1, "-", "-"), resume=True,
          limits=LoopLimits(steps=4, log_steps=1, checkpoint_seconds=0), progress=lambda _: None,
          processes=processes)
    Path(sys.argv[1], f"rank-{processes.rank}-of-{processes.count}").touch()
"""


def losses(out: Path) -> list[float]:
    return [json.loads(line)["total"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def start(out: Path, launcher: list[str]) -> None:
    out.mkdir()
    script = out / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, *launcher, str(script), str(out)],
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_two_processes_make_the_losses_and_weights_of_one(tmp_path):
    start(tmp_path / "two", TORCHRUN)
    start(tmp_path / "one", [])
    assert {path.name for path in (tmp_path / "two").glob("rank-*")} == {"rank-0-of-2", "rank-1-of-2"}
    two, one = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert len(one) == 4
    assert two == pytest.approx(one, abs=1e-5)
    assert len(set(one)) == 4


def test_the_command_started_twice_trains_one_network(tmp_path):
    write_cases(tmp_path / "cases", 6)
    settings = [*SMALL, "learning.micro_batches=2", "learning.batch=2", "learning.schedule.steps=3"]
    command = [sys.executable, *TORCHRUN, "-m", "preread", "models", "train", str(HIPPOCAMPUS)]
    command += ["--data", str(tmp_path / "cases"), "--out", str(tmp_path / "two"), "--until", "train"]
    run = subprocess.run(
        [*command, *(word for one in settings for word in ("--set", one))],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    made(tmp_path, settings, work="one", until="train")
    two, one = (
        load_file(next((tmp_path / name / "train").glob("fold-0-*/weights.safetensors")))
        for name in ("two", "one")
    )
    for name, weights in two.items():
        torch.testing.assert_close(weights, one[name], atol=1e-5, rtol=1e-4)


def test_micro_batches_are_shared_out_so_that_each_is_computed_once():
    cpu = torch.device("cpu")
    parts = [list(Processes(rank, 3, cpu).share_of(6)) for rank in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(6))
    assert {len(part) for part in parts} == {2}


def test_a_number_that_cannot_be_shared_out_is_refused_with_the_remedy():
    with pytest.raises(PrereadError, match="5 micro-batches cannot be shared out among 2 processes"):
        Processes(0, 2, torch.device("cpu")).share_of(5)


def test_alone_nothing_is_wrapped_or_changed():
    processes = alone(torch.device("cpu"))
    module = torch.nn.Linear(1, 1)
    assert processes.wrapped(module) is module
    assert processes.mean(torch.tensor([3.0])).item() == 3
