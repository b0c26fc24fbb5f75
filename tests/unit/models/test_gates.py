"""What a package must reach: limits of one figure, of its interval, and of every part of the cases."""

import json
from dataclasses import dataclass

import pytest

from models.evaluation import gates as module
from models.evaluation.gates import (
    Gate,
    Gates,
    GatesError,
    StrataGate,
    StratumFigure,
    frozen_differences,
    judge_gate,
    judge_gates,
    judge_strata,
    read_gates,
)
from models.package import installed_packages_folder


@dataclass(frozen=True)
class Found:
    metric: str
    value: float
    ci95: tuple[float, float] | None = (0.8, 0.9)


@pytest.mark.parametrize(
    ("demand", "passed"),
    [
        ({"statistic": "point", "at_least": 0.85}, True),
        ({"statistic": "point", "at_least": 0.851}, False),
        ({"statistic": "bound", "at_least": 0.8}, True),
        ({"statistic": "bound", "at_least": 0.81}, False),
        ({"statistic": "point", "at_most": 0.85}, True),
        ({"statistic": "point", "at_most": 0.84}, False),
        ({"statistic": "bound", "at_most": 0.9}, True),
        ({"statistic": "bound", "at_most": 0.89}, False),
    ],
)
def test_a_limit_holds_for_the_figure_or_for_the_bad_end_of_its_interval(demand, passed) -> None:
    assert judge_gate(Gate(metric="dice", **demand), Found("dice", 0.85)).passed is passed


def test_a_figure_that_is_not_there_passes_nothing() -> None:
    gate = Gate(metric="dice", statistic="point", at_most=1.0)
    assert not judge_gate(gate, None).passed
    bound = Gate(metric="dice", statistic="bound", at_most=1.0)
    assert not judge_gate(bound, Found("dice", 0.5, None)).passed


def part(name: str, value: float, n: int, division: str = "site") -> StratumFigure:
    return StratumFigure(division, name, "dice", value, None, n)


def test_a_large_part_far_below_the_whole_fails_and_a_small_one_is_not_asked() -> None:
    rows = [part("cases", 0.80, 60, "all"), part("A", 0.70, 15), part("B", 0.69, 15), part("C", 0.1, 14)]
    outcomes = judge_strata(StrataGate(metric="dice", n_min=15, below_max=0.1), rows)
    assert [("A" in one.demand, one.passed) for one in outcomes] == [(True, True), (False, False)]
    assert not judge_strata(StrataGate(metric="iou", n_min=15, below_max=0.1), rows)[0].passed


def test_all_demands_are_judged() -> None:
    gates = read_gates("brain-flair-lesion")
    assert gates is not None
    outcomes = judge_gates(gates, [], [part("cases", 0.8, 20, "all"), part("A", 0.5, 20)], [])
    assert len(outcomes) == len(gates.gates) + 1
    assert not any(outcome.passed for outcome in outcomes)


def test_a_demand_over_all_folds_is_held_against_what_is_declared_over_all_folds() -> None:
    gates = Gates(
        format="preread-gates/1",
        package="any",
        frozen_tolerance=0.002,
        reason="",
        gates=(
            Gate(metric="dice", statistic="point", at_least=0.7),
            Gate(metric="dice", subset="out-of-fold", statistic="point", at_least=0.8),
        ),
        strata=(),
    )
    for scored, over_folds, passed in ((0.7, 0.8, [True, True]), (0.8, 0.7, [True, False])):
        outcomes = judge_gates(gates, [Found("dice", scored)], [], [Found("dice", over_folds)])
        assert [outcome.passed for outcome in outcomes] == passed
        assert "over all folds" in outcomes[1].demand
    assert [one.passed for one in judge_gates(gates, [Found("dice", 0.9)], [], [])] == [True, False]


def test_a_difference_to_what_is_declared_is_named() -> None:
    declared = [Found("dice", 0.8), Found("auc", 0.9), Found("gone", 0.1)]
    found = [Found("dice", 0.8019), Found("auc", 0.9021), Found("new", 0.2)]
    assert frozen_differences(declared, found, 0.002) == [
        "auc is 0.9021, declared 0.9000",
        "gone is declared and was not measured",
        "new is not declared",
    ]


def test_every_shipped_package_has_gates_and_every_gates_file_a_package() -> None:
    packages = {folder.name for folder in installed_packages_folder().iterdir() if folder.is_dir()}
    assert {path.stem for path in module.gates_path("x").parent.glob("*.json")} == packages
    for name in packages:
        found = read_gates(name)
        assert isinstance(found, Gates)
        assert found.strata


def test_a_gates_file_with_two_limits_or_an_unknown_key_is_refused(tmp_path, monkeypatch) -> None:
    content = json.loads(module.gates_path("brain-flair-lesion").read_text("utf-8"))
    path = tmp_path / "brain-flair-lesion.json"
    monkeypatch.setattr(module, "gates_path", lambda _: path)
    assert read_gates("brain-flair-lesion") is None
    for edit in ({"extra": 1}, {"gates": [{**content["gates"][0], "at_most": 1.0}]}, {"gates": []}):
        path.write_text(json.dumps({**content, **edit}), "utf-8")
        with pytest.raises(GatesError, match=str(path)):
            read_gates("brain-flair-lesion")
    path.write_text(json.dumps({**content, "package": "another"}), "utf-8")
    with pytest.raises(GatesError, match="about another"):
        read_gates("brain-flair-lesion")
