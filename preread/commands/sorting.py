"""`preread models train | evaluate | show | verify` of the series sorter: what it is made and judged on."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from preread.commands.options import (
    EXIT_FAILED,
    FIGURE_COLUMNS,
    fail,
    figure_row,
    print_json,
    print_table,
    settings_and_logs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.sorting.cases import SortingCase
    from models.sorting.package import SorterPackage
    from models.sorting.recipe import SorterRecipe
    from models.training.record import Progress

SORTER = "series-sorter"
DEFAULT_DATA = Path("../shared/data")
GOLDEN_SEED = 1000  # far from that of the training


def sorter_named(name: str, config: Path | None) -> "SorterPackage | None":
    """The sorter of that id or in that folder; None where it is no sorter.

    Raises
    ------
    models.package.PackageError
        It is there, and may not run.
    """
    from models.package import installed_packages_folder, is_sorter
    from models.sorting.package import list_sorters, load_sorter

    if Path(name).is_dir():
        return load_sorter(Path(name)) if is_sorter(Path(name)) else None
    settings = settings_and_logs(config)
    for listing in list_sorters([installed_packages_folder(), *settings.packages.folders]):
        if listing.error is not None and listing.folder.name == name:
            raise listing.error
        if listing.package is not None and listing.package.manifest.id == name:
            return listing.package
    return None


def train_sorter(data: Path | None, out: Path, as_json: bool) -> None:
    """Make the shipped sorter again from the labelled data; finished folds in `out` are kept."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    from models.sorting.cases import prepare
    from models.sorting.making import make_sorter
    from models.sorting.recipe import read_sorter_recipe, shipped_recipe_path

    recipe = read_sorter_recipe(shipped_recipe_path())
    with Bars(console=Console(stderr=True)) as bars:
        preparing = bars.add_task("preparing series", total=None)
        views = prepare(
            cases_of(recipe, data or DEFAULT_DATA),
            recipe.input,
            seed=recipe.seed,
            progress=lambda done: bars.update(preparing, completed=done),
        )
        bars.update(preparing, total=1, completed=1)
        folds: dict[int, Any] = {}

        def tell(fold: int, line: "Progress") -> None:
            if fold not in folds:
                folds[fold] = bars.add_task(f"fold {fold}", total=1.0)
            bars.update(folds[fold], completed=line.share, description=f"fold {fold}: {line.words}")

        package = make_sorter(
            recipe, views, golden_images(), out, released=f"{datetime.now(UTC):%Y-%m-%d}", progress=tell
        )
    if as_json:
        print_json({"package": package.folder, "series": len(views)})
        return
    show_figures(package)
    sys.stdout.write(f"\nPackage: {package.folder}\n")


def evaluate_sorter(package: "SorterPackage", data: Path, *, frozen: bool, as_json: bool) -> None:
    """Judge a sorter on the fold it never saw and on the pieces that are only judged; ends with 1 on a failed
    gate, or where the figures do not repeat what is declared.

    Parameters
    ----------
    frozen : without the series that must be generated first
    """
    from models.evaluation.gates import frozen_differences, judge_gates, read_gates
    from models.sorting.judging import GENERATED_SOURCES, figures, kinds_of
    from models.sorting.making import judge_package
    from models.sorting.recipe import read_sorter_recipe, shipped_recipe_path
    from models.sorting.rejudging import judged_views
    from models.sorting.sorter import Sorter

    recipe = read_sorter_recipe(shipped_recipe_path())
    views = judged_views(package, cases_of(recipe, data, generated=not frozen), recipe)
    split = next(item.sha256 for item in package.manifest.files if item.role == "split")
    judged = judge_package(Sorter(package), views)
    rows = figures(judged, "scored", split, package.manifest.questions)
    gates = read_gates(package.manifest.id)
    declared = [row for row in package.manifest.evaluation if row.subset == "scored"]
    if frozen:
        rows = tuple(row for row in rows if row.dataset not in GENERATED_SOURCES)
        declared = [row for row in declared if row.dataset not in GENERATED_SOURCES]
    tolerance = gates.frozen_tolerance if gates else 0.002
    differences = frozen_differences(declared, rows, tolerance)
    over_folds = [row for row in package.manifest.evaluation if row.subset == "out-of-fold"]
    outcomes = (
        judge_gates(gates, rows, kinds_of(judged, package.manifest.questions), over_folds) if gates else ()
    )
    if frozen:
        outcomes = tuple(one for one in outcomes if one.value is not None)
    passed = all(one.passed for one in outcomes) and not differences
    if as_json:
        print_json(
            {
                "passed": passed,
                "differences": differences,
                "figures": [row.model_dump(mode="json") for row in rows],
                "gates": [asdict(one) for one in outcomes],
            }
        )
    else:
        print_table(FIGURE_COLUMNS, [figure_row(row) for row in rows], empty="No figures.")
        for one in outcomes:
            value = "not known" if one.value is None else f"{one.value:.3f}"
            sys.stdout.write(f"{'passed' if one.passed else 'FAILED'}: {one.demand}: {value}\n")
        for difference in differences:
            sys.stdout.write(f"FAILED: not what is declared: {difference}\n")
    if not passed:
        raise typer.Exit(EXIT_FAILED)


def show_sorter(package: "SorterPackage", as_json: bool) -> None:
    """Purpose, questions, figures, limits."""
    manifest = package.manifest
    if as_json:
        print_json({"digest": package.digest, "folder": package.folder, **manifest.model_dump(mode="json")})
        return
    card = manifest.card
    sys.stdout.write(f"{manifest.title} ({package.name})\n{manifest.summary}\n\n")
    sys.stdout.write(f"For: {card.intended_use}\nNot for: {'; '.join(card.not_for)}\n")
    sys.stdout.write(f"Limits: {'; '.join(card.limits)}\nLicences: {'; '.join(card.licences)}\n\n")
    for question in manifest.questions:
        names = ", ".join(answer.words for answer in question.answers)
        sys.stdout.write(
            f"{question.words}: {names}; unknown below {question.threshold:.4g}, very sure from "
            f"{question.sure:.4g}\n"
        )
    sys.stdout.write("\n")
    show_figures(package)
    sys.stdout.write(f"\nCard: {package.path('card')}\n")


def show_figures(package: "SorterPackage") -> None:
    """The declared figures as a table."""
    rows = [(*figure_row(row), row.subset) for row in package.manifest.evaluation]
    print_table((*FIGURE_COLUMNS, "on"), rows, empty="No figures.")


def golden_row(package: "SorterPackage") -> dict[str, Any]:
    """What `verify` says of a sorter."""
    from models.sorting.sorter import Sorter

    report = Sorter(package).verify_golden()
    return {
        "id": package.manifest.id,
        "passed": report.passed,
        "message": report.message,
        "device": "cpu",
        "probability_difference": report.difference,
    }


def cases_of(recipe: "SorterRecipe", data: Path, *, generated: bool = True) -> "Iterator[SortingCase]":
    """Every series the sorter is made from or judged on, real ones first."""
    from models.sorting.odd_ones import odd_cases
    from models.sorting.real_cases import real_cases
    from pipeline.sorting_cases import dicom_cases
    from preread.demo.sorting_cases import generated_series

    if not data.is_dir():
        raise fail(f"{data} is no folder. Give the folder of the labelled data by --data.")
    yield from real_cases(data)
    yield from dicom_cases(data)
    if generated:
        yield from generated_series(recipe.generated.patients, seed=recipe.seed)
        yield from odd_cases(recipe.generated.odd, seed=recipe.seed)


def golden_images() -> "list[NDArray[Any]]":
    """One generated image of each kind, which no run has seen."""
    from models.sorting.odd_ones import odd_cases
    from preread.demo.sorting_cases import generated_series

    cases = [*generated_series(1, seed=GOLDEN_SEED), *odd_cases(2, seed=GOLDEN_SEED)]
    return [case.array[len(case.array) // 2] for case in cases]
