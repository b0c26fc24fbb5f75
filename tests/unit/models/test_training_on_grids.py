"""Training that has a floor: labels of voxels in 3D and 2D, classes of images; seconds each."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.networks.building import build_grid_network
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.image_classes import (
    ImageClassesObjective,
    ImageSet,
    draw_chances,
    weights_of,
)
from models.training.loop import train
from models.training.patch_set import patch_set, planes_of
from models.training.segmentation import VoxelLabelsObjective
from models.training.settings import (
    AdamW,
    GridAugment,
    ImageClasses,
    InnerPart,
    Schedule,
    TrainSettings,
    VoxelLabels,
)
from models.training.smoke_volumes import SMOKE_NETWORK, SMOKE_VOLUMES, smoke_network, smoke_volumes


def run(out, objective, settings, **limits):
    return train(
        objective,
        settings,
        out,
        identity=RunIdentity(3, "-", "-"),
        limits=LoopLimits(settings.schedule.steps, **limits),
        resume=True,
        progress=lambda _: None,
    )


def volumes(network, settings=SMOKE_VOLUMES.objective, *, batch=SMOKE_VOLUMES.batch, inner=None):
    return VoxelLabelsObjective(network, patch_set(smoke_volumes(6)), settings, batch, inner)


def test_a_small_network_in_3d_learns_two_labels_within_seconds(tmp_path):
    inner = patch_set(smoke_volumes(3, seed=77))
    settings = SMOKE_VOLUMES.model_copy(update={"inner": InnerPart(every_steps=45)})
    result = run(tmp_path, volumes(smoke_network(), inner=inner), settings)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    judged = [row for row in rows if "inner_dice" in row]
    assert [row["step"] for row in judged] == [45, 90]
    assert judged[-1]["inner_dice_1"] > 0.8  # the floor: unseen balls
    assert judged[-1]["inner_dice_2"] > 0.6  # and boxes of a few voxels
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "step-000000045.png",
        "step-000000090.png",
    ]
    weights = load_file(result.weights)
    assert weights.keys() == smoke_network().state_dict().keys()


def test_a_run_in_3d_stopped_and_resumed_makes_the_same_weights(tmp_path):
    settings = SMOKE_VOLUMES.model_copy(update={"schedule": Schedule(steps=4)})
    run(tmp_path / "a", volumes(smoke_network()), settings, stop_after_seconds=0.0)
    limits = {"checkpoint_seconds": 0.0}
    half = settings.model_copy(update={"schedule": Schedule(steps=4)})
    stopped = volumes(smoke_network())
    stopped.terms = fails_at(stopped.terms, 3)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        run(tmp_path / "a", stopped, half, **limits)
    # A network with other weights: everything must come from the checkpoint.
    resumed = run(tmp_path / "a", volumes(smoke_network(seed=9)), settings)
    whole = run(tmp_path / "b", volumes(smoke_network()), settings)
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


def fails_at(terms, call):
    calls = []

    def failing(outputs, batch):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("pulled the plug")
        return terms(outputs, batch)

    return failing


def test_slices_of_volumes_are_learnt_in_2d(tmp_path):
    spec = SMOKE_NETWORK.model_copy(
        update={
            "dimensions": 2,
            "kernels": ((3, 3),) * 3,
            "strides": ((1, 1), (2, 2), (2, 2)),
            "in_channels": 1,
        }
    )
    torch.manual_seed(1)
    network = build_grid_network(spec)
    planes = [plane for case in smoke_volumes(4) for plane in planes_of(case)]
    unseen = [plane for case in smoke_volumes(1, seed=5) for plane in planes_of(case)]
    settings = VoxelLabels(
        learns="voxel_labels", patch=(16, 16), focal_gamma=1.0, augment=GridAugment(flip_axes=(0, 1))
    )
    objective = VoxelLabelsObjective(network, patch_set(planes), settings, 8, patch_set(unseen))
    run(
        tmp_path,
        objective,
        TrainSettings(
            objective=settings,
            optimizer=AdamW(optimizer="adamw", rate=6e-3),
            schedule=Schedule(steps=60, warm_up_steps=5),
            batch=8,
            ema_decay=0.8,
        ),
    )
    judged = objective.judge(network.eval())
    assert judged.figures["dice"] > 0.5
    assert 0 < len(judged.pictures) <= 8


def test_the_declared_patches_outputs_and_weights_reach_the_loss():
    plain = SMOKE_VOLUMES.objective
    base = volumes(smoke_network(), plain)
    batch = base.draw(torch.Generator().manual_seed(1))
    assert batch.image.shape == (3, 1, 16, 16, 16)
    outputs = base.forward(base.module, batch)
    before = base.terms(outputs, batch)
    for change in (
        {"label_weights": (1.0, 5.0, 5.0)},
        {"focal_gamma": 2.0},
        {"dice_over": "image"},
        {"dice_background": True},
        {"side_weights": (1.0, 0.1)},
    ):
        other = volumes(smoke_network(), plain.model_copy(update=change))
        assert other.terms(outputs, batch)["total"] != before["total"], change


def test_changes_of_appearance_reach_image_and_leave_labels():
    plain = SMOKE_VOLUMES.objective.model_copy(update={"augment": GridAugment()})
    noisy = plain.model_copy(update={"augment": GridAugment(noise_probability=1.0)})
    one, other = (
        volumes(smoke_network(), each).draw(torch.Generator().manual_seed(1)) for each in (plain, noisy)
    )
    assert torch.equal(one.labels, other.labels)
    assert ((one.image - other.image).abs().flatten(1).amax(1) > 0).all()


def test_pasting_puts_more_labels_into_the_patches():
    def labelled(probability):
        settings = SMOKE_VOLUMES.objective.model_copy(update={"paste_probability": probability})
        objective = volumes(smoke_network(), settings, batch=24)
        return int((objective.draw(torch.Generator().manual_seed(1)).labels > 0).sum())

    assert labelled(1.0) > 1.2 * labelled(0.0)


def test_side_weights_of_a_network_without_side_outputs_are_refused():
    with pytest.raises(Exception, match="outputs to learn from"):
        volumes(
            smoke_network(), SMOKE_VOLUMES.objective.model_copy(update={"side_weights": (1.0, 0.5, 0.25)})
        )


# Classes of whole images.


def squares(count, *, rare=0.5, seed=1):
    """A bright or a dark square somewhere in noise; `rare` is the share of bright ones."""
    generator = np.random.default_rng(seed)
    classes = (generator.random(count) < rare).astype(np.int64)
    images = generator.normal(0, 0.5, (count, 1, 16, 16))
    for image, label in zip(images, classes, strict=True):
        top, left = generator.integers(0, 10, 2)
        image[0, top : top + 6, left : left + 6] += 2 * label - 1
    return ImageSet(torch.from_numpy(images).half(), torch.from_numpy(classes), (1.0, 1.0))


def classifier(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 2),
    )


CLASSES = ImageClasses(
    learns="image_classes",
    class_weights="balanced",
    focal_gamma=1.0,
    label_smoothing=0.05,
    mix_up=0.2,
    augment=GridAugment(flip_axes=(0, 1), noise_probability=0.3),
)


def test_classes_of_images_are_learnt(tmp_path):
    objective = ImageClassesObjective(
        classifier(), squares(120, rare=0.2), CLASSES, 16, ("dark", "bright"), squares(80, seed=2)
    )
    settings = TrainSettings(
        objective=CLASSES,
        optimizer=AdamW(optimizer="adamw", rate=5e-3),
        schedule=Schedule(steps=80, warm_up_steps=5),
        batch=16,
        ema_decay=0.8,
        inner=InnerPart(every_steps=40),
    )
    run(tmp_path, objective, settings)
    judged = objective.judge(objective.network.eval())
    assert judged.figures["balanced_accuracy"] > 0.85
    assert judged.score == judged.figures["balanced_accuracy"]


def test_the_balance_decides_how_often_a_rare_class_is_drawn():
    classes = torch.tensor([0] * 90 + [1] * 10)
    for balance, share in ((0.0, 0.1), (0.5, 1 / (1 + 3)), (1.0, 0.5)):
        assert draw_chances(classes, balance)[90:].sum().item() == pytest.approx(share, abs=1e-6)


def test_balanced_weights_give_every_class_the_same_part():
    classes = torch.tensor([0] * 90 + [1] * 10)
    weights = weights_of(classes, 3, CLASSES)
    assert weights[classes].sum().item() == pytest.approx(100 * 2 / 3)
    assert (weights[0] * 90).item() == pytest.approx((weights[1] * 10).item())
    assert weights[2] == 0  # a class that does not occur
    given = CLASSES.model_copy(update={"class_weights": (1.0, 2.0)})
    assert weights_of(classes, 2, given).tolist() == [1.0, 2.0]
    assert weights_of(classes, 2, CLASSES.model_copy(update={"class_weights": None})) is None


def test_smoothing_and_mixing_reach_the_targets():
    def shares(**changes):
        settings = CLASSES.model_copy(update={"mix_up": 0.0, "label_smoothing": 0.0} | changes)
        objective = ImageClassesObjective(classifier(), squares(40), settings, 32, ("a", "b"))
        return objective.draw(torch.Generator().manual_seed(3)).shares

    assert set(shares().unique().tolist()) == {0.0, 1.0}
    assert shares(label_smoothing=0.2).unique().tolist() == pytest.approx([0.1, 0.9])
    assert len(shares(mix_up=0.4).unique()) > 4


def test_images_are_moved_and_changed_but_keep_their_class():
    def drawn(**changes):
        settings = CLASSES.model_copy(
            update={"mix_up": 0.0, "label_smoothing": 0.0, "augment": GridAugment(**changes)}
        )
        objective = ImageClassesObjective(classifier(), squares(40), settings, 8, ("dark", "bright"))
        return objective.draw(torch.Generator().manual_seed(3))

    plain = drawn()
    for changes in ({"noise_probability": 1.0}, {"rotation_degrees": (30.0,)}):
        changed = drawn(**changes)
        assert torch.equal(changed.shares[:1], plain.shares[:1])
        assert (changed.image - plain.image).abs().mean() > 1e-3
