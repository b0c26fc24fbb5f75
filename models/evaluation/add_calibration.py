"""From a package and its labelled cases to the same package with a block `calibration`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.amending import amend_package
from models.calibration import Calibration, calibrated
from models.evaluation.calibrating import METHODS, Method, fit_calibration
from models.evaluation.case_result import CaseResult
from models.evaluation.evaluate import judge
from models.evaluation.redeclared import figure_lines, redeclared
from models.package import Package
from models.predictor import Predictor
from models.training.cases import CasesError, Listed
from models.training.package_cases import FOLDS, SEED, package_cases
from models.training.split import EXCLUDED, draw_folds

HEADING = "Calibration of class scores"


def add_calibration(
    package: Package,
    data_folder: Path,
    out: Path,
    *,
    version: str | None,
    released: str,
    methods: Sequence[Method] = METHODS,
    progress: Callable[[int, int], None] | None = None,
) -> Package:
    """Fit on the cases that the network was not trained on and write the package into `out`.

    Raises
    ------
    CasesError, SplitError, TooFewScores
        The package has no classes, the folder is not its own, or its cases are too few.
    """
    names = [item.name for item in package.manifest.findings.classes]
    if not names:
        raise CasesError(f"{package.manifest.id} has no classes: there is nothing to calibrate")
    # The scores of the network itself, whatever an earlier block made of them.
    bare = replace(package, manifest=package.manifest.model_copy(update={"calibration": None}))
    predictor = Predictor(bare, device="cpu")
    cases = package_cases(package, data_folder)
    results: list[CaseResult] = []
    for done, placed in enumerate(cases.placed):
        if placed.is_unseen and placed.case.class_name in names:
            results.append(judge(predictor, placed.case))
        if progress is not None:
            progress(done + 1, cases.count)
    if not results:
        raise CasesError(f"{data_folder} holds no unseen case of a class of {package.manifest.id}")
    scores = np.array([[(one.class_scores or {})[name] for name in names] for one in results])
    truth = np.array([names.index(one.true_class or "") for one in results])
    # Copies share a group already: the name stands for the pixels.
    listed = [
        Listed(one.name, one.group, one.true_class or "", one.name, class_name=one.true_class or "")
        for one in results
    ]
    # Folds within the unseen cases, by group; of a group with two classes nobody knows what is true.
    folds = draw_folds(listed, folds=FOLDS, seed=SEED, exclude_contradictions=True)
    placed_folds = np.array([folds[one.name] for one in listed])
    clear = placed_folds != EXCLUDED
    block = fit_calibration(scores[clear], truth[clear], placed_folds[clear], methods)
    after = [replace(one, class_scores=calibrated(one.class_scores or {}, block)) for one in results]
    evaluation = redeclared(package, after)
    return amend_package(
        package,
        out,
        version=version,
        released=released,
        blocks={"calibration": block, "evaluation": evaluation},
        files={},
        section=(HEADING, [card_sentence(block), *figure_lines(evaluation)]),
        answers_change=True,
    )


def card_sentence(block: Calibration) -> str:
    """What the card says of it."""
    errors = (
        f"Mean calibration error over the classes, {block.n} cases that the network was not trained on: "
        f"{block.ece_before:.3f} before, {block.ece_after:.3f} after (each case corrected by what was fitted "
        "without its fold)."
    )
    match block.method:
        case "none":
            return f"No correction was better than none. {errors}"
        case "temperature":
            how = f"a temperature of {block.temperature:.2f}"
        case "isotonic":
            how = "an isotonic curve for each class"
    return f"Class scores are corrected by {how}; the class that is named is not changed by it. {errors}"
