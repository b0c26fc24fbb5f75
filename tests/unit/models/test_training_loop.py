import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from frozen_runs import RECIPES, SEED, STEPS, cases_of, hash_of_weights, machine, straight_run
from joint_run import train_joint
from safetensors.torch import load_file
from torch import nn

from models.networks.unet import Maps
from models.training.canvas_learning import settings_of
from models.training.checkpoint import CheckpointError
from models.training.clock import LoopLimits
from models.training.joint import LesionOnCanvasObjective
from models.training.smoke import SMOKE, smoke_cases
from models.training.training_set import build_training_set, draw_batch

TESTS = str(Path(__file__).parents[2])
# The same run in another process, so that it can be killed as the kernel kills: it says a line per step.
CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from joint_run import train_joint
from models.training.clock import LoopLimits
from models.training.smoke import SMOKE, smoke_cases
from models.training.training_set import build_training_set
train_joint(build_training_set(smoke_cases(9), SMOKE), SMOKE, Path(sys.argv[1]), seed=5, split_sha256="-",
            limits=LoopLimits(steps=6, checkpoint_seconds=0, log_steps=1), resume=True, pretrained=False,
            progress=lambda p: print(p.step, flush=True))
"""


def run(out, *, steps=6, progress=lambda _: None, seed=5, recipe=SMOKE, fold=0, **limits):
    out.mkdir(exist_ok=True)
    return train_joint(
        build_training_set(smoke_cases(9), recipe),
        recipe,
        out,
        seed=seed,
        split_sha256="-",
        scored_fold=fold,
        limits=LoopLimits(steps=steps, log_steps=1, **limits),
        resume=True,
        pretrained=False,
        progress=progress,
    )


def same_weights(a, b):
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_killed_and_resumed_makes_the_same_weights_as_one_that_was_not(tmp_path):
    killed = tmp_path / "killed"
    killed.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(killed), TESTS], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "1"
    assert child.stdout.readline().strip() == "2"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (killed / "weights.safetensors").exists()
    steps = []
    resumed = run(killed, progress=lambda line: steps.append(line.step))
    assert 1 < steps[0] <= 6  # it went on, it did not begin again
    assert same_weights(resumed.weights, run(tmp_path / "whole").weights)


def short_run(name, out):
    return train_joint(
        build_training_set(cases_of(name), RECIPES[name]),
        RECIPES[name],
        out,
        seed=SEED,
        split_sha256="-",
        limits=LoopLimits(steps=STEPS),
        resume=False,
        progress=lambda _: None,
        pretrained=name != "smoke",
    )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_shipped_recipes_make_the_weights_they_always_made(tmp_path, name):
    weights = short_run(name, tmp_path).weights
    plain = straight_run(name, pretrained=name != "smoke")
    found = load_file(weights)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[key], plain[key]) for key in plain)
    # The last bits are those of a processor and a recipe; where somebody has recorded them, they have not
    # changed since.
    recorded = json.loads(Path(__file__).with_name("frozen_runs.json").read_text(encoding="utf-8"))
    assert hash_of_weights(weights) == recorded.get(machine(), {}).get(
        RECIPES[name].sha256, hash_of_weights(weights)
    )


def test_a_run_stops_cleanly_at_its_deadline_and_goes_on_when_called_again(tmp_path):
    stopped = run(tmp_path / "a", steps=3, stop_after_seconds=0.0)
    assert (stopped.finished, stopped.step, stopped.weights) == (False, 0, None)
    finished = run(tmp_path / "a", steps=3)
    assert finished.finished
    assert same_weights(finished.weights, run(tmp_path / "b", steps=3).weights)


def test_minutes_complete_the_schedule_before_all_steps_are_done(tmp_path):
    result = run(tmp_path / "a", steps=10_000, minutes=0.5 / 60)
    assert result.finished
    assert result.step < 10_000


def test_another_seed_recipe_split_or_fold_cannot_resume_a_run(tmp_path):
    run(tmp_path / "a", steps=3, stop_after_seconds=0.0)
    with pytest.raises(CheckpointError, match="another recipe, seed, split or fold"):
        run(tmp_path / "a", seed=6)
    with pytest.raises(CheckpointError, match="another recipe, seed, split or fold"):
        run(tmp_path / "a", recipe=SMOKE.model_copy(update={"weight_decay": 0.5}))
    with pytest.raises(CheckpointError, match="another recipe, seed, split or fold"):
        run(tmp_path / "a", fold=1)


def test_training_lowers_the_loss_and_logs_every_step(tmp_path):
    lines = []
    run(tmp_path / "a", steps=24, progress=lines.append)
    losses = [line.loss["total"] for line in lines]
    assert np.median(losses[-8:]) < 0.85 * np.median(losses[:6])
    logged = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == list(range(1, 25))
    assert lines[-1].share == pytest.approx(23 / 24)


def test_batches_hold_the_declared_share_of_generated_slices():
    cases = smoke_cases(9)
    extra = [
        type(case)(
            f"x{case.name}",
            case.group,
            case.stratum,
            case.volume,
            case.mask,
            case.class_name,
            is_simulated=True,
        )
        for case in cases[:3]
    ]
    data = build_training_set([*cases, *extra], SMOKE)
    drawn = draw_batch(data, 200, 0.25, torch.Generator().manual_seed(1))
    assert int((drawn >= 9).sum()) == 50
    without = build_training_set(cases, SMOKE)
    assert int((draw_batch(without, 200, 0.25, torch.Generator().manual_seed(1)) >= 9).sum()) == 0


def test_rare_classes_are_drawn_more_often_than_found():
    data = build_training_set(smoke_cases(60), SMOKE)
    drawn = draw_batch(data, 4000, 0.0, torch.Generator().manual_seed(1))
    share = float((data.classes[drawn] == 1).float().mean())
    assert 1 / 3 < share < 1 / 2


class BrightIsLesion(nn.Module):
    """Calls what is bright a lesion, and an image that is mostly dark benign."""

    def __init__(self, turned: float) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, x):
        dark = (x.mean((1, 2, 3)) < -0.5).float() * 2 - 1
        return Maps(x * self.turned, [], torch.stack([dark, -dark], 1) * self.turned)


def test_held_back_slices_are_judged_by_outline_and_class():
    inner = build_training_set(smoke_cases(12, seed=5), SMOKE)
    objective = LesionOnCanvasObjective(
        nn.Linear(1, 1), inner, settings_of(SMOKE).objective, 4, SMOKE.preprocess[-1], SMOKE.classes, inner
    )
    good, bad = objective.judge(BrightIsLesion(1.0)), objective.judge(BrightIsLesion(-1.0))
    assert good.figures["dice"] > 0.9
    assert good.figures["accuracy"] == 1.0
    assert bad.figures == {"dice": pytest.approx(0.0, abs=0.1), "accuracy": 0.0}
    assert good.score == pytest.approx((good.figures["dice"] + 1) / 2)
    assert len(good.pictures) == 8
