"""Class scores that mean what they say: the fit finds what was done to them, the block mends it."""

import json
import shutil

import numpy as np
import pytest
from generated_inputs import breast_cases, breast_like
from hypothesis import given
from hypothesis import strategies as st
from narrow_package import write_narrow_package
from pydantic import ValidationError

from models.calibration import Calibration, Curve, calibrated, corrected
from models.evaluation.add_calibration import add_calibration
from models.evaluation.calibrating import TooFewScores, class_error, fit_calibration
from models.package import PackageError, load_package
from models.predictor import Predictor

NAMES = ("benign", "malignant", "normal")


def cases(count=3000, temperature=1.0, seed=0):
    """Scores (n, 3) sharpened by a temperature, and classes drawn from the true probabilities; folds."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 3))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (rng.random((count, 1)) > true.cumsum(1)).sum(1).clip(0, 2)
    said = np.exp(logits * temperature) / np.exp(logits * temperature).sum(1, keepdims=True)
    return said, truth, np.arange(count) % 5


def block(**values):
    return Calibration(**({"method": "none", "ece_before": 0.1, "ece_after": 0.1, "n": 100} | values))


def test_temperature_finds_how_much_the_scores_were_sharpened():
    said, truth, folds = cases(temperature=2.5)
    found = fit_calibration(said, truth, folds, ("none", "temperature"))
    assert found.method == "temperature"
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.ece_after < 0.4 * found.ece_before


def test_scores_that_are_right_already_are_left_alone_or_hardly_changed():
    said, truth, folds = cases()
    found = fit_calibration(said, truth, folds, ("none", "temperature"))
    assert found.method == "none" or found.temperature == pytest.approx(1, abs=0.05)


def test_isotonic_wins_where_no_temperature_could_mend_it():
    said, truth, folds = cases(6000)
    bent = np.c_[said[:, 0] ** 0.2, said[:, 1] ** 3, said[:, 2]]
    bent /= bent.sum(1, keepdims=True)
    found = fit_calibration(bent, truth, folds)
    assert found.method == "isotonic"
    assert found.ece_after < 0.5 * found.ece_before
    assert all(len(curve.said) <= 64 for curve in found.curves)


def test_figures_after_are_of_cases_left_out_of_the_fit():
    """A curve bent to coin tosses looks perfect on them, and must not be told so."""
    rng = np.random.default_rng(2)
    said = rng.dirichlet((1, 1), 90)
    truth = rng.integers(0, 2, 90)
    found = fit_calibration(said, truth, np.arange(90) % 5, ("isotonic",))
    assert found.ece_after > class_error(corrected(said, found), truth) + 0.02


def test_too_few_cases_are_refused():
    said, truth, folds = cases(20)
    with pytest.raises(TooFewScores, match="20 cases"):
        fit_calibration(said, truth, folds)


@given(scores=st.lists(st.floats(0.001, 1), min_size=3, max_size=3), temperature=st.floats(0.2, 5))
def test_a_temperature_keeps_the_order_and_the_sum(scores, temperature):
    said = dict(zip(NAMES, (np.array(scores) / sum(scores)).tolist(), strict=True))
    found = calibrated(said, block(method="temperature", temperature=temperature))
    assert sum(found.values()) == pytest.approx(1)
    by_said = sorted(NAMES, key=lambda name: said[name])
    values = [found[name] for name in by_said]
    assert values == pytest.approx(sorted(values))


def test_a_temperature_of_two_takes_the_square_root_of_the_odds():
    found = calibrated({"a": 0.9, "b": 0.1}, block(method="temperature", temperature=2.0))
    assert found["a"] / found["b"] == pytest.approx(3)


def test_curves_are_read_between_their_points_and_the_sum_is_one():
    curve = Curve(said=(0.2, 0.6), so=(0.1, 0.5))
    found = calibrated({"a": 0.4, "b": 0.6}, block(method="isotonic", curves=(curve, curve)))
    assert (found["a"], found["b"]) == pytest.approx((0.3 / 0.8, 0.5 / 0.8))


def test_curves_that_call_everything_impossible_leave_the_scores_alone():
    curve = Curve(said=(0.0, 1.0), so=(0.0, 0.0))
    said = {"a": 0.4, "b": 0.6}
    assert calibrated(said, block(method="isotonic", curves=(curve, curve))) == said


@pytest.mark.parametrize(
    "values",
    [
        {"method": "temperature"},
        {"temperature": 2.0},
        {"method": "temperature", "temperature": 1000.0},
        {"method": "isotonic"},
        {"method": "isotonic", "curves": ({"said": (0.5, 0.2), "so": (0, 1)},)},
        {"method": "isotonic", "curves": ({"said": (0.2, 0.5), "so": (1, 0)},)},
        {"method": "isotonic", "curves": ({"said": (0.2, 0.5, 0.6), "so": (0, 1)},)},
        {"ece_before": 2.0},
    ],
    ids=[
        "no number",
        "no method",
        "absurd",
        "no curves",
        "falling points",
        "falling curve",
        "lengths",
        "error",
    ],
)
def test_a_block_that_contradicts_itself_is_refused(values):
    with pytest.raises(ValidationError):
        block(**values)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare") / "my-breast"
    return write_narrow_package(folder, "breast-us-lesion", package_id="my-breast", seed=5)


@pytest.fixture(scope="module")
def written(bare, tmp_path_factory):
    files = tmp_path_factory.mktemp("cases")
    for case in breast_cases(40):
        np.savez(
            files / f"{case.name}.npz", image=case.volume.array, mask=case.mask, class_name=case.class_name
        )
    out = tmp_path_factory.mktemp("calibrated") / "my-breast"
    return add_calibration(bare, files, out, version=None, released="2026-11-22", methods=("temperature",))


def test_the_predictor_says_corrected_scores_and_decides_on_its_own(bare, written):
    volume = breast_like(7)
    plain, corrected = (Predictor(one, device="cpu").predict(volume) for one in (bare, written))
    assert corrected.class_scores == pytest.approx(
        calibrated(plain.class_scores, written.manifest.calibration), abs=1e-6
    )
    assert corrected.class_scores != plain.class_scores
    assert corrected.class_name == plain.class_name
    assert np.array_equal(corrected.labels, plain.labels)
    assert list(corrected.class_scores) == list(plain.class_scores)


def test_the_golden_case_and_the_card_are_of_the_corrected_package(written):
    assert Predictor(written, device="cpu").verify_golden().passed
    assert (
        f"temperature of {written.manifest.calibration.temperature:.2f}" in written.path("card").read_text()
    )


def test_curves_for_other_classes_than_the_packages_are_refused(written, tmp_path):
    folder = shutil.copytree(written.folder, tmp_path / "broken")
    content = json.loads((folder / "model.json").read_text())
    content["calibration"] |= {
        "method": "isotonic",
        "temperature": None,
        "curves": [{"said": [0.0, 1.0], "so": [0.0, 1.0]}],
    }
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(PackageError, match="as many curves"):
        load_package(folder)
