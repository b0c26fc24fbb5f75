"""`preread models ood` and `calibrate`: one command from a package and cases to a package that knows them."""

import json

import numpy as np
import pytest
from generated_inputs import OTHERS, breast_cases
from narrow_package import write_narrow_package
from typer.testing import CliRunner

from models.package import load_package
from models.predictor import Predictor
from preread.commands.models import app


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare") / "my-breast"
    return write_narrow_package(folder, "breast-us-lesion", package_id="my-breast").folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for case in breast_cases(36):
        np.savez(
            folder / f"{case.name}.npz", image=case.volume.array, mask=case.mask, class_name=case.class_name
        )
    return folder


def test_one_command_makes_the_block_and_a_second_one_adds_the_calibration(package, files, tmp_path):
    code, out, _ = run("ood", package, "--data", files, "--out", tmp_path / "p", "--version", "1.0.0")
    assert code == 0
    assert "36 real cases (36 unseen by the network) and 0 generated" in out
    code, out, _ = run("calibrate", tmp_path / "p", "--data", files, "--out", tmp_path / "p", "--json")
    assert code == 0
    told = json.loads(out)
    written = load_package(tmp_path / "p")
    assert written.manifest.version == "1.0.1"
    assert written.manifest.calibration.method == told["calibration"]["method"]
    predictor = Predictor(written, device="cpu")
    assert predictor.verify_golden().passed
    assert predictor.predict(OTHERS["trunk"](1)).likeness.standing == "far"


def test_the_limits_are_printed_for_a_machine(package, files, tmp_path):
    code, out, _ = run("ood", package, "--data", files, "--out", tmp_path / "p", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["ood"]["limits"]["near"] < told["ood"]["limits"]["far"]
    assert told["beyond"]["all"]["far"] <= told["beyond"]["all"]["near"] <= 0.1


@pytest.mark.parametrize("command", ["ood", "calibrate"])
def test_a_folder_without_cases_ends_with_one_and_what_it_should_hold(package, tmp_path, command):
    code, _, err = run(command, package, "--data", tmp_path, "--out", tmp_path / "p")
    assert code == 1
    assert "npz" in err
    assert not (tmp_path / "p").exists()


def test_too_few_cases_are_named_and_nothing_is_written(package, files, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(files.iterdir())[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    code, _, err = run("ood", package, "--data", few, "--out", tmp_path / "p")
    assert code == 1
    assert "5 cases" in err
    assert not (tmp_path / "p").exists()
