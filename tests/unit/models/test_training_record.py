import copy
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from line_objective import LineObjective, line_objective, line_settings
from PIL import Image
from torch import nn

from config.errors import PrereadError
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.curves import curves_svg
from models.training.loop import TrainingError, step_seed, train
from models.training.record import Progress, Record
from models.training.settings import InnerPart, Sgd

SGD = Sgd(optimizer="sgd", rate=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
SVG = "{http://www.w3.org/2000/svg}"


def run(out, objective, settings, *, resume=True, progress=lambda _: None, **limits):
    return train(
        objective,
        settings,
        out,
        identity=RunIdentity(1, "-", "-"),
        limits=LoopLimits(settings.schedule.steps, log_steps=1, **limits),
        resume=resume,
        progress=progress,
    )


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_line_is_learnt(tmp_path):
    objective = line_objective()
    run(tmp_path, objective, line_settings(steps=150))
    found = objective.network.eval()(torch.tensor([[-1.0], [0.0], [1.0]])).flatten()
    assert torch.allclose(found, torch.tensor([-1.0, 1.0, 3.0]), atol=0.35)


def test_a_resumed_run_has_every_step_once_in_its_log(tmp_path):
    run(tmp_path, line_objective(), line_settings(steps=20), stop_after_seconds=0.0)
    lines = tmp_path / "metrics.jsonl"
    # As a kill leaves it: steps after the last checkpoint, and half a line.
    lines.write_text('{"step": 1, "squares": 1.0, "total": 1.0}\n{"step": 2, "squa')
    run(tmp_path, line_objective(), line_settings(steps=20))
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 21))


def test_a_fresh_run_forgets_checkpoint_and_log_of_an_earlier_one(tmp_path):
    run(tmp_path, line_objective(), line_settings(steps=20))
    steps = []
    run(
        tmp_path,
        line_objective(),
        line_settings(steps=5),
        resume=False,
        progress=lambda p: steps.append(p.step),
    )
    assert steps == [1, 2, 3, 4, 5]
    assert [row["step"] for row in rows(tmp_path)] == steps


def test_a_run_that_brings_nothing_more_ends_with_its_best_weights(tmp_path):
    inner = InnerPart(every_steps=2, patience=2)
    scores = [0.1, 0.5, 0.4, 0.5, 0.9]
    objective = line_objective(scores=scores)
    stopped = run(tmp_path / "a", objective, line_settings(steps=40, inner=inner))
    assert (stopped.finished, stopped.step, objective.judged) == (True, 8, 4)
    # The best judgement came after four steps: a run of these four alone ends with the same average.
    four = line_settings(steps=40, inner=inner.model_copy(update={"patience": 1}))
    best = run(tmp_path / "b", line_objective(scores=[0.1, 0.5, 0.4]), four)
    assert best.step == 6
    assert stopped.weights.read_bytes() == best.weights.read_bytes()
    watched = line_objective(scores=[0.1, 0.5, *[0.4] * 18])
    last = run(tmp_path / "c", watched, line_settings(steps=40, inner=InnerPart(every_steps=2)))
    assert (last.step, watched.judged) == (40, 20)
    assert last.weights.read_bytes() != best.weights.read_bytes()


def test_early_stopping_goes_on_where_it_stood_when_a_run_is_resumed(tmp_path):
    inner = InnerPart(every_steps=1, patience=3)
    settings = line_settings(steps=30, inner=inner)
    scores = [0.3, 0.2, 0.2, 0.2, 0.9]
    whole = run(tmp_path / "whole", line_objective(scores=scores), settings)
    assert whole.step == 4
    interrupted = line_objective(scores=scores, poisoned_at=4)
    with pytest.raises(TrainingError, match="not a number after step 4"):
        run(tmp_path / "a", interrupted, settings, checkpoint_seconds=0.0)
    resumed = run(tmp_path / "a", line_objective(scores=scores[3:]), settings)
    assert resumed.step == 4
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


def test_judging_leaves_the_run_as_it_would_have_been(tmp_path):
    judged = line_objective(scores=[0.5] * 10)
    one = run(tmp_path / "a", judged, line_settings(steps=10, inner=InnerPart(every_steps=1)))
    other = run(tmp_path / "b", line_objective(), line_settings(steps=10))
    assert one.weights.read_bytes() == other.weights.read_bytes()


def test_judging_without_inner_cases_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(PrereadError, match="no inner cases"):
        run(tmp_path, line_objective(), line_settings(steps=2, inner=InnerPart(every_steps=1)))


def test_gradients_are_clipped_to_the_declared_norm(tmp_path):
    moved = {}
    for clip in (1e-6, None):
        objective = line_objective()
        before = [one.detach().clone() for one in objective.network.parameters()]
        settings = line_settings(steps=1, clip_norm=clip, optimizer=SGD, ema_decay=0.0)
        run(tmp_path / str(clip), objective, settings)
        parts = zip(before, objective.network.parameters(), strict=True)
        moved[clip] = max(float((a - b.detach()).abs().max()) for a, b in parts)
    assert moved[1e-6] <= 1.1e-6 < moved[None]


def test_an_update_follows_the_mean_gradient_of_its_micro_batches(tmp_path):
    torch.manual_seed(1)
    network = nn.Linear(1, 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    by_hand = LineObjective(copy.deepcopy(network), batch=4)
    for micro_batch in range(3):
        batch = by_hand.draw(torch.Generator().manual_seed(step_seed(1, 0, micro_batch)))
        (by_hand.terms(by_hand.network(batch.x), batch)["total"] / 3).backward()
    lines = []
    settings = line_settings(steps=1, micro_batches=3, clip_norm=None, optimizer=SGD, ema_decay=0.0)
    run(tmp_path, LineObjective(network, batch=4), settings, progress=lines.append)
    for name, parameter in by_hand.network.named_parameters():
        assert torch.allclose(network.state_dict()[name], before[name] - parameter.grad)


def test_progress_says_loss_figures_time_left_and_memory():
    line = Progress(5, 0.5, {"dice": 0.25}, 60, 3725, {"dice": 0.8}, 3 * 2**29)
    assert line.words == "dice 0.250, inner dice 0.800, 1 h 02 min left, 1.5 GiB"


def test_progress_measures_memory_and_time(tmp_path):
    lines = []
    run(tmp_path, line_objective(), line_settings(steps=3), progress=lines.append)
    assert all(line.memory_bytes > 2**20 for line in lines)
    assert lines[-1].seconds_left < 60


def test_curves_hold_a_line_for_every_term_and_figure():
    log = [
        {"step": step, "share": step / 50, "seconds": 1.0, "total": 2 / step, "dice": 1 / step}
        | ({"inner_dice": 0.5 + step / 200} if step % 10 == 0 else {})
        for step in range(1, 51)
    ]
    root = ET.fromstring(curves_svg(log))
    lines = list(root.iter(f"{SVG}polyline"))
    assert len(lines) == 3
    words = [one.text for one in root.iter(f"{SVG}text")]
    assert {"total 0.040", "dice 0.020", "dice 0.750"} <= set(words)
    xs, ys = zip(*[map(float, pair.split(",")) for pair in lines[0].get("points").split()], strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)  # the loss falls: further down on the page


def test_a_judgement_draws_curves_and_keeps_one_sheet_of_pictures(tmp_path):
    record = Record(tmp_path, 0)
    picture = np.full((20, 30, 3), 200, np.uint8)
    record.keep_pictures(7, [picture] * 8)
    record.add(Progress(7, 0.5, {"total": 1.0}, 1, 1, {"dice": 0.5}))
    with Image.open(tmp_path / "pictures" / "step-000000007.png") as sheet:
        assert sheet.size == (120, 40)
    assert ET.parse(tmp_path / "curves.svg").getroot().tag == f"{SVG}svg"
    assert rows(tmp_path)[0]["inner_dice"] == 0.5
