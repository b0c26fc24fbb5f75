"""The house stands as drawn: arrows between packages, homes of libraries, names that are ours."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "db", "models", "listener", "pipeline", "preread")
ARROWS = {
    "config": set(),
    "db": {"config"},
    "models": {"config"},
    "listener": {"config", "db"},
    "pipeline": {"config", "db", "models"},
    "preread": {"config", "db", "models", "listener", "pipeline"},
}
HOMES = {
    "pynetdicom": ("listener/", "pipeline/outbound/", "preread/demo/"),
    "highdicom": ("pipeline/results/",),
    "torch": ("models/",),
    "safetensors": ("models/",),
    "sqlalchemy": ("db/",),
    "alembic": ("db/",),
    "apscheduler": ("pipeline/housekeeping.py",),
    "starlette": ("preread/web/", "listener/stow"),
    "uvicorn": ("preread/web/", "listener/stow"),
}


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """(line, top-level name) of every import, those inside functions included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or node.module != "..", f"{file}:{node.lineno} climbs out of its package"
            if node.level == 0 and node.module:
                yield node.lineno, node.module.split(".")[0]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute | ast.Name)
            and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value).split(".")[0]


def source_files() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def test_every_package_has_an_init_of_its_own() -> None:
    for folder in {file.parent for file in source_files()}:
        assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)} has no __init__.py"


def test_imports_follow_the_arrows() -> None:
    wrong = []
    for file in source_files():
        package = file.relative_to(ROOT).parts[0]
        for line, name in imports_of(file):
            if name in PACKAGES and name != package and name not in ARROWS[package]:
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_libraries_stay_at_home() -> None:
    wrong = []
    for file in source_files():
        place = file.relative_to(ROOT).as_posix()
        for line, name in imports_of(file):
            if name in HOMES and not place.startswith(HOMES[name]):
                wrong.append(f"{place}:{line} imports {name}, at home in {', '.join(HOMES[name])}")
    assert not wrong


def test_a_lazy_import_against_the_arrows_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    import listener.loop\n    __import__('torch')\n")
    assert list(imports_of(file)) == [(2, "listener"), (3, "torch")]


def test_no_file_is_named_like_a_drawer() -> None:
    banned = {"utils", "util", "helper", "helpers", "common", "misc", "manager", "data", "info"}
    assert not [str(file) for file in source_files() if banned & set(file.stem.split("_"))]


def test_nothing_above_preread_is_imported_before_it_is_known_to_be_ours(tmp_path: Path) -> None:
    """A decoy of one of our generic names on the path is refused with both paths and a remedy."""
    for name in ("config", "models"):
        decoy = tmp_path / name / name
        decoy.mkdir(parents=True)
        (decoy / "__init__.py").write_text("")
        script = Path(sys.executable).with_name("preread")
        run = subprocess.run(
            [str(script), "version"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / name)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode != 0
        assert str(decoy) in run.stderr
        assert "PYTHONPATH" in run.stderr


def test_the_console_script_starts_from_any_folder(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("preread")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [str(script), "version"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_installed_with_the_distribution(name: str) -> None:
    assert f'"{name}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
