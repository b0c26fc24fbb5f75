"""How far a package's figures fall under natural corruptions, and the gate that holds it to a limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.manifest import ClassFinding
from models.robustness.answers import AnswerBook
from models.robustness.corruptions import CORRUPTIONS, SEVERITIES, Corruption, Severity
from models.robustness.drops import Drop, Judged, drops_between
from models.training.cases import Case

LIMIT_POINTS: Final = 3.0
LIMIT_SEVERITY: Final[Severity] = 2
SEED: Final = 45
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Step:
    """One corruption at one severity: what each metric lost."""

    severity: Severity
    drops: tuple[Drop, ...]


@dataclass(frozen=True)
class Curve:
    """One corruption at all severities; `n` cases of the subset can suffer it."""

    corruption: str
    words: str
    n: int
    steps: tuple[Step, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Metrics that lose more than the limit at the severity of the gate."""
        return tuple(
            drop.metric
            for step in self.steps
            if step.severity == LIMIT_SEVERITY
            for drop in step.drops
            if drop.points > LIMIT_POINTS
        )


@dataclass(frozen=True)
class Natural:
    """All corruptions."""

    curves: tuple[Curve, ...]

    @property
    def passed(self) -> bool:
        """Whether no metric falls too far under any corruption."""
        return not any(curve.faults for curve in self.curves)


def measure_natural(
    book: AnswerBook,
    cases: Sequence[Case],
    classes: Sequence[ClassFinding],
    *,
    corruptions: Sequence[Corruption] = CORRUPTIONS,
    progress: Progress | None = None,
) -> Natural:
    """Corrupt every case in every way and ask again; what is random is the same at all severities."""
    clean = [book.of(case.volume, case.mask) for case in cases]
    judged = [Judged(case.name, case.group, case.class_name) for case in cases]
    curves = []
    fitting = [
        (corruption, [k for k, case in enumerate(cases) if corruption.fits(case.volume)])
        for corruption in corruptions
    ]
    done, total = 0, len(SEVERITIES) * sum(len(there) for _, there in fitting)
    for corruption, there in fitting:
        if not there:
            continue
        steps = []
        for severity in SEVERITIES:
            answers = []
            for k in there:
                rng = random_source(cases[k].name, corruption)
                answers.append(book.of(*corruption.apply(cases[k].volume, cases[k].mask, severity, rng)))
                done += 1
                if progress is not None:
                    progress(done, total)
            drops = drops_between([judged[k] for k in there], [clean[k] for k in there], answers, classes)
            steps.append(Step(severity, drops))
        curves.append(Curve(corruption.name, corruption.words, len(there), tuple(steps)))
    return Natural(tuple(curves))


def random_source(case_name: str, corruption: Corruption) -> np.random.Generator:
    """The same for a case and a corruption on every machine."""
    return np.random.default_rng([SEED, zlib.crc32(f"{case_name} {corruption.name}".encode())])
