"""From package and labelled data to robustness.json, resumable: answers are kept as they come."""

from __future__ import annotations

from pathlib import Path

from config.errors import PrereadError
from models.evaluation.evaluate import subset_of
from models.evaluation.run import Progress, ReportSubset
from models.predictor import Predictor
from models.robustness.adversarial import evenly, measure_adversarial
from models.robustness.answers import AnswerBook
from models.robustness.document import Robustness, write_robustness
from models.robustness.natural import measure_natural
from models.training.judged_on import judged_on

JSON, ANSWERS = "robustness.json", "robustness-answers.jsonl"


def measure_robustness(
    predictor: Predictor,
    data_folder: Path,
    out: Path,
    *,
    subset: ReportSubset,
    attacked: int,
    progress: Progress | None = None,
) -> Robustness:
    """Measure natural corruptions on every case of the subset and attacks on `attacked` of them.

    Raises
    ------
    CasesError, SplitError
        The data folder is not the one the frozen split was drawn for.
    """
    manifest = predictor.package.manifest
    on = judged_on(predictor.package)
    cases = on.cases_in(data_folder).load_all(subset_of(on.split, on.kind, subset))
    book = AnswerBook(predictor, out / ANSWERS)
    natural = measure_natural(book, cases, manifest.findings.classes, progress=progress)
    adversarial = None
    if attacked:
        try:
            adversarial = measure_adversarial(predictor, evenly(cases, attacked), progress)
        except PrereadError:
            adversarial = None  # no canvas: the report says that attacks were not measured
    found = Robustness(predictor.package.digest, subset, on.split.sha256, len(cases), natural, adversarial)
    write_robustness(found, out / JSON)
    return found
