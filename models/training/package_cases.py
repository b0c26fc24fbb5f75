"""The labelled cases that say how a package behaves: of its recipe's data set, or a folder of .npz files.

Each comes with its fold, so that whatever is fitted on some can be tried on others, and with whether the
network was trained on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.package import Package
from models.training.cases import Case, CasesError, Listed, load_extra
from models.training.judged_on import NotJudged, judged_on
from models.training.split import draw_folds

FOLDS, SEED = 5, 45
SCORED_FOLD = 0


@dataclass(frozen=True, eq=False)
class PlacedCase:
    """A case, its fold, and whether the package's network was trained without it."""

    case: Case
    fold: int
    is_unseen: bool


@dataclass(frozen=True, eq=False)
class PackageCases:
    """Cases one after the other, read when they are asked for.

    Parameters
    ----------
    split_sha256 : of the frozen split; None for a folder of files
    """

    placed: Iterator[PlacedCase]
    count: int
    split_sha256: str | None


def package_cases(package: Package, data_folder: Path, generated: Sequence[Case] = ()) -> PackageCases:
    """The cases of a package, those left out of both sides of the split excepted.

    Parameters
    ----------
    data_folder : of the recipe's data set or the folder that holds it; of a package without recipe: a folder
        of .npz files as `models.training.cases.load_extra` reads them, which its network has not seen
    generated : as many of them as of real cases go into each fold; the network was trained on their like

    Raises
    ------
    CasesError, SplitError
        The folder holds no cases, or is not the one the frozen split was drawn for.
    """
    simulated = [PlacedCase(case, index % FOLDS, False) for index, case in enumerate(generated)]
    try:
        on = judged_on(package)
    except NotJudged:
        return _own_cases(data_folder, simulated)
    source = on.cases_in(data_folder)
    names = [(name, fold) for name, fold in on.split.folds.items() if fold >= 0]

    def placed() -> Iterator[PlacedCase]:
        for name, fold in names:
            yield PlacedCase(source.load(name), fold, fold == SCORED_FOLD)
        yield from simulated

    return PackageCases(placed(), len(names) + len(simulated), on.split.sha256)


def _own_cases(data_folder: Path, simulated: Sequence[PlacedCase]) -> PackageCases:
    cases = load_extra(data_folder)
    if not cases:
        raise CasesError(
            f"{data_folder} holds no .npz; a package without a recipe of ours needs cases of its own"
        )
    named = [Listed(case.name, case.group, case.stratum, _digest(case)) for case in cases]
    folds = draw_folds(named, folds=min(FOLDS, len(cases)), seed=SEED)
    own = [PlacedCase(case, folds[case.name], True) for case in cases]
    return PackageCases(iter([*own, *simulated]), len(own) + len(simulated), None)


def _digest(case: Case) -> str:
    return hashlib.sha256(case.volume.array.tobytes()).hexdigest()
