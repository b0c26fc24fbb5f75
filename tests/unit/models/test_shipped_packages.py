"""The packages in models/packages: whole, able to run here, as good as they say, and honest about it."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.evaluation.gates import judge_gate, read_gates
from models.evaluation.report import JSON, PAGE, RANDOM, WORST
from models.package import installed_packages_folder, list_packages, load_package
from models.predictor import Predictor
from preread.commands.models import app

IDS = ("brain-flair-lesion", "breast-us-lesion", "hippocampus-volume")
DATA = Path(__file__).parents[4] / "shared" / "data"


def shipped(package_id):
    return load_package(installed_packages_folder() / package_id)


def test_exactly_these_packages_are_shipped_and_whole():
    listings = list_packages([installed_packages_folder()])
    assert [(listing.folder.name, listing.error) for listing in listings] == [(name, None) for name in IDS]
    assert [listing.package.manifest.id for listing in listings] == list(IDS)


def test_weights_of_all_packages_together_stay_below_forty_megabytes():
    assert sum(shipped(name).manifest.file("weights").bytes for name in IDS) <= 40e6


@pytest.mark.parametrize("package_id", IDS)
def test_the_golden_case_comes_out_as_the_package_says(package_id):
    report = Predictor(shipped(package_id), device="cpu").verify_golden()
    assert report.passed, report.message
    if shipped(package_id).manifest.findings.kind == "lesions":
        assert report.lesions == 1


@pytest.mark.parametrize("package_id", IDS)
def test_the_declared_figures_pass_the_gates(package_id):
    gates = read_gates(package_id)
    rows = {(row.metric, row.subset): row for row in shipped(package_id).manifest.evaluation}
    # Gates on figures that a package does not declare, and on strata, are judged by `models evaluate`.
    declared = [gate for gate in gates.gates if (gate.metric, gate.subset) in rows]
    assert declared
    assert {gate for gate in gates.gates if gate.subset == "out-of-fold"} <= set(declared)
    for gate in declared:
        outcome = judge_gate(gate, rows[gate.metric, gate.subset])
        assert outcome.passed, f"{outcome.demand}: {outcome.value}"
    for row in rows.values():
        assert row.ci95[0] <= row.value <= row.ci95[1]


@pytest.mark.parametrize("package_id", IDS)
def test_the_card_says_every_figure_licence_and_limit(package_id):
    package = shipped(package_id)
    card = package.path("card").read_text(encoding="utf-8")
    for row in package.manifest.evaluation:
        if row.subset != "frozen":
            assert f"{row.value:.3f}" in card
    for sentence in (*package.manifest.card.limits, *package.manifest.card.not_for):
        assert sentence in card
    for item in package.manifest.training.data:
        assert item.licence in card
    assert "research" in package.manifest.card.intended_use.lower()


@pytest.mark.parametrize("package_id", IDS)
def test_the_frozen_subset_gives_the_declared_figures_again_and_writes_a_report(package_id, tmp_path):
    if not DATA.is_dir():
        assert not os.environ.get("CI"), f"CI needs the labelled data at {DATA}"
        pytest.skip(f"labelled data are not at {DATA}: the frozen subset is not evaluated here")
    folder = installed_packages_folder() / package_id
    options = ["--data", str(DATA), "--frozen", "--out", str(tmp_path), "--json"]
    run = CliRunner().invoke(app, ["evaluate", str(folder), *options])
    said = json.loads(run.stdout)
    assert said["frozen_differences"] == []
    assert run.exit_code == 0, run.stderr
    assert len(said["headline"]) == 5
    assert {path.name for path in tmp_path.iterdir()} == {JSON, PAGE, RANDOM, WORST, "predictions"}
    if package_id != "breast-us-lesion":
        return  # measuring volumes again takes seconds; images show the same
    predicted = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "predictions").iterdir()}
    assert len(predicted) == len(said["cases"])
    run = CliRunner().invoke(app, ["compare", str(folder), str(folder), *options])
    assert run.exit_code == 0, run.stderr
    rows = json.loads(run.stdout)
    assert {row["verdict"] for row in rows} == {"not told apart"}
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "predictions").iterdir()}
    assert again == predicted


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_folder_without_the_data_is_named(command, tmp_path):
    names = [str(installed_packages_folder() / IDS[1])] * (2 if command == "compare" else 1)
    run = CliRunner().invoke(app, [command, *names, "--data", str(tmp_path)])
    assert run.exit_code == 1
    assert str(tmp_path) in run.stderr
    assert "Traceback" not in run.stderr


def test_packages_of_different_data_sets_are_not_compared():
    folders = [str(installed_packages_folder() / name) for name in IDS[:2]]
    run = CliRunner().invoke(app, ["compare", *folders])
    assert run.exit_code == 2
    assert "different data sets" in run.stderr
