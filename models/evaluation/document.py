"""Everything an evaluation found out, as one value: what evaluation.json holds and a report draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.evaluation.beside import BesideReport
from models.evaluation.class_figures import ClassReport
from models.evaluation.evaluate import Subset
from models.evaluation.figures import ReportFigure
from models.evaluation.froc import SizeBand
from models.evaluation.gates import GateOutcome, StratumFigure
from models.evaluation.lesion_figures import FrocReport
from models.evaluation.measures import CaseMeasures
from models.evaluation.overlap import OutlineCounts
from models.evaluation.structure_rows import StructureRow
from models.robustness.document import Robustness
from models.training.cases import DataKind

FORMAT = "preread-evaluation/1"


@dataclass(frozen=True)
class FlowStep:
    """Where cases went: how many, and why."""

    n: int
    words: str
    why: str


@dataclass(frozen=True)
class JudgedCase:
    """A case with the parts it belongs to."""

    measures: CaseMeasures
    strata: dict[str, str]

    @property
    def name(self) -> str:
        """Its name in the data set."""
        return self.measures.result.name


@dataclass(frozen=True)
class PackageIdentity:
    """Which package, to the bit."""

    id: str
    version: str
    title: str
    digest: str
    weights_sha256: str


@dataclass(frozen=True)
class Evaluation:
    """One package on one part of one split.

    case_word : what a case is called, in the plural
    gates : None where nothing is demanded: no gates file, or not the scored fold
    unknown : what the data cannot say
    robustness : None where it was not measured
    structures : of a package of structures; bands, froc and classes are empty then
    beside : another method's figures of the same cases; None where none were given
    """

    package: PackageIdentity
    kind: DataKind
    dataset: str
    length_unit: str
    split_sha256: str
    subset: Subset
    case_word: str
    flow: tuple[FlowStep, ...]
    figures: tuple[ReportFigure, ...]
    outlines: OutlineCounts
    bands: tuple[SizeBand, ...]
    froc: FrocReport | None
    classes: ClassReport | None
    strata: tuple[StratumFigure, ...]
    gates: tuple[GateOutcome, ...] | None
    gates_reason: str
    headline: tuple[str, ...]
    unknown: tuple[str, ...]
    environment: dict[str, str]
    cases: tuple[JudgedCase, ...]
    robustness: Robustness | None = None
    structures: tuple[StructureRow, ...] = ()
    beside: BesideReport | None = None

    @property
    def passed(self) -> bool | None:
        """Whether every gate is passed; None where nothing is demanded."""
        return None if self.gates is None else all(gate.passed for gate in self.gates)

    def figure(self, metric: str) -> ReportFigure | None:
        """A figure by name."""
        return next((figure for figure in self.figures if figure.metric == metric), None)


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write evaluation.json; without pixels, but with the names of cases."""
    content = {"format": FORMAT, "passed": evaluation.passed, **asdict(evaluation)}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def worst_first(cases: Sequence[JudgedCase]) -> list[JudgedCase]:
    """Cases by falling harm: the least overlap first, of equals the largest lesion or false outline."""

    def harm(case: JudgedCase) -> tuple[float, float, str]:
        measures = case.measures
        wrong = (
            1 - measures.result.dice if measures.result.dice is not None else float(measures.found_size > 0)
        )
        return -wrong, -max(measures.truth_size, measures.found_size), case.name

    return sorted(cases, key=harm)
