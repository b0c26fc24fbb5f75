"""`preread models train`: one command from the data folder to a package that runs, for a run of two steps."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.training.recipe_file import read_recipe
from models.training.split import split_path
from preread.owned import house


def preread(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "preread", *map(str, arguments)]
    return subprocess.run(command, cwd=house(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the breast images; the frozen split knows each by its content."""
    out = tmp_path_factory.mktemp("trained")
    trained = preread(
        *("models", "train", "breast-us-lesion", "--out", out, "--steps", 2, "--generated", 3, "--json"),
        *("--version", "9.8.7", "--note", "Two steps are no training.", "--fresh"),
    )
    assert trained.returncode == 0, trained.stderr
    (out / "said.json").write_text(trained.stdout, encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "breast-us-lesion" / "model.json").read_text("utf-8"))
    return found


def test_the_package_is_whole_and_repeats_its_golden_case(folder: Path) -> None:
    verified = preread("models", "verify", folder / "breast-us-lesion")
    assert verified.returncode == 0, verified.stderr


def test_the_manifest_says_what_the_weights_were_made_of(folder: Path, manifest: dict[str, Any]) -> None:
    (run,) = json.loads((folder / "said.json").read_text("utf-8"))["runs"]
    training = manifest["training"]
    assert (manifest["version"], training["steps"], training["seed"]) == ("9.8.7", 2, 45)
    assert (training["data"][0]["n"], run["extra_cases"]) == (run["real_cases"], 3)
    assert training["simulated_fraction"] == run["simulated_fraction"] == 0.125


def test_the_figures_are_those_of_the_cases_that_were_not_trained_on(
    folder: Path, manifest: dict[str, Any]
) -> None:
    said = {
        figure["metric"]: figure["value"]
        for figure in json.loads((folder / "said.json").read_text("utf-8"))["figures"]["scored"]
    }
    scored = {row["metric"]: row for row in manifest["evaluation"] if row["subset"] == "scored"}
    assert {name: row["value"] for name, row in scored.items()} == pytest.approx(said, abs=1e-4)
    assert scored["accuracy_three_classes"]["n"] == 131
    assert scored["dice_per_lesion_image_mean"]["value"] < 0.5  # two steps teach nothing


def test_a_fold_can_be_trained_alone_without_its_cases_and_makes_no_package(tmp_path: Path) -> None:
    trained = preread(
        *("models", "train", "breast-us-lesion", "--out", tmp_path, "--steps", 1, "--generated", 0),
        *("--fold", 3),
    )
    assert trained.returncode == 0, trained.stderr
    assert not (tmp_path / "breast-us-lesion").exists()
    (record,) = tmp_path.glob("train/fold-3-*/run.json")
    run = json.loads(record.read_text("utf-8"))
    rows = list(csv.DictReader(split_path("breast-us").read_text("utf-8").splitlines()))
    assert run["scored_fold"] == 3
    assert run["real_cases"] == sum(row["fold"] not in ("3", "-1") for row in rows)


def test_recipe_and_split_are_in_the_package_and_a_value_set_on_the_line_is_in_the_recipe(
    folder: Path, manifest: dict[str, Any]
) -> None:
    package = folder / "breast-us-lesion"
    recipe = read_recipe(package / "recipe.yaml")
    assert (recipe.training.steps, recipe.generated.cases if recipe.generated else 0) == (2, 3)
    assert manifest["training"]["recipe_sha256"] == recipe.run.sha256
    assert (package / "split.csv").read_bytes() == split_path("breast-us").read_bytes()
    assert {item["role"] for item in manifest["files"]} >= {"recipe", "split"}


def test_wrong_use_and_faults_are_named(tmp_path: Path) -> None:
    unknown = preread("models", "train", "nothing", "--out", tmp_path)
    assert unknown.returncode == 1
    assert "there is no recipe nothing" in unknown.stderr
    wrong = preread("models", "train", "breast-us-lesion", "--out", tmp_path, "--set", "training.stepz=3")
    assert wrong.returncode == 1
    assert "--set training.stepz=3: training.stepz: there is no such setting" in wrong.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_card_shows_unseen_generated_cases_and_the_notes(folder: Path) -> None:
    package = folder / "breast-us-lesion"
    card = (package / "CARD.md").read_text("utf-8")
    assert "Two steps are no training." in card
    pictures = sorted(path.name for path in (package / "pictures").iterdir())
    assert pictures == [f"{number}.jpg" for number in range(1, 7)]
    assert all(f"(pictures/{name})" in card for name in pictures)
    assert "Generated case without a lesion: " in card
