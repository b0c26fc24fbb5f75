"""Attacks: they stay in their bounds, raise the loss, and say so when they do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lively_network import enlivened

from models.package import load_package
from models.predictor import Predictor
from models.preprocess import network_input, prepare
from models.robustness import adversarial as module
from models.robustness.adversarial import GREY_LEVELS, evenly, measure_adversarial
from models.robustness.attack import Attacked, Bounds, fgsm, pgd
from models.robustness.canvas import CanvasModel
from models.steps import FitCanvas
from models.training.cases import Case
from models.volume import Volume


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_both_attacks_of_a_linear_loss_find_the_corner_that_is_worst() -> None:
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    image = torch.tensor([0.5, 0.5, 0.5, 0.98])
    bounds = Bounds(0.1, 0.0, 1.0)
    wanted = torch.tensor([0.6, 0.4, 0.6, 1.0])
    for found in (
        fgsm(image, lambda x: (weights * x).sum(), bounds),
        pgd(image, lambda x: (weights * x).sum(), bounds, generator=generator()),
    ):
        assert torch.allclose(found.image, wanted, atol=1e-6)
        assert found.loss_before == pytest.approx(float((weights * image).sum()))
        assert found.loss_after == pytest.approx(float((weights * wanted).sum()))


def test_twenty_steps_find_more_of_a_curved_loss_than_one() -> None:
    image = torch.full((64,), 0.5)
    target = 0.5 + 0.08 * torch.sign(torch.randn(64, generator=generator()))

    def loss(x):
        return torch.sin(40 * (x - target)).sum() + 5 * (x.roll(1) * x).sum()

    bounds = Bounds(0.1, 0.0, 1.0)
    one = fgsm(image, loss, bounds)
    many = pgd(image, loss, bounds, generator=generator())
    assert many.loss_after > one.loss_after
    assert many.loss_after > many.loss_before


@pytest.mark.parametrize("bound", [0.5 / 255, 4 / 255])
def test_no_pixel_changes_more_than_the_bound_or_leaves_the_range(bound) -> None:
    image = torch.rand(3, 8, 8, generator=generator())
    image[0] = 0.0
    image[1] = 1.0
    bounds = Bounds(bound, 0.0, 1.0)
    for found in (
        fgsm(image, lambda x: (x**3).sum(), bounds),
        pgd(image, lambda x: (x**3).sum(), bounds, generator=generator()),
    ):
        assert float((found.image - image).abs().max()) <= bound + 1e-7
        assert float(found.image.min()) >= 0.0
        assert float(found.image.max()) <= 1.0
        assert not found.image.requires_grad


def test_pgd_begins_at_a_random_place_and_repeats_itself_for_a_seed() -> None:
    image, bounds = torch.full((100,), 0.5), Bounds(0.1, 0.0, 1.0)
    flat = [
        pgd(image, lambda x: (x * 0).sum(), bounds, generator=torch.Generator().manual_seed(seed)).image
        for seed in (1, 1, 2)
    ]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])
    assert float((flat[0] - image).abs().max()) > 0.05


@pytest.fixture(scope="module")
def predictor(original_package):
    """On a small canvas: attacks take many runs."""
    package = load_package(original_package)
    steps = [
        FitCanvas(step="fit_canvas", rows=64, columns=64) if isinstance(step, FitCanvas) else step
        for step in package.manifest.preprocess
    ]
    small = package.manifest.model_copy(update={"preprocess": tuple(steps)})
    made = Predictor(replace(package, manifest=small), device="cpu")
    enlivened(made.network)
    return made


def case(number: int, kind: str = "malignant") -> Case:
    rng = np.random.default_rng(number)
    pixels = rng.integers(60, 140, (1, 70, 90)).astype(np.uint8)
    mask = np.zeros(pixels.shape, bool)
    if kind != "normal":
        mask[0, 20:45, 30:60] = True
        pixels[mask] = 20
    return Case(f"{kind}_{number}", f"group_{number}", kind, Volume(pixels), mask, kind)


def test_the_canvas_model_says_what_prediction_says(predictor) -> None:
    volume = case(1).volume
    manifest = predictor.package.manifest
    prepared = prepare(volume, manifest.preprocess)
    model = CanvasModel(predictor)
    with torch.inference_mode():
        ours = model.maps(model.tensor(prepared.image))
        theirs = predictor.network(torch.from_numpy(network_input(prepared.image, manifest.preprocess)))
    assert torch.allclose(ours.lesion, theirs.lesion, atol=1e-4)
    answer = model.answer(model.tensor(prepared.image), prepared.mask_to_canvas(case(1).mask))
    found = predictor.predict(volume)
    assert answer.class_name == found.class_name
    assert answer.class_scores == pytest.approx(found.class_scores, abs=1e-4)


@pytest.fixture(scope="module")
def attacked(predictor):
    return measure_adversarial(predictor, [case(0)])


def test_attacks_on_both_heads_raise_the_loss_and_a_strong_one_more_than_a_weak_one(attacked) -> None:
    assert attacked.faults == ()
    assert {(row.head, row.attack) for row in attacked.rows} == {
        (head, name) for head in ("segmentation", "class") for name in ("FGSM", "PGD")
    }
    for head in ("segmentation", "class"):
        rows = [row for row in attacked.rows if (row.head, row.attack) == (head, "PGD")]
        assert [row.level for row in rows] == list(GREY_LEVELS)
        losses = [row.loss_after for row in rows]
        assert losses[-1] > losses[0]
        assert all(row.share_risen == 1.0 for row in rows)
        assert all(row.loss_after > row.loss_before for row in rows)


def test_an_attack_that_does_nothing_is_told_as_broken(predictor, monkeypatch) -> None:
    def idle(image, loss, bounds, **_):
        value = float(loss(image).detach())
        return Attacked(image, value, value)

    monkeypatch.setattr(module, "pgd", idle)
    found = measure_adversarial(predictor, [case(0)])
    assert any("raised the class loss of only 0 of 100" in fault for fault in found.faults)
    assert any("twenty steps found less" in fault for fault in found.faults)


def test_an_image_without_a_lesion_is_attacked_on_its_class_alone(predictor, monkeypatch) -> None:
    monkeypatch.setattr(module, "GREY_LEVELS", (1.0,))
    monkeypatch.setattr(module, "PGD_STEPS", 1)
    found = measure_adversarial(predictor, [case(0), case(1, "normal")])
    assert {(row.head, row.n) for row in found.rows} == {("segmentation", 1), ("class", 2)}


def test_an_attack_down_the_slope_is_told_as_broken(attacked) -> None:
    falling = replace(
        attacked,
        rows=tuple(replace(row, share_risen=0.0, loss_after=row.loss_before / 2) for row in attacked.rows),
    )
    assert len(falling.faults) == 8


def test_of_many_cases_some_are_taken_from_first_to_last() -> None:
    many = [case(number) for number in range(11)]
    assert [one.name for one in evenly(many, 3)] == ["malignant_0", "malignant_5", "malignant_10"]
    assert evenly(many[:2], 3) == many[:2]
