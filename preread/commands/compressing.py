"""`preread models compress`: a smaller package, judged beside its original before it is written."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from preread.commands.amending import Version, generated_like
from preread.commands.evaluation import DEFAULT_DATA, bar
from preread.commands.options import EXIT_FAILED, Config, DataFolder, Json, print_json, print_table
from preread.commands.package_names import PackageName, package_named

if TYPE_CHECKING:
    from models.compression.candidates import School
    from models.compression.compressing import Compressed, Method
    from models.compression.retraining import Lessons
    from models.package import Package
    from models.training.recipe_file import RecipeFile
    from models.training.record import Progress

DEFAULT_STEPS = 1000


def compress(
    name: PackageName,
    out: Annotated[Path, typer.Option(help="Folder of the package that is written, where nothing is lost.")],
    method: Annotated[
        Literal["bf16", "int8", "prune", "distil"],
        typer.Option(
            help="bf16: half precision; int8: integers, for CPUs (extra onnx); prune: fewer channels; "
            "distil: a smaller student."
        ),
    ],
    data: DataFolder = DEFAULT_DATA,
    version: Version = None,
    share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Of the channels that prune takes out.")
    ] = 0.4,
    recipe: Annotated[
        Path | None, typer.Option(help="Of the student of distil; else the package's, changed by --set.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PLACE=VALUE",
            help="In the student's recipe: network.decoder_channels=[32,24,16,16].",
        ),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a further run on the same folds, as another teacher; may be repeated."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of training, for prune and distil.")] = DEFAULT_STEPS,
    teacher_weight: Annotated[
        float, typer.Option(min=0, help="Of agreement with the teachers against the cases.")
    ] = 4.0,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of that training; else OUT.training. A stopped one goes on there."),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds after which training stops cleanly, to be gone on with."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of training and generated cases.")] = 45,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a package smaller or faster, and write it only where that costs nothing; else end with 1.

    It must be 1.5 times as fast or half the size, and on cases its training did not see, Dice and AUC may be
    at most half a point worse with their whole 95 % interval, without a mistake of a new kind.
    """
    from models.compression.compressing import Wish, compress_package
    from models.compression.retraining import Lessons

    package = package_named(name, config)
    school: School | None = None
    if method in ("prune", "distil"):
        lessons = Lessons(steps, teacher_weight, deadline_seconds=deadline)
        school = _school(package, lessons, work or out.with_name(f"{out.name}.training"), seed)
    student = _student(package, recipe, sets or []) if method == "distil" else None
    wish = Wish(method, share, student, teacher or (), school)
    with bar(f"judging {package.manifest.id} beside its {method} form") as progress:
        done = compress_package(
            package,
            data,
            out,
            wish,
            version=version,
            released=f"{datetime.now(UTC):%Y-%m-%d}",
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "package": done.package.folder if done.package else None,
                "made": done.words,
                "gain": {**asdict(done.gain), "speed": done.gain.speed, "size": done.gain.size},
                "rows": [asdict(row) for row in done.rows],
                "objections": done.objections,
            }
        )
    else:
        _tell(done, method)
    if done.package is None:
        raise typer.Exit(EXIT_FAILED)


def _school(package: "Package", lessons: "Lessons", work: Path, seed: int) -> "School":
    from models.compression.candidates import School

    def tell(line: "Progress") -> None:
        sys.stderr.write(f"{line.share:4.0%} {line.words}\n")

    return School(lessons, generated_like(package, None, seed), work, seed, tell)


def _student(package: "Package", file: Path | None, sets: list[str]) -> "RecipeFile":
    from models.training.judged_on import judged_on
    from models.training.recipe_file import read_recipe, shipped_path

    if file is None:
        judged_on(package)  # Says why, where no recipe of ours made it.
        has_own = package.manifest.has("recipe")
        file = package.path("recipe") if has_own else shipped_path(package.manifest.id)
    return read_recipe(file, sets)


def _tell(done: "Compressed", method: "Method") -> None:
    from models.compression.verdict import GUARDED, LOSS_MAX, SIZE_MAX, SPEED_MIN

    gain = done.gain
    print_table(
        ("figure", "original", method, "difference", "95 % interval", "limit"),
        [
            (
                "weights, MB",
                f"{gain.bytes_before / 1e6:.2f}",
                f"{gain.bytes_after / 1e6:.2f}",
                f"x {gain.size:.2f}",
                "–",
                f"x {SIZE_MAX:g}, or speed",
            ),
            (
                "seconds",
                f"{median(gain.seconds_before):.2f}",
                f"{median(gain.seconds_after):.2f}",
                f"{gain.speed:.2f} times as fast",
                f"{min(gain.speeds):.2f} to {max(gain.speeds):.2f}",
                f"{SPEED_MIN:g} times, or size",
            ),
            *(
                (
                    row.metric,
                    f"{row.first:.3f}",
                    f"{row.second:.3f}",
                    f"{row.difference.value:+.4f}",
                    f"{row.difference.ci95[0]:+.4f} to {row.difference.ci95[1]:+.4f}",
                    f"-{LOSS_MAX:g}" if row.metric in GUARDED else "–",
                )
                for row in done.rows
            ),
        ],
        empty="Nothing was measured.",
    )
    sys.stdout.write(f"\n{done.words}\n")
    for objection in done.objections:
        sys.stdout.write(f"NOT WRITTEN: {objection}\n")
    if done.package is not None:
        sys.stdout.write(f"Package: {done.package.folder} {done.package.manifest.version}\n")
