"""`preread models train`: from a recipe to a package with weights, card, golden case and figures."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from preread.commands.options import (
    FIGURE_COLUMNS,
    Json,
    fail,
    figure_row,
    print_json,
    print_table,
    wrong_use,
)
from preread.commands.sorting import SORTER, train_sorter

if TYPE_CHECKING:
    from rich.progress import TaskID

    from models.training.card_pictures import PicturedCase
    from models.training.cases import Case
    from models.training.making import Made
    from models.training.order import Order
    from models.training.recipe_file import RecipeFile
    from models.training.stages import Telling

DEFAULT_DATA = Path("../shared/data")  # of the shipped recipes
PICTURED, UNSEEN = 6, 1000  # cases on the card, and how far their seed is from that of the training
Stage = Literal["prepare", "split", "cache", "train", "out-of-fold", "evaluate", "package"]


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's YAML file, or the id of a shipped one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder in which every stage is kept, and the package.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the cases; else data.folder of the recipe, from its own folder on."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PLACE=VALUE", help="Replace a value: training.steps=600."),
    ] = None,
    until: Annotated[Stage, typer.Option(help="The last stage that is done.")] = "package",
    version: Annotated[str | None, typer.Option(help="Version of the package; else the recipe's.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the runs and of the generated cases; else the recipe's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of the first run; else the recipe's.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Length of each run in time instead.")] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds after which to stop cleanly; the next call goes on from there."),
    ] = None,
    generated: Annotated[
        int | None,
        typer.Option(min=0, help="Generated cases to mix in, a minority; else as the recipe says."),
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option(help="Do the short second run, where the recipe has one.")
    ] = True,
    out_of_fold: Annotated[
        bool,
        typer.Option("--out-of-fold", help="Train and judge the networks of the other folds, too: slow."),
    ] = False,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Only train the network that does not see this fold.")
    ] = None,
    note: Annotated[
        list[str] | None, typer.Option(help="A sentence for the card about this training; may be repeated.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin unfinished stages anew.")] = False,
    as_json: Json = False,
) -> None:
    """Make a package from a recipe: prepare, split, cache, train, out-of-fold, evaluate, package.

    What was done before from the same inputs is not done again; a changed setting does what depends on it.
    Started by torchrun (`torchrun --nproc-per-node 2 -m preread models train …`) several processes train one
    network, and the first does the rest; `learning.micro_batches` is then a multiple of their number.

    Ends with 1 when a case cannot be used, a patient stands on both sides of the split, or at the deadline.
    """
    from models.training.making import make_package
    from models.training.processes import joined
    from models.training.recipe_file import read_recipe, recipe_path
    from models.training.stages import Unfinished, Work

    if recipe == SORTER:
        train_sorter(data, out, as_json)
        return
    file = recipe_path(recipe)
    short = {"version": version, "seed": seed, "training.steps": steps, "generated.cases": generated}
    replaced = [f"{place}={value}" for place, value in short.items() if value is not None]
    read = read_recipe(file, [*(sets or ()), *replaced, *(() if fine_tune else ("fine_tuning=null",))])
    with joined() as processes, _Bars(shown=processes.is_first) as bars:
        order = _order(
            read,
            file,
            data,
            minutes=minutes,
            deadline=deadline,
            until=until,
            fold=fold,
            out_of_fold=out_of_fold,
            notes=tuple(note or ()),
        )
        try:
            made = make_package(order, Work(out, bars.tell, fresh, processes))
        except Unfinished as stopped:
            raise fail(f"{stopped}; call again to go on.") from stopped
    if processes.is_first:
        _show(made, out, as_json)


def _order(
    recipe: "RecipeFile",
    file: Path,
    data: Path | None,
    *,
    minutes: float | None,
    deadline: float | None,
    until: Stage,
    fold: int | None,
    out_of_fold: bool,
    notes: tuple[str, ...],
) -> "Order":
    from models.training.order import Order
    from models.training.readers import READERS
    from pipeline.training_cases import read_dicom_seg

    is_made = recipe.data.reader == "generated-nodules"
    if data is None and recipe.data.folder is None and recipe.kind == "own" and not is_made:
        raise wrong_use(f"{file} does not say where the cases lie. Add data.folder, or give --data.")
    if data is None:
        data = DEFAULT_DATA if recipe.data.folder is None else file.parent / recipe.data.folder
    return Order(
        recipe=recipe,
        recipe_folder=file.parent,
        data_folder=data,
        readers={**READERS, "dicom-seg": read_dicom_seg},
        generate=_generated,
        pictured=lambda: _pictured(recipe),
        minutes=minutes,
        deadline_seconds=deadline,
        until=until,
        fold=fold,
        out_of_fold=out_of_fold,
        notes=notes,
    )


def _generated(like: str, count: int, seed: int) -> "Iterable[Case]":
    from preread.demo.generated_cases import generated_cases

    return generated_cases("brain-flair" if like == "brain-flair" else "breast-us", count, seed=seed)


def _pictured(recipe: "RecipeFile") -> "list[PicturedCase]":
    """Generated cases that no run of this seed has seen, as they come: data sets may not be published."""
    from models.training.card_pictures import PicturedCase

    if recipe.generated is None:
        return []
    return [
        PicturedCase(case.volume, case.mask, f"Generated {_what_it_shows(case)}")
        for case in _generated(recipe.generated.like, PICTURED, recipe.seed + UNSEEN)
    ]


def _what_it_shows(case: "Case") -> str:
    if case.class_name == "normal" or not case.mask.any():
        return "case without a lesion"
    return f"{case.class_name} lesion" if case.class_name else "case with lesions"


class _Bars:
    """One bar of progress for each stage, on standard error."""

    def __init__(self, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self.progress: Progress = Progress(console=Console(stderr=True), disable=not shown)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def tell(self, said: "Telling") -> None:
        """Show how far a stage is."""
        if said.stage not in self.tasks:
            self.tasks[said.stage] = self.progress.add_task(said.stage, total=1.0)
        words = f"{said.stage}: {said.words}"
        self.progress.update(self.tasks[said.stage], completed=said.share, description=words)


def _show(made: "Made", out: Path, as_json: bool) -> None:
    shown = [report for report in made.reports if report.subset != "frozen"]
    folder = None if made.package is None else made.package.folder
    if as_json:
        figures = {report.subset: [asdict(figure) for figure in report.figures] for report in shown}
        runs = [asdict(run) for run in made.runs]
        print_json({"package": folder, "cases": len(made.cases.items), "runs": runs, "figures": figures})
        return
    for report in shown:
        sys.stdout.write(f"{report.subset}\n")
        print_table(FIGURE_COLUMNS, [figure_row(figure) for figure in report.figures], empty="No figures.")
    if folder is None:
        sys.stdout.write(f"{len(made.cases.items)} cases; kept in {out}\n")
        return
    data = made.cases.folder
    sys.stdout.write(f"\nPackage: {folder}\nJudge it again: preread models evaluate {folder} --data {data}\n")
