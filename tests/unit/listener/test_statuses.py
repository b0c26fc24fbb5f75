"""No refusal is without a description: every status, rejection and HTTP code in the code is in the tables."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import pdu, statuses
from listener.commitment import FAILURE_REASONS

LISTENER = Path(statuses.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(LISTENER.rglob("*.py"))}
CALLS = [
    (path, node)
    for path, source in SOURCES.items()
    for node in ast.walk(ast.parse(source))
    if isinstance(node, ast.Call)
]


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    for path, call in CALLS:
        if isinstance(call.func, ast.Name) and call.func.id == name:
            yield path, call


def statuses_in_use() -> dict[int, str]:
    """Constants written as four hexadecimal digits, in modules that refuse something."""
    found = {}
    for path in {path for path, _ in calls("Refusal")}:
        place = path.relative_to(LISTENER).with_suffix("")
        module = importlib.import_module(".".join(("listener", *place.parts)))
        written = {
            name
            for source in SOURCES.values()
            for name in re.findall(r"^([A-Z_]+) = 0x[0-9A-F]{4}\b", source, re.MULTILINE)
        }
        found |= {int(value): name for name, value in vars(module).items() if name in written}
    return found


def test_every_status_of_a_refusal_is_described() -> None:
    in_use = statuses_in_use()
    assert len(in_use) > 10
    assert {0: "SUCCESS", **{status: in_use.get(status, "") for status in statuses.STATUSES}} == in_use


def test_no_refusal_has_a_status_without_a_name() -> None:
    unnamed = [
        f"{path.name}:{call.lineno}"
        for path, call in calls("Refusal")
        if isinstance(call.args[0], ast.Constant)
    ]
    assert not unnamed


def test_every_failure_reason_of_a_report_is_described() -> None:
    assert set(FAILURE_REASONS.values()) == set(statuses.FAILURES)


@pytest.mark.parametrize(("prefix", "table"), [("REJECT_", statuses.REJECTIONS), ("ABORT_", statuses.ABORTS)])
def test_every_rejection_and_abort_is_described(prefix: str, table: dict[object, object]) -> None:
    assert {value for name, value in vars(pdu).items() if name.startswith(prefix)} == set(table)


def test_every_http_status_of_stow_is_described() -> None:
    used = {
        call.args[0].value
        for name in ("_Refused", "BodyError")
        for _, call in calls(name)
        if isinstance(call.args[0], ast.Constant)
    }
    assert used
    assert used <= set(statuses.HTTP_STATUSES)


def test_every_description_has_a_remedy() -> None:
    for table in (
        statuses.STATUSES,
        statuses.FAILURES,
        statuses.REJECTIONS,
        statuses.ABORTS,
        statuses.HTTP_STATUSES,
    ):
        for answer in table.values():
            assert answer.when
            assert answer.remedy.endswith(".")
