"""Guards are on unless a test names them, and a name that no guard has stops the listener."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from config.guards_off import VARIABLE, Guard

ROOT = Path(__file__).parents[3]


def asked(names: str | None, question: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", f"from config import guards_off\nprint({question})"],
        cwd=ROOT,
        env=environment if names is None else {**environment, VARIABLE: names},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("names", [None, "", " , "])
def test_every_guard_is_on_by_default(names: str | None) -> None:
    question = f"all(map(guards_off.is_on, {get_args(Guard)!r})), guards_off.switched_off()"
    assert asked(names, question).stdout == "True ()\n"


def test_only_what_is_named_is_off() -> None:
    question = "guards_off.is_on('nesting'), guards_off.is_on('pdu-cap'), guards_off.switched_off()"
    assert asked("nesting, identity", question).stdout == "False True ('identity', 'nesting')\n"


def test_unknown_guard_is_an_error_that_names_the_variable() -> None:
    done = asked("nesting,all", "guards_off.switched_off()")
    assert done.returncode != 0
    assert "no guard is called all" in done.stderr
    assert VARIABLE in done.stderr


def test_every_guard_is_listed_where_it_is_explained() -> None:
    page = (ROOT / "docs/decisions/0008-guards-off.md").read_text(encoding="utf-8")
    assert [guard for guard in get_args(Guard) if f"`{guard}`" not in page] == []
