"""The documentation says what the code does: reference pages are rendered again and compared."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from preread.reference import PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_reference_page_is_what_the_code_renders(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"docs/{name} is stale. Run scripts/docs."
    )


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    broken = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not broken


def test_every_decision_states_context_choice_price_and_when_to_think_again() -> None:
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for word in ("Context", "Choice", "Given up", "Think again"):
            assert word in text, f"{page.name} does not say: {word}"


def test_the_systemd_unit_calls_a_command_that_there_is() -> None:
    unit = (ROOT / "deploy" / "preread.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=\S+/preread (.+)$", unit, re.MULTILINE)
    asked = subprocess.run(
        [sys.executable, "-m", "preread", *command.split(), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
