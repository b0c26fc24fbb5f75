"""The teachers' term: 0 where both say the same, and a student that hears it agrees with its teacher more."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from config.errors import PrereadError
from models.compression.retraining import Lessons, lesson_settings, retrained
from models.compression.teaching import TEACHER, TaughtObjective, divergence, log_probabilities
from models.networks.building import build_grid_network, build_network
from models.networks.encoder import EXPANDED
from models.networks.own_specs import UNetSpec
from models.networks.unet import Maps
from models.training.canvas_learning import settings_of
from models.training.checkpoint import CheckpointError, RunIdentity
from models.training.clock import LoopLimits
from models.training.joint import LesionOnCanvasObjective
from models.training.loop import train
from models.training.objective import TOTAL
from models.training.patch_set import patch_set, planes_of
from models.training.segmentation import VoxelLabelsObjective
from models.training.settings import AdamW, Schedule, TrainSettings, VoxelLabels
from models.training.smoke import SMOKE, smoke_cases
from models.training.smoke_volumes import smoke_volumes
from models.training.training_set import build_training_set

NARROW = SMOKE.network.model_copy(
    update={"expanded": tuple(width // 24 for width in EXPANDED), "decoder_channels": (8, 8, 4, 4)}
)
RECIPE = SMOKE.model_copy(update={"network": NARROW, "dropout": 0.0, "drop_rate": 0.0})
LESSONS = Lessons(steps=4, teacher_weight=3.0)
PLANES = VoxelLabels(learns="voxel_labels", patch=(16, 16))


def network(seed):
    torch.manual_seed(seed)
    return build_network(NARROW).eval()


@pytest.fixture(scope="module")
def teacher():
    return network(7)


def taught(out, teacher, lessons, **other):
    return retrained(
        network(1).state_dict(),
        [teacher],
        RECIPE,
        smoke_cases(8),
        lessons,
        out,
        seed=3,
        split_sha256="0" * 64,
        progress=lambda _: None,
        **other,
    )


def test_a_student_with_a_teacher_agrees_with_it_more_than_one_without(tmp_path):
    """The teacher has learnt nothing and calls everything label 2: no case says so."""
    flat = UNetSpec(registry="unet@1", dimensions=2, in_channels=1, heads=3, features=(4, 8), side_outputs=0)
    cases = [plane for case in smoke_volumes(4) for plane in planes_of(case)]
    torch.manual_seed(0)
    teacher = build_grid_network(flat).eval()
    with torch.no_grad():
        teacher.head.bias += torch.tensor([0.0, 0.0, 2.0])
    said = {}
    for weight in (0.0, 5.0):
        torch.manual_seed(1)
        own = VoxelLabelsObjective(build_grid_network(flat), patch_set(cases), PLANES, 8)
        result = train(
            TaughtObjective(own, [teacher], weight),
            TrainSettings(
                objective=PLANES,
                optimizer=AdamW(optimizer="adamw", rate=2e-2),
                schedule=Schedule(steps=30),
                batch=8,
                ema_decay=0.5,
            ),
            tmp_path / f"{weight}",
            identity=RunIdentity(3, "-", "-"),
            limits=LoopLimits(30),
            resume=False,
            progress=lambda _: None,
        )
        student = build_grid_network(flat).eval()
        student.load_state_dict(load_file(result.weights))
        images = torch.stack([case.image.float()[:, :16, :16] for case in cases[:8]])
        with torch.inference_mode():
            answers = [log_probabilities(one(images))[0] for one in (student, teacher)]
        said[weight] = float(divergence(*answers))
    assert said[5.0] < 0.5 * said[0.0]


def test_divergence_is_that_of_two_coins_and_0_of_the_same():
    logs = [log_probabilities(Maps(torch.full((2, 1, 4, 4), x), [], None))[0] for x in (0.0, 2.0)]
    assert divergence(logs[1], logs[1]) == pytest.approx(0)
    p, q = torch.sigmoid(torch.tensor([2.0, 0.0])).tolist()
    by_hand = p * torch.tensor(p / q).log() + (1 - p) * torch.tensor((1 - p) / (1 - q)).log()
    assert float(divergence(logs[0], logs[1])) == pytest.approx(float(by_hand), rel=1e-5)


def test_several_teachers_are_heard_as_the_mean_of_their_chances(teacher):
    data = build_training_set(smoke_cases(4), RECIPE)
    settings = settings_of(RECIPE).objective
    own = LesionOnCanvasObjective(network(1), data, settings, 4, RECIPE.preprocess[-1], RECIPE.classes)
    objective = TaughtObjective(own, [teacher, network(5)], 2.0)
    batch = objective.draw(torch.Generator().manual_seed(0))
    heard = objective.forward(own.module, batch)
    with torch.inference_mode():
        each = [torch.softmax(one(batch.image).classes, 1) for one in objective.teachers]
    torch.testing.assert_close(heard.teachers[1].exp(), (each[0] + each[1]) / 2)
    terms, plain = objective.terms(heard, batch), own.terms(heard.student, batch)
    torch.testing.assert_close(terms[TOTAL], plain[TOTAL] + 2.0 * terms[TEACHER])


def test_teachers_learn_nothing(tmp_path, teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    taught(tmp_path, teacher, replace(LESSONS, steps=2))
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_logits_of_a_network_on_a_grid_are_heard_too():
    logits = torch.randn(2, 3, 4, 4, 4)
    (logs,) = log_probabilities([logits, logits[..., ::2]])
    torch.testing.assert_close(logs.exp(), torch.softmax(logits, 1))


def test_a_stopped_run_says_so_goes_on_and_is_not_mixed_with_another(tmp_path, teacher):
    with pytest.raises(PrereadError, match="stopped at step"):
        taught(tmp_path / "a", teacher, replace(LESSONS, deadline_seconds=0.0))
    with pytest.raises(CheckpointError):
        taught(tmp_path / "a", teacher, replace(LESSONS, teacher_weight=1.0))
    gone_on = taught(tmp_path / "a", teacher, LESSONS)
    at_once = taught(tmp_path / "b", teacher, LESSONS)
    for name, value in gone_on.weights.items():
        torch.testing.assert_close(value, at_once.weights[name], rtol=0, atol=0)


def test_warm_up_and_average_fit_into_a_short_run():
    long = settings_of(RECIPE.model_copy(update={"warm_up_steps": 500, "ema_decay": 0.999}))
    short = lesson_settings(long, Lessons(40, 1.0, 0.5))
    assert (short.schedule.steps, short.schedule.warm_up_steps, short.ema_decay) == (40, 4, 0.75)
    assert short.optimizer.rate == pytest.approx(0.5 * RECIPE.decoder_rate)
    assert short.optimizer.encoder_rate == pytest.approx(0.5 * RECIPE.encoder_rate)
