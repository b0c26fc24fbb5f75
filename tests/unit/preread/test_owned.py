"""Our package names are generic; a stranger's package under one of them must never run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preread.owned import OUR_PACKAGES, house, trespasses


def preread_from(folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """`preread version`, started in `folder` with `path` in front of everything else."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(entry) for entry in path)}
    program = "from preread.cli import main; main()"
    command = [sys.executable, "-P", "-c", program, "version"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_our_own_packages_are_accepted(tmp_path: Path) -> None:
    assert trespasses() == []
    assert preread_from(tmp_path, house()).returncode == 0


@pytest.mark.parametrize("name", [name for name in OUR_PACKAGES if name != "preread"])
def test_a_decoy_on_the_path_is_refused_with_both_paths_and_a_remedy(name: str, tmp_path: Path) -> None:
    decoy = tmp_path / "elsewhere" / name / "__init__.py"
    decoy.parent.mkdir(parents=True)
    decoy.write_text("raise SystemExit('the decoy ran')")
    empty = tmp_path / "empty"
    empty.mkdir()

    refused = preread_from(empty, decoy.parent.parent, house())

    assert refused.returncode == 1
    assert "the decoy ran" not in refused.stderr
    for said in (repr(name), str(decoy), str(house() / name), "Start preread from an environment of its own"):
        assert said in refused.stderr


def test_a_second_distribution_that_owns_one_of_our_names_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "their_config-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: their-config\nVersion: 1.0\n")
    (record / "RECORD").write_text("their_config-1.0.dist-info/METADATA,,\nconfig/__init__.py,,\n")

    refused = preread_from(tmp_path, house(), tmp_path)

    assert refused.returncode == 1
    assert "the distribution their-config" in refused.stderr
    assert "pip uninstall their-config" in refused.stderr
