"""Training of detectors and of networks over slices: floors on generated discs, seconds each."""

import numpy as np
import pytest
import torch

from models.networks.building import build_own_network
from models.networks.detections import Detections, Truth
from models.networks.own_specs import CenterNetSpec, Rcnn2dSpec, SliceAttentionSpec, SliceLstmSpec
from models.networks.spec_parts import StagedEncoder
from models.training.checkpoint import RunIdentity
from models.training.clock import LoopLimits
from models.training.detection import LesionBoxesObjective, hits_of, truth_of
from models.training.loop import train
from models.training.patch_set import grid_case, patch_set
from models.training.settings import (
    AdamW,
    GridAugment,
    LesionBoxes,
    Schedule,
    SliceClasses,
    TrainSettings,
)
from models.training.slice_classes import (
    Series,
    SliceClassesObjective,
    balanced_accuracy,
    batch_of,
)

CPU = torch.device("cpu")
ENCODER = StagedEncoder(encoder="stages", features=(8, 16, 24))
CENTERNET = CenterNetSpec(
    registry="centernet@1",
    dimensions=2,
    in_channels=1,
    features=(8, 16, 24),
    blocks=1,
    classes=1,
    head_features=16,
)
RCNN = Rcnn2dSpec(
    registry="rcnn2d@1",
    in_channels=1,
    classes=1,
    encoder=ENCODER,
    finest_stride=2,
    pyramid_features=16,
    proposals_max=16,
    pooled_size=3,
    head_features=16,
)


def discs(count, *, seed=1):
    """One to three bright discs in noise, each with a label of its own."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((48, 48))
    cases = []
    for index in range(count):
        labels = np.zeros((48, 48), np.uint8)
        for number in range(1, generator.integers(2, 4)):
            row, column = generator.uniform(6, 42, 2)
            labels[(np.hypot(rows - row, columns - column) < generator.uniform(3, 6)) & (labels == 0)] = (
                number
            )
        image = 2.0 * (labels > 0) + generator.normal(0, 0.4, labels.shape)
        cases.append(grid_case(f"discs{index}", image[None], labels, (1.0, 1.0), CPU))
    return cases


def run(out, objective, *, steps, batch, rate=6e-3):
    settings = TrainSettings(
        objective=objective.settings,
        optimizer=AdamW(optimizer="adamw", rate=rate),
        schedule=Schedule(steps=steps, warm_up_steps=5),
        batch=batch,
        ema_decay=0.8,
    )
    lines = []
    train(
        objective,
        settings,
        out,
        identity=RunIdentity(3, "-", "-"),
        limits=LoopLimits(steps, log_steps=1),
        resume=False,
        progress=lines.append,
    )
    return lines


BOXES = LesionBoxes(
    learns="lesion_boxes", patch=(32, 32), size_multiple=8, augment=GridAugment(flip_axes=(0, 1))
)


def test_a_centernet_learns_to_find_discs(tmp_path):
    torch.manual_seed(1)
    network = build_own_network(CENTERNET)
    objective = LesionBoxesObjective(network, patch_set(discs(12)), BOXES, 8, patch_set(discs(8, seed=9)))
    run(tmp_path, objective, steps=80, batch=8)
    judged = objective.judge(network.eval())
    assert judged.figures["average_precision"] > 0.5
    assert judged.figures["sensitivity"] > 0.6
    assert len(judged.pictures) == 8


def test_a_two_stage_detector_learns_its_own_terms(tmp_path):
    torch.manual_seed(1)
    network = build_own_network(RCNN)
    objective = LesionBoxesObjective(network, patch_set(discs(6)), BOXES, 4, patch_set(discs(2, seed=9)))
    lines = run(tmp_path, objective, steps=40, batch=4)
    losses = [line.loss["total"] for line in lines]
    assert np.median(losses[-8:]) < 0.8 * np.median(losses[:8])
    assert 0 <= objective.judge(network.eval()).score <= 1


def test_boxes_follow_the_patch_through_rotation_scale_and_flips():
    changes = GridAugment(rotation_degrees=(40.0,), scale_min=0.7, scale_max=1.4, flip_axes=(0, 1))
    settings = BOXES.model_copy(update={"augment": changes, "foreground_share": 1.0})
    cases = [
        grid_case(case.name, case.labels.numpy()[None] * 1.0, case.labels.numpy(), (1.0, 1.0), CPU)
        for case in discs(4)
    ]  # images that show the labels themselves
    objective = LesionBoxesObjective(build_own_network(CENTERNET), patch_set(cases), settings, 6)
    batch = objective.draw(torch.Generator().manual_seed(2))
    assert sum(len(truth.boxes) for truth in batch.truths) >= 6
    for image, truth in zip(batch.image[:, 0], batch.truths, strict=True):
        outside = image.clone()
        for top, left, bottom, right in truth.boxes.long().tolist():
            assert image[top:bottom, left:right].amax() >= 0.5
            outside[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = 0
        assert outside.amax() < 0.5


def test_boxes_of_labels_are_tight_and_carry_their_class():
    labels = torch.zeros(6, 8, dtype=torch.long)
    labels[1:3, 2:5], labels[5, 7] = 1, 3
    boxes, classes = truth_of(labels, (4, 9, 6))
    assert boxes.tolist() == [[1, 2, 3, 5], [5, 7, 6, 8]]
    assert classes.tolist() == [4, 6]
    assert truth_of(labels, ()).classes.tolist() == [0, 0]
    assert truth_of(torch.zeros(4, 4, 4), ()).boxes.shape == (0, 6)


def test_a_lesion_is_hit_once_by_its_surest_box():
    truth = Truth(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0]))
    boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30]])
    found = Detections(boxes, torch.zeros(3), torch.tensor([0.9, 0.8, 0.7]))
    scores, hits = hits_of(found, truth, 0.5)
    assert hits.tolist() == [True, False, False]
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def series(count, *, seed=1):
    """Slices of noise; some series hold two neighbouring slices with a bright square, and are of class 1."""
    generator = np.random.default_rng(seed)
    listed = []
    for index in range(count):
        slices = generator.normal(0, 0.5, (generator.integers(4, 8), 1, 16, 16))
        classes = np.zeros(len(slices), np.int64)
        if index % 2:
            first = generator.integers(0, len(slices) - 1)
            slices[first : first + 2, :, 4:12, 5:12] += 2
            classes[first : first + 2] = 1
        tensors = torch.from_numpy(slices).half(), torch.from_numpy(classes)
        listed.append(Series(*tensors, index % 2, (1.0, 1.0)))
    return listed


SLICES = SliceClasses(learns="slice_classes", slices_max=6, augment=GridAugment(flip_axes=(0, 1)))


@pytest.mark.parametrize("kind", ["lstm", "attention"])
def test_classes_of_slices_and_studies_are_learnt_together(tmp_path, kind):
    common = {"in_channels": 1, "classes": 2, "encoder": ENCODER, "hidden": 16}
    spec = (
        SliceLstmSpec(registry="slice_lstm@1", **common)
        if kind == "lstm"
        else SliceAttentionSpec(registry="slice_attention@1", **common)
    )
    torch.manual_seed(1)
    network = build_own_network(spec)
    objective = SliceClassesObjective(network, series(16), SLICES, 6, series(12, seed=5))
    run(tmp_path, objective, steps=120, batch=6, rate=1e-2)
    judged = objective.judge(network.eval())
    assert judged.figures["balanced_slices"] > 0.85
    assert judged.figures["balanced_studies"] > 0.75


def test_a_series_longer_than_the_limit_is_cut_to_neighbouring_slices_with_their_classes():
    (long,) = series(1)
    slices = torch.arange(30.0).view(30, 1, 1, 1).expand(30, 1, 16, 16)
    marked = Series(slices, torch.arange(30), 0, long.spacing_mm)
    settings = SLICES.model_copy(update={"augment": GridAugment()})
    objective = SliceClassesObjective(None, [marked], settings, 1)
    batch = objective.draw(torch.Generator().manual_seed(4))
    assert batch.image.shape[:2] == (1, 6)
    assert torch.equal(batch.image[0, :, 0, 8, 8].long(), batch.slice_classes[0])


def test_padding_is_not_looked_at():
    listed = series(4)
    batch = batch_of(listed)
    assert batch.counts.tolist() == [len(one.slices) for one in listed]
    objective = SliceClassesObjective(None, listed, SLICES, 4)

    class Scores:
        slices = torch.randn(4, int(batch.counts.max()), 2)
        study = torch.zeros(4, 2)

    before = objective.terms(Scores, batch)["slices"]
    for index, count in enumerate(batch.counts.tolist()):
        Scores.slices[index, count:] = 100.0
    assert objective.terms(Scores, batch)["slices"] == before


def test_balanced_accuracy_is_the_mean_over_classes():
    assert balanced_accuracy([0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx((1 + 0.5) / 2)
