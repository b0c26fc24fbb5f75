"""What a package must reach before it may be shipped: `models/gates/ID.json`, beside the packages.

A gate is not part of a package: it is the house's demand, and the same for every version. Format
preread-gates/1; unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field, ValidationError, model_validator

from config.errors import PrereadError
from models.steps import Strict


class GatesError(PrereadError):
    """A gates file that cannot be used."""


class Gate(Strict):
    """One demand on one figure.

    metric, subset : of which figure, and over which cases. What is over all folds rests on networks that are
    not shipped: it is held against what the package declares.
    statistic : point, the figure itself; bound, the end of its 95 % interval towards the limit's wrong side
    """

    metric: str
    subset: Literal["scored", "out-of-fold"] = "scored"
    statistic: Literal["point", "bound"]
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Gate:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("exactly one of at_least and at_most must be given")
        return self


class StrataGate(Strict):
    """No part of the cases with at least `n_min` of them may lie more than `below_max` under the whole."""

    metric: str
    n_min: int = Field(ge=1)
    below_max: float = Field(gt=0)


class Gates(Strict):
    """The gates of one package.

    frozen_tolerance : how exactly the frozen subset must repeat the declared figures
    reason : where the limits come from
    """

    format: Literal["preread-gates/1"]
    package: str
    frozen_tolerance: float = Field(gt=0)
    reason: str
    gates: tuple[Gate, ...] = Field(min_length=1)
    strata: tuple[StrataGate, ...]


class Measured(Protocol):
    """A figure that a gate can be held against."""

    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def ci95(self) -> tuple[float, float] | None: ...  # noqa: D102


@dataclass(frozen=True)
class StratumFigure:
    """A figure of a part of the cases.

    division, part : by what the cases are divided, and which part it is
    """

    division: str
    part: str
    metric: str
    value: float
    ci95: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class GateOutcome:
    """How a demand came out; `value` None: the figure is not there, which is no pass."""

    demand: str
    value: float | None
    passed: bool


def gates_path(package_id: str) -> Path:
    """The gates of a shipped package."""
    return Path(__file__).parents[1] / "gates" / f"{package_id}.json"


def read_gates(package_id: str) -> Gates | None:
    """Gates of a package; None when nobody demanded anything of it.

    Raises
    ------
    GatesError
        The file does not follow the format, or is another package's.
    """
    path = gates_path(package_id)
    if not path.is_file():
        return None
    try:
        gates = Gates.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        raise GatesError(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}",
            where=str(path),
            remedy="Compare it with the gates of another package.",
        ) from error
    if gates.package != package_id:
        raise GatesError(
            f"is about {gates.package}", where=str(path), remedy=f"Name it {gates.package}.json."
        )
    return gates


def judge_gates(
    gates: Gates,
    figures: Sequence[Measured],
    strata: Sequence[StratumFigure],
    over_folds: Sequence[Measured],
) -> tuple[GateOutcome, ...]:
    """Every demand with its outcome, strata last.

    Parameters
    ----------
    figures, strata : measured on the scored fold
    over_folds : what the package declares over all folds
    """
    by_metric = {
        "scored": {figure.metric: figure for figure in figures},
        "out-of-fold": {figure.metric: figure for figure in over_folds},
    }
    outcomes = [judge_gate(gate, by_metric[gate.subset].get(gate.metric)) for gate in gates.gates]
    for demand in gates.strata:
        outcomes += judge_strata(demand, strata)
    return tuple(outcomes)


def judge_gate(gate: Gate, figure: Measured | None) -> GateOutcome:
    """One demand."""
    is_floor = gate.at_least is not None
    limit = gate.at_least if gate.at_least is not None else gate.at_most
    assert limit is not None  # the gate's own validator
    what = gate.metric if gate.subset == "scored" else f"{gate.metric} over all folds, as declared,"
    if gate.statistic == "bound":
        what = f"{'lower' if is_floor else 'upper'} end of the interval of {what}"
    demand = f"{what} {'at least' if is_floor else 'at most'} {limit:g}"
    if figure is None:
        return GateOutcome(demand, None, False)
    value: float | None = figure.value
    if gate.statistic == "bound":
        value = None if figure.ci95 is None else figure.ci95[0 if is_floor else 1]
    if value is None:
        return GateOutcome(demand, None, False)
    return GateOutcome(demand, value, value >= limit if is_floor else value <= limit)


def judge_strata(demand: StrataGate, strata: Sequence[StratumFigure]) -> list[GateOutcome]:
    """One outcome for each part that is large enough, measured against all cases together."""
    rows = [row for row in strata if row.metric == demand.metric]
    whole = next((row for row in rows if row.division == "all"), None)
    if whole is None:
        return [GateOutcome(f"{demand.metric} of all cases is known", None, False)]
    floor = whole.value - demand.below_max
    return [
        GateOutcome(
            f"{demand.metric}, {row.division} {row.part}, at least {floor:.3f} "
            f"({demand.below_max:g} below the whole)",
            row.value,
            row.value >= floor - 1e-9,  # a part that is below by exactly so much
        )
        for row in rows
        if row.division != "all" and row.n >= demand.n_min
    ]


def frozen_differences(
    declared: Sequence[Measured], found: Sequence[Measured], tolerance: float
) -> list[str]:
    """What the frozen subset gives differently than the package declares; empty when it repeats itself."""
    values = {figure.metric: figure.value for figure in found}
    faults = []
    for row in declared:
        value = values.pop(row.metric, None)
        if value is None:
            faults.append(f"{row.metric} is declared and was not measured")
        elif abs(value - row.value) > tolerance:
            faults.append(f"{row.metric} is {value:.4f}, declared {row.value:.4f}")
    return [*faults, *(f"{metric} is not declared" for metric in values)]
