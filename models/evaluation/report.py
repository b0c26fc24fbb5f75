"""A report folder: evaluation.json, report.html, the two sheets, and the predictions they rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.evaluation.beside import Beside
from models.evaluation.document import Evaluation, write_json
from models.evaluation.kept_predictions import KeptPredictions
from models.evaluation.page import report_page
from models.evaluation.run import Progress, ReportSubset, evaluate_fully, judge_cases
from models.evaluation.sheets import pictures_of, random_cases, save_sheet, worst_cases
from models.package import Package
from models.predictor import Predictor
from models.robustness.document import Robustness, read_robustness
from models.robustness.measuring import JSON as ROBUSTNESS
from models.training.judged_on import judged_on

PREDICTIONS = "predictions"
JSON, PAGE, WORST, RANDOM = "evaluation.json", "report.html", "worst-20.png", "random-20.png"


def write_report(
    predictor: Predictor,
    data_folder: Path,
    out: Path,
    *,
    subset: ReportSubset = "scored",
    beside: Beside | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate and write everything into `out`; what was predicted there before is not predicted again.

    Robustness is in it where it was measured into `out`, see models.robustness.measuring.

    Raises
    ------
    CasesError, SplitError
        The data folder is not the one the frozen split was drawn for.
    GatesError
        The package's gates cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    package = predictor.package
    kept = KeptPredictions(predictor, out / PREDICTIONS)
    cases = judge_cases(kept, data_folder, subset, progress)
    evaluation = replace(
        evaluate_fully(package, cases, subset),
        robustness=measured_before(package, subset, out),
        beside=None if beside is None else beside.report([case.measures.result for case in cases]),
    )
    source = judged_on(package).cases_in(data_folder)
    worst = pictures_of(worst_cases(cases), kept, source)
    at_random = pictures_of(random_cases(cases), kept, source)
    save_sheet(worst, out / WORST, evaluation.structures)
    save_sheet(at_random, out / RANDOM, evaluation.structures)
    page = report_page(evaluation, package.manifest, worst, at_random)
    (out / PAGE).write_text(page, encoding="utf-8")
    write_json(evaluation, out / JSON)
    return evaluation


def measured_before(package: Package, subset: ReportSubset, out: Path) -> Robustness | None:
    """The robustness of this package on this part of the split, where it lies in the folder."""
    split = judged_on(package).split
    return read_robustness(
        out / ROBUSTNESS, package_digest=package.digest, subset=subset, split_sha256=split.sha256
    )
