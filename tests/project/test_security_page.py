"""docs/security.md names every attack and guard, and only tests that exist."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from test_threat_table import LONG_THREATS, THREATS, TLS_THREATS

from config.guards_off import Guard

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_attack_and_every_guard_stands_on_the_page() -> None:
    attacks = {threat.attack.__name__ for threat in (*THREATS, *TLS_THREATS, *LONG_THREATS)}
    assert attacks <= CODE, sorted(attacks - CODE)
    assert set(get_args(Guard)) <= CODE, sorted(set(get_args(Guard)) - CODE)


def test_a_guard_stands_beside_the_attack_that_it_holds_off() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    for threat in (*THREATS, *TLS_THREATS, *LONG_THREATS):
        name = f"`{threat.attack.__name__}`"
        row = next(line for line in rows if name in line)
        for guard, _ in threat.guards:
            assert f"`{guard}`" in row, f"{name} without {guard}"


@pytest.mark.parametrize("named", NAMED)
def test_every_test_named_on_the_page_exists(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).is_file(), path
    if function:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
