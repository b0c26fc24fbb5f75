"""How sure an outline is: learnt from cases, told only where it was shown to be of use."""

import json
import shutil

import numpy as np
import pytest
import torch
from generated_inputs import breast_cases, breast_like
from narrow_package import write_narrow_package

from models.calibration import Curve
from models.package import PackageError, load_package
from models.predictor import Predictor
from models.uncertainty.agreement import Agreement, listening
from models.uncertainty.block import Uncertainty, Usefulness
from models.uncertainty.fitting import TooFewOutlines, area_of, fit_uncertainty
from models.uncertainty.making import add_uncertainty
from models.uncertainty.words import sentences


def cases(count=60, link=1.0, seed=0):
    """Agreements, Dice that follows them or not, true over drawn size, folds, groups."""
    rng = np.random.default_rng(seed)
    agreement = rng.uniform(0.3, 1, count)
    dice = np.clip(link * agreement + (1 - link) * rng.uniform(0.3, 1, count) - 0.05, 0, 1)
    ratio = np.exp(rng.normal(0, 0.2, count))
    return agreement, dice, ratio, np.arange(count) % 5, [str(index) for index in range(count)]


def block(**usefulness):
    use = {"area": 0.1, "area_by_chance": 0.2, "gain95": (0.05, 0.15), "n": 60} | usefulness
    return Uncertainty(
        source="flips",
        dice=Curve(said=(0.2, 1.0), so=(0.4, 0.9)),
        size_factor=1.5,
        usefulness=Usefulness(**use),
    )


def test_area_of_a_perfect_order_is_below_chance_and_of_a_wrong_one_above():
    risk = np.array([0.0, 0.2, 0.4])
    assert area_of(np.array([3.0, 2, 1]), risk) == pytest.approx((0 + 0.1 + 0.2) / 3)
    assert area_of(np.array([1.0, 2, 3]), risk) == pytest.approx((0.4 + 0.3 + 0.2) / 3)


def test_agreement_that_follows_quality_is_useful_and_its_curve_is_found():
    found = fit_uncertainty(*cases())
    assert found.usefulness.is_shown
    assert np.interp(0.7, found.dice.said, found.dice.so) == pytest.approx(0.65, abs=0.03)


def test_agreement_that_has_nothing_to_do_with_quality_is_not_told():
    found = fit_uncertainty(*cases(link=0.0))
    assert not found.usefulness.is_shown
    assert sentences(found, 0.9, np.ones((1, 4, 4), int), 0.01) == []


def test_size_factor_holds_nine_of_ten_true_sizes():
    agreement, dice, ratio, folds, groups = cases(1000)
    factor = fit_uncertainty(agreement, dice, ratio, folds, groups).size_factor
    assert factor == pytest.approx(np.exp(1.645 * 0.2), rel=0.05)
    ratio[:200] = np.inf
    assert fit_uncertainty(agreement, dice, ratio, folds, groups).size_factor == 100


def test_too_few_outlines_are_refused():
    agreement, dice, ratio, folds, groups = cases(8)
    with pytest.raises(TooFewOutlines, match="8 outlines"):
        fit_uncertainty(agreement, dice, ratio, folds, groups)


def test_agreement_is_the_soft_dice_of_an_image_and_its_mirror_image():
    plain = torch.full((2, 1, 4, 6), -20.0)
    plain[:, :, :, :3] = 20.0
    same, other, half = Agreement(), Agreement(), Agreement()
    same.hear(plain)
    assert same.value is None  # only one of the two was heard
    same.hear(plain.flip(3))
    other.hear(plain)
    other.hear(plain)
    half.hear(plain)
    half.hear(torch.cat([plain[:1].flip(3), plain[1:]]))
    assert (same.value, other.value, half.value) == pytest.approx((1, 0, 0.5), abs=1e-6)


def test_what_is_told_has_the_size_in_ml_where_it_is_known_and_as_factors_where_not():
    labels = np.ones((1, 10, 10), int)
    (told,) = sentences(block(), 0.6, labels, 0.03)
    assert "Dice 0.65" in told
    assert "2 to 4.5 mL" in told
    (told,) = sentences(block(), 0.6, labels, None)
    assert "0.67 to 1.50 times" in told


@pytest.mark.parametrize(
    ("found", "agreement", "lesion"),
    [
        (None, 0.6, True),
        (block(gain95=(-0.01, 0.1)), 0.6, True),
        (block(), None, True),
        (block(), 0.6, False),
    ],
    ids=["no block", "not useful", "not heard", "no lesion"],
)
def test_nothing_is_told_without_block_use_comparison_or_outline(found, agreement, lesion):
    labels = np.full((1, 10, 10), int(lesion))
    assert sentences(found, agreement, labels, 0.03) == []


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare") / "my-breast"

    def half(found):
        from models.steps import Threshold

        return (Threshold(step="threshold", probability=float(np.quantile(found.probability, 0.8))),)

    return write_narrow_package(
        folder, "breast-us-lesion", package_id="my-breast", sharpness=30.0, postprocess=half
    )


@pytest.fixture(scope="module")
def written(bare, tmp_path_factory):
    files = tmp_path_factory.mktemp("cases")
    predictor = Predictor(bare, device="cpu")
    for case in breast_cases(16):
        # Truth that is near the outline where image and mirror image agree: the network is taken to be right.
        with listening(predictor.network) as agreement:
            found = predictor.predict(case.volume).labels > 0
        shift = int(60 * (1 - agreement.value))
        np.savez(files / f"{case.name}.npz", image=case.volume.array, mask=np.roll(found, shift, 1))
    out = tmp_path_factory.mktemp("unsure") / "my-breast"
    return add_uncertainty(bare, files, out, version=None, released="2026-11-22")


def test_a_package_with_the_block_is_whole_and_predicts_as_before(bare, written):
    assert Predictor(written, device="cpu").verify_golden().passed
    assert "How sure an outline is" in written.path("card").read_text()
    first, second = (Predictor(one, device="cpu").predict(breast_like(3)) for one in (bare, written))
    assert np.array_equal(first.labels, second.labels)


def test_the_predictor_tells_it_where_it_is_useful_and_only_there(written, tmp_path):
    said = []
    for number, gain in enumerate(((0.01, 0.2), (-0.01, 0.2))):
        folder = shutil.copytree(written.folder, tmp_path / str(number))
        content = json.loads((folder / "model.json").read_text())
        content["uncertainty"]["usefulness"]["gain95"] = gain
        (folder / "model.json").write_text(json.dumps(content))
        prediction = Predictor(load_package(folder), device="cpu").predict(breast_like(3))
        assert prediction.labels.any()
        said.append([note for note in prediction.notes if "Expected overlap" in note])
    assert len(said[0]) == 1
    assert said[1] == []


def test_a_package_that_does_not_mirror_cannot_have_the_block(written, tmp_path):
    folder = shutil.copytree(written.folder, tmp_path / "p")
    content = json.loads((folder / "model.json").read_text())
    content["inference"]["flip"] = False
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(PackageError, match=r"needs inference\.flip"):
        load_package(folder)
