"""The packages in models/packages: whole, able to run here, as good as they say, and honest about it."""

import os
from pathlib import Path

import pytest

from models.evaluation.gates import frozen_differences, judge_gate, read_gates
from models.evaluation.report import JSON, PAGE, RANDOM, WORST, write_report
from models.evaluation.run import declared_figures
from models.package import installed_packages_folder, list_packages, load_package
from models.predictor import Predictor

IDS = ("brain-flair-lesion", "breast-us-lesion")
REPORT_FILES = (JSON, PAGE, WORST, RANDOM)
DATA = Path(__file__).parents[4] / "shared" / "data"


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
def test_the_declared_figures_of_the_scored_fold_pass_the_gates(package_id):
    gates = read_gates(package_id)
    rows = {row.metric: row for row in shipped(package_id).manifest.evaluation if row.subset == "scored"}
    # Gates on figures that a package does not declare, and on strata, are judged by `models evaluate`.
    declared = [gate for gate in gates.gates if gate.metric in rows]
    assert declared
    for gate in declared:
        outcome = judge_gate(gate, rows[gate.metric])
        assert outcome.passed, f"{outcome.demand}: {outcome.value}"
    for row in rows.values():
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
def test_the_frozen_subset_gives_the_declared_figures_again_and_a_report(package_id, tmp_path):
    if not DATA.is_dir():
        assert not os.environ.get("CI"), f"CI needs the labelled data at {DATA}"
        pytest.skip(f"labelled data are not at {DATA}: the frozen subset is not evaluated here")
    package = shipped(package_id)
    declared = [row for row in package.manifest.evaluation if row.subset == "frozen"]
    assert declared
    evaluation = write_report(Predictor(package, device="cpu"), DATA, tmp_path, subset="frozen")
    figures = declared_figures(evaluation.dataset, evaluation.cases, "frozen")
    assert frozen_differences(declared, figures, read_gates(package_id).frozen_tolerance) == []
    assert len(evaluation.headline) == 5
    assert {path.name for path in tmp_path.iterdir()} == {*REPORT_FILES, "predictions"}
    assert len(list((tmp_path / "predictions").iterdir())) == len(evaluation.cases)
