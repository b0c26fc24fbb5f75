"""From a package and its labelled cases to the same package with a block `uncertainty`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.amending import amend_package
from models.evaluation.overlap import dice
from models.package import Package
from models.predictor import Predictor
from models.preprocess import PreprocessError
from models.training.cases import CasesError, Listed
from models.training.package_cases import FOLDS, SEED, package_cases
from models.training.split import draw_folds
from models.uncertainty.agreement import listening
from models.uncertainty.block import Uncertainty
from models.uncertainty.fitting import fit_uncertainty

HEADING = "How sure an outline is"


def add_uncertainty(
    package: Package,
    data_folder: Path,
    out: Path,
    *,
    version: str | None,
    released: str,
    progress: Callable[[int, int], None] | None = None,
) -> Package:
    """Fit on the cases with a lesion that the network was not trained on; write the package into `out`.

    Raises
    ------
    CasesError, SplitError, TooFewOutlines
        The package does not mirror its images, or the folder holds too few cases of its own.
    """
    manifest = package.manifest
    if not manifest.inference.flip or manifest.grid is not None:
        raise CasesError(f"{manifest.id} does not predict mirror images, there is nothing to compare")
    predictor = Predictor(package, device="cpu")
    cases = package_cases(package, data_folder)
    agreements: list[float] = []
    overlaps: list[float] = []
    ratios: list[float] = []
    listed: list[Listed] = []
    for done, placed in enumerate(cases.placed):
        case = placed.case
        if progress is not None:
            progress(done + 1, cases.count)
        if not placed.is_unseen or not case.mask.any():
            continue
        try:
            with listening(predictor.network) as agreement:
                found = predictor.predict(case.volume).labels > 0
        except PreprocessError:
            continue
        overlap = dice(found, case.mask)
        if agreement.value is None or overlap is None:
            continue
        agreements.append(agreement.value)
        overlaps.append(overlap)
        ratios.append(float(case.mask.sum() / found.sum()) if found.any() else np.inf)
        listed.append(Listed(case.name, case.group, "", case.name))  # copies share a group already
    folds = draw_folds(listed, folds=FOLDS, seed=SEED)
    block = fit_uncertainty(
        np.array(agreements),
        np.array(overlaps),
        np.array(ratios, np.float64),
        np.array([folds[one.name] for one in listed]),
        [one.group for one in listed],
    )
    return amend_package(
        package,
        out,
        version=version,
        released=released,
        blocks={"uncertainty": block},
        files={},
        section=(HEADING, [card_sentence(block)]),
        answers_change=False,
    )


def card_sentence(block: Uncertainty) -> str:
    """What the card says of it."""
    use = block.usefulness
    told = "results say it" if use.is_shown else "that is not more than chance, so results do not say it"
    return (
        f"Dice is predicted from how alike image and mirror image are outlined. Among the surest cases, mean "
        f"over all coverages, {use.area:.3f} is missing to a Dice of 1, in random order "
        f"{use.area_by_chance:.3f}: a gain of {use.area_by_chance - use.area:.3f} (95 % interval "
        f"{use.gain95[0]:.3f} to {use.gain95[1]:.3f}; {use.n} cases with a lesion that the network was not "
        f"trained on, each predicted without its fold); {told}. Nine of ten true sizes lay between the drawn "
        f"size divided by {block.size_factor:.2f} and multiplied by it."
    )
