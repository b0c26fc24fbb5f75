"""`preread models train`: from the data folder to a package with weights, card, golden case and figures."""

import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preread.commands.options import (
    FIGURE_COLUMNS,
    DataFolder,
    Json,
    figure_row,
    print_json,
    print_table,
    wrong_use,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from models.evaluation.evaluate import CaseResult
    from models.training.build import PicturedCase
    from models.training.cases import Case
    from models.training.recipes import Recipe
    from models.training.run import TrainingRun

WEIGHTS = "weights.safetensors"
FOLDS = 5
PICTURED, UNSEEN = 6, 1000  # cases on the card, and how far their seed is from that of the training
GENERATED = {"brain-flair-lesion": 36, "breast-us-lesion": 60}
# The first run of this recipe draws at the skull base of heads without lesion; a short second one ends that.
FINE_TUNED = ("brain-flair-lesion",)


def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id of a shipped recipe.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints, logs, weights and the package.")],
    data: DataFolder = Path("../shared/data"),
    version: Annotated[str, typer.Option(help="Version of the package that is written.")] = "0.0.1",
    seed: Annotated[int, typer.Option(help="Seed of the runs and of the generated cases.")] = 45,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length of the first run; else the recipe's.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Length of each run in time instead.")] = None,
    generated: Annotated[
        int | None,
        typer.Option(min=0, help="Generated cases to mix in, a minority; without the option as shipped."),
    ] = None,
    fine_tune: Annotated[
        bool | None, typer.Option(help="Add a short second run; without the option as shipped.")
    ] = None,
    out_of_fold: Annotated[
        bool,
        typer.Option("--out-of-fold", help="Train and judge the networks of the other folds, too: slow."),
    ] = False,
    fold: Annotated[
        int | None,
        typer.Option(min=0, max=FOLDS - 1, help="Only train the network that does not see this fold."),
    ] = None,
    note: Annotated[
        list[str] | None, typer.Option(help="A sentence for the card about this training; may be repeated.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of resuming.")] = False,
    as_json: Json = False,
) -> None:
    """Train a package from the data folder to weights, card, golden case and figures; resumes by itself."""
    from rich.console import Console
    from rich.progress import Progress

    from models.training.build import build_package
    from models.training.recipes import RECIPES

    if name not in RECIPES:
        raise wrong_use(f"there is no recipe {name}. Known: {', '.join(sorted(RECIPES))}.")
    recipe = RECIPES[name]
    plan = _Plan(
        recipe, data, seed, steps, minutes, fresh, fine_tune if fine_tune is not None else name in FINE_TUNED
    )
    with Progress(console=Console(stderr=True)) as bar:
        cases = _generated(recipe, GENERATED[name] if generated is None else generated, seed, bar)
        if fold is not None:
            _train_fold(plan, out, fold, bar, cases)
            return
        runs, last = _train_fold(plan, out, 0, bar, cases)
        others: list[CaseResult] = []
        for other in range(1, FOLDS) if out_of_fold else ():
            others += _judge_fold(plan, out, other, bar, cases)
        task = bar.add_task(f"evaluating {name}", total=None)
        package, reports = build_package(
            last / WEIGHTS,
            runs,
            data,
            out / name,
            version=version,
            released=f"{datetime.now(UTC):%Y-%m-%d}",
            pictured=_pictured(recipe, seed),
            notes=note or (),
            others=others,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    shown = [report for report in reports if report.subset != "frozen"]
    if as_json:
        figures = {report.subset: [asdict(figure) for figure in report.figures] for report in shown}
        print_json({"package": package.folder, "runs": [asdict(run) for run in runs], "figures": figures})
        return
    for report in shown:
        sys.stdout.write(f"{report.subset}\n")
        print_table(FIGURE_COLUMNS, [figure_row(figure) for figure in report.figures], empty="No figures.")
    sys.stdout.write(f"\nPackage: {package.folder}\n")


def _generated(recipe: "Recipe", count: int, seed: int, bar: "Progress") -> "list[Case]":
    from preread.demo.generated_cases import generated_cases

    cases = generated_cases(recipe.kind, count, seed=seed)
    return list(bar.track(cases, total=count, description="generating cases")) if count else []


def _pictured(recipe: "Recipe", seed: int) -> "list[PicturedCase]":
    """Generated cases that no run of this seed has seen, as they come: data sets may not be published."""
    from models.training.build import PicturedCase
    from preread.demo.generated_cases import generated_cases

    return [
        PicturedCase(
            case.volume,
            case.mask,
            f"Generated {_what_it_shows(case)}",
        )
        for case in generated_cases(recipe.kind, PICTURED, seed=seed + UNSEEN)
    ]


def _what_it_shows(case: "Case") -> str:
    if case.class_name == "normal" or not case.mask.any():
        return "case without a lesion"
    return f"{case.class_name} lesion" if case.class_name else "case with lesions"


@dataclass(frozen=True)
class _Plan:
    """What all folds have in common."""

    recipe: "Recipe"
    data: Path
    seed: int
    steps: int | None
    minutes: float | None
    fresh: bool
    fine_tuned: bool


def _train_fold(
    plan: _Plan, out: Path, fold: int, bar: "Progress", cases: "list[Case]"
) -> "tuple[list[TrainingRun], Path]":
    """The runs of the network that does not see `fold`, and the folder of the last one."""
    last = out / f"fold-{fold}" / "first"
    runs = [_run(plan, last, fold, bar, cases)]
    if plan.fine_tuned:
        start, last = last / WEIGHTS, out / f"fold-{fold}" / "fine-tuned"
        runs.append(_run(plan, last, fold, bar, cases, start))
    return runs, last


def _judge_fold(
    plan: _Plan, out: Path, fold: int, bar: "Progress", cases: "list[Case]"
) -> "list[CaseResult]":
    """Train without `fold`, then judge on it."""
    from models.evaluation.evaluate import judge_all
    from models.training.build import open_draft
    from models.training.split import read_split, split_path

    runs, last = _train_fold(plan, out, fold, bar, cases)
    draft = out / f"fold-{fold}" / "draft"
    predictor = open_draft(
        last / WEIGHTS, runs, draft, version="0.0.1", released=f"{datetime.now(UTC):%Y-%m-%d}"
    )
    task = bar.add_task(f"evaluating fold {fold}", total=None)
    items = read_split(split_path(plan.recipe.kind)).scored(fold)
    return judge_all(
        predictor, plan.data, items, progress=lambda done, of: bar.update(task, completed=done, total=of)
    )


def _run(
    plan: _Plan,
    out: Path,
    fold: int,
    bar: "Progress",
    cases: "list[Case]",
    start: Path | None = None,
) -> "TrainingRun":
    from models.training.run import run_training

    title = f"fold {fold}, {out.name} run"
    task = bar.add_task(title, total=1.0)
    run = run_training(
        plan.recipe,
        plan.data,
        out,
        seed=plan.seed if start is None else plan.seed + 1,
        scored_fold=fold,
        steps=plan.steps if start is None else None,
        minutes=plan.minutes,
        resume=not plan.fresh,
        extra_cases=cases,
        initial_weights=start,
        progress=lambda line: bar.update(task, completed=line.share, description=f"{title}: {line.words}"),
    )
    bar.update(task, completed=1.0)
    return run
