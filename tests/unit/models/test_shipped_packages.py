"""The packages in models/packages: whole, able to run here, as good as they say, and honest about it."""

import os
from pathlib import Path

import pytest

from models.evaluation.evaluate import evaluate_package
from models.package import installed_packages_folder, list_packages, load_package
from models.predictor import Predictor

IDS = ("brain-flair-lesion", "breast-us-lesion")
DATA = Path(__file__).parents[4] / "shared" / "data"
GATES = {
    "dice_per_patient_mean": (0.80, 1.0),
    "dice_per_lesion_image_mean": (0.65, 1.0),  # with the axilla, which the model is not for
    "dice_per_lesion_image_mean_without_axilla": (0.72, 1.0),
    "accuracy_three_classes": (0.80, 1.0),
    "auc_malignant": (0.93, 1.0),
    "normals_drawn_on": (0.0, 0.15),
}


def shipped(package_id):
    return load_package(installed_packages_folder() / package_id)


def test_exactly_the_two_packages_are_shipped_and_whole():
    listings = list_packages([installed_packages_folder()])
    assert [(listing.folder.name, listing.error) for listing in listings] == [(name, None) for name in IDS]
    assert [listing.package.manifest.id for listing in listings] == list(IDS)


def test_weights_of_all_packages_together_stay_below_forty_megabytes():
    assert sum(shipped(name).manifest.file("weights").bytes for name in IDS) <= 40e6


@pytest.mark.parametrize("package_id", IDS)
def test_the_golden_case_comes_out_as_the_package_says(package_id):
    report = Predictor(shipped(package_id), device="cpu").verify_golden()
    assert report.passed, report.message
    assert report.lesions == 1


@pytest.mark.parametrize("package_id", IDS)
def test_the_figures_of_the_scored_fold_pass_the_gates(package_id):
    rows = [row for row in shipped(package_id).manifest.evaluation if row.subset == "scored"]
    gated = {row.metric: row.value for row in rows if row.metric in GATES}
    assert gated
    for metric, value in gated.items():
        low, high = GATES[metric]
        assert low <= value <= high, metric
    for row in rows:
        assert row.ci95[0] <= row.value <= row.ci95[1]


@pytest.mark.parametrize("package_id", IDS)
def test_the_card_says_every_figure_licence_and_limit(package_id):
    package = shipped(package_id)
    card = package.path("card").read_text(encoding="utf-8")
    for row in package.manifest.evaluation:
        if row.subset == "scored":
            assert f"{row.value:.3f}" in card
    for sentence in (*package.manifest.card.limits, *package.manifest.card.not_for):
        assert sentence in card
    for item in package.manifest.training.data:
        assert item.licence in card
    assert "research" in package.manifest.card.intended_use.lower()


@pytest.mark.parametrize("package_id", IDS)
def test_the_frozen_subset_gives_the_declared_figures_again(package_id):
    if not DATA.is_dir():
        assert not os.environ.get("CI"), f"CI needs the labelled data at {DATA}"
        pytest.skip(f"labelled data are not at {DATA}: the frozen subset is not evaluated here")
    package = shipped(package_id)
    declared = {row.metric: row.value for row in package.manifest.evaluation if row.subset == "frozen"}
    report = evaluate_package(package, DATA, subset="frozen", predictor=Predictor(package, device="cpu"))
    found = {figure.metric: figure.value for figure in report.figures}
    assert found == pytest.approx(declared, abs=0.002)
