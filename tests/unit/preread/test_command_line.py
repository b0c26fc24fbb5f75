"""The command line: quick where it can be, exit codes, settings written and checked, nothing secret shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from preread.owned import house


def preread(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREREAD_")}
    return subprocess.run(
        [sys.executable, "-m", "preread", *arguments],
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(house()), **environment},
        capture_output=True,
        text=True,
        check=False,
        input="a long enough password\n",
    )


def test_version_loads_neither_torch_nor_database_nor_network(tmp_path: Path) -> None:
    program = (
        "import sys; from preread import cli\n"
        "try:\n    sys.argv = ['preread', 'version', '--json']; cli.main()\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'torch', 'sqlalchemy', 'pynetdicom', 'starlette', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=house(), capture_output=True, text=True, check=True
    )
    said, _, loaded = done.stdout.rstrip().rpartition("\n")
    assert json.loads(said)["folder"] == str(house())
    assert loaded == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("serve", "--workers", "0"),
        ("demo", "--archive", "PACS1"),
        ("demo", "--studies", "nowhere"),
        ("queue", "retry", "17"),
        ("queue", "retry"),
        ("queue", "cancel", "d7"),
        ("studies", "list", "--config", "nowhere.yaml"),
    ],
)
def test_wrong_use_ends_with_2_and_a_message(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = preread(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_failure_ends_with_1_and_names_the_remedy(tmp_path: Path) -> None:
    done = preread("studies", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert "Start `preread serve` once" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_written_settings_are_accepted_and_not_overwritten(tmp_path: Path) -> None:
    assert preread("config", "init", "site.yaml", cwd=tmp_path).returncode == 0
    written = (tmp_path / "site.yaml").read_text()
    assert preread("config", "init", cwd=tmp_path).stdout == written
    checked = preread("config", "check", "--config", "site.yaml", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "site.yaml: no problem found\n")
    again = preread("config", "init", "site.yaml", cwd=tmp_path)
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_wrong_settings_end_every_command_with_2_and_every_problem(tmp_path: Path) -> None:
    (tmp_path / "preread.yaml").write_text("listener:\n  port: 99999\nnode:\n  ae_titel: X\n")
    checked = preread("config", "check", "--json", cwd=tmp_path)
    assert checked.returncode == 2
    assert [problem["setting"] for problem in json.loads(checked.stdout)] == [
        "node.ae_titel",
        "listener.port",
    ]
    done = preread("queue", "list", cwd=tmp_path)
    assert done.returncode == 2
    assert "preread.yaml line 2: listener.port" in done.stderr
    assert "Did you mean 'ae_title'?" in done.stderr


def test_the_settings_are_shown_without_secrets(tmp_path: Path) -> None:
    hashed = preread("config", "password", cwd=tmp_path).stdout.strip()
    assert hashed.startswith("scrypt$")
    (tmp_path / "preread.yaml").write_text(
        f"web:\n  logins:\n    - {{user: reader, password_hash: '{hashed}'}}\n"
        "database: {url: 'postgresql://preread:secret@db/preread'}\n"
    )
    shown = preread("config", "show", "--json", cwd=tmp_path)
    assert shown.returncode == 0
    assert hashed not in shown.stdout
    assert "secret" not in shown.stdout
    tree = json.loads(shown.stdout)
    assert tree["database"]["url"] == "postgresql://preread:***@db/preread"
    assert tree["web"]["logins"] == [{"user": "reader", "password_hash": "***"}]


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "preread", "config", "password"],
        cwd=house(),
        capture_output=True,
        text=True,
        check=False,
        input="short\n",
    )
    assert done.returncode == 2
    assert done.stdout == ""


def test_every_reason_of_not_analysed_has_a_meaning_and_a_remedy(tmp_path: Path) -> None:
    listed = json.loads(preread("studies", "reasons", "--json", cwd=tmp_path).stdout)
    assert {"NO-MODEL", "MISSING-SLICE"} <= {row["code"] for row in listed}
    assert all(row["meaning"] and row["remedy"] for row in listed)
