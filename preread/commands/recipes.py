"""`preread models init`: a commented recipe to begin with, and generated data to try it on."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from preread.commands.options import fail


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe that is written, e.g. mine.yaml.")],
    example: Annotated[
        Path | None,
        typer.Option(help="Also write a folder of generated images with masks that the recipe can read."),
    ] = None,
) -> None:
    """Write a commented recipe for your own images and masks; every value in it can be changed."""
    from models.training.starting import starting_recipe, write_example

    if file.exists():
        raise fail(f"{file} is there already. Name another file, or remove it.")
    if example is not None and example.exists():
        raise fail(f"{example} is there already. Name another folder, or remove it.")
    name = file.stem.lower().replace("_", "-")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(starting_recipe(name, "cases" if example is None else example.name), encoding="utf-8")
    if example is not None:
        write_example(example)
    sys.stdout.write(f"Recipe: {file}\nEdit it, then: preread models train {file} --out FOLDER\n")
