"""The views a package is judged on, made again from the data and held against the split in its folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from models.sorting.cases import ONLY_JUDGED, SortingCase, View, views_of
from models.sorting.package import SorterPackage
from models.sorting.recipe import SorterRecipe
from models.training.cases import CasesError


def judged_views(package: SorterPackage, cases: Iterable[SortingCase], recipe: SorterRecipe) -> list[View]:
    """Views of fold 0 and of the pieces that are only judged.

    Raises
    ------
    CasesError
        A series has other pixels, or stands in another fold, than when the package was made.
    """
    with package.path("split").open(newline="", encoding="utf-8") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    views = []
    for case in cases:
        if case.fold not in (0, ONLY_JUDGED):
            continue
        for view in views_of(case, package.manifest.input, seed=recipe.seed):
            row = rows.get(view.name)
            if row is None or int(row["fold"]) != view.fold:
                raise CasesError(
                    f"series {view.name} is not in fold {view.fold} of the package's split",
                    remedy="Give the data folder the package was made from.",
                )
            if not view.is_generated and row["sha256"] != view.sha256:
                raise CasesError(
                    f"series {view.name} has other pixels than when the package was made",
                    remedy="Give the data folder the package was made from.",
                )
            views.append(view)
    return views
