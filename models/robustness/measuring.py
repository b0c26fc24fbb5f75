"""From package and labelled data to robustness.json, resumable: answers are kept as they come."""

from __future__ import annotations

from pathlib import Path

from config.errors import PrereadError
from models.evaluation.evaluate import subset_of
from models.evaluation.run import Progress, ReportSubset, data_folder_of
from models.predictor import Predictor
from models.robustness.adversarial import evenly, measure_adversarial
from models.robustness.answers import AnswerBook
from models.robustness.document import Robustness, write_robustness
from models.robustness.natural import measure_natural
from models.training.cases import list_cases, load_cases
from models.training.recipes import RECIPES
from models.training.split import check_against_folder, read_split, split_path

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
    kind = RECIPES[manifest.id].kind
    folder, split = data_folder_of(kind, data_folder), read_split(split_path(kind))
    check_against_folder(split, list_cases(kind, folder))
    cases = list(load_cases(kind, folder, subset_of(split, kind, subset)))
    book = AnswerBook(predictor, out / ANSWERS)
    natural = measure_natural(book, cases, manifest.findings.classes, progress=progress)
    adversarial = None
    if attacked:
        try:
            adversarial = measure_adversarial(predictor, evenly(cases, attacked), progress)
        except PrereadError:
            adversarial = None  # no canvas: the report says that attacks were not measured
    found = Robustness(predictor.package.digest, subset, split.sha256, len(cases), natural, adversarial)
    write_robustness(found, out / JSON)
    return found
