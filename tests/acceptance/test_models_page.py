"""The tutorial of docs/models.md: its commands run as they stand, in one folder, on generated pictures."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from models.package import load_package
from models.training.split import read_split
from preread.owned import house

PAGE = house() / "docs" / "models.md"


def commands() -> list[str]:
    """Every line of the page's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder after all commands, and what each wrote."""
    folder = tmp_path_factory.mktemp("tutorial")
    environment = {**os.environ, "PYTHONPATH": str(house()), "OMP_NUM_THREADS": "1"}
    outputs = {}
    for line in commands():
        words = shlex.split(line)
        assert words[0] == "preread", f"{line}: the page runs preread alone"
        done = subprocess.run(
            [sys.executable, "-m", "preread", *words[1:]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        outputs[line] = done.stdout
    return folder, outputs


def test_the_page_leads_from_nothing_to_a_judged_package(said: tuple[Path, dict[str, str]]) -> None:
    folder, _ = said
    package = load_package(folder / "work" / "ovals")
    figures = {row.metric: row for row in package.manifest.evaluation if row.subset == "scored"}
    split = read_split(package.path("split"))
    outlined = [item for item in split.scored() if not item.stratum.endswith("nothing")]
    assert figures["dice_per_case_mean"].n == len(outlined) > 0
    assert {item.group for item in split.scored()}.isdisjoint(item.group for item in split.training())
    assert (folder / "work" / "report" / "report.html").is_file()


def test_the_short_run_of_the_page_learns_something(said: tuple[Path, dict[str, str]]) -> None:
    """A floor: a network that learnt nothing outlines nothing, and Dice is 0."""
    folder, _ = said
    package = load_package(folder / "work" / "ovals")
    figures = {row.metric: row.value for row in package.manifest.evaluation if row.subset == "scored"}
    assert figures["dice_per_case_mean"] > 0.5


def test_the_second_training_of_the_page_prepares_nothing_again(said: tuple[Path, dict[str, str]]) -> None:
    folder, _ = said
    assert len(list((folder / "work").glob("prepare-*"))) == 1
    assert len(list((folder / "work").glob("split-*"))) == 1
    assert len(list((folder / "work" / "train").iterdir())) == 2


def test_the_comparison_of_the_page_names_both(said: tuple[Path, dict[str, str]]) -> None:
    _, outputs = said
    (compared,) = [text for line, text in outputs.items() if "compare" in line]
    assert "ovals 0.0.1" in compared
    assert "ovals-flipless 0.0.1" in compared
