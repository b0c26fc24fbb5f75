"""The declared figures of a package again, after its answers were changed by intent."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.case_result import CaseResult
from models.evaluation.evaluate import frozen_part, report_of
from models.manifest import Evaluation
from models.package import Package
from models.training.build import evaluation_rows
from models.training.card import figure_row
from models.training.judged_on import NotJudged, judged_on


def redeclared(package: Package, results: Sequence[CaseResult]) -> tuple[Evaluation, ...]:
    """Rows of the manifest, those of the scored fold and its frozen part computed from new results.

    Figures over all folds stay: they are of the networks of the other folds. A package without a recipe of
    ours keeps what it declares.

    Parameters
    ----------
    results : of the scored fold, in the order of the split
    """
    declared = package.manifest.evaluation
    try:
        on = judged_on(package)
    except NotJudged:
        return declared
    report = report_of(package, on, results, "scored")
    rows = [*evaluation_rows(report), *evaluation_rows(frozen_part(report, on))]
    return (*rows, *(row for row in declared if row.subset in ("out-of-fold", "naive")))


def figure_lines(rows: Sequence[Evaluation]) -> list[str]:
    """The figures of the scored fold as lines of a card."""
    scored = [row for row in rows if row.subset == "scored"]
    if not scored:
        return []
    return [
        "",
        "| figure of this version | value | 95 % interval | n |",
        "|---|---|---|---|",
        *[figure_row(row) for row in scored],
    ]
