"""The stages before training: cases prepared, divided into folds, and kept as slices on the canvas."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from models.package import hash_of
from models.simulation.cases import VERSION as GENERATOR
from models.training import cache
from models.training.cases import CasesError, list_cases
from models.training.judged_on import CasesIn
from models.training.order import VERSIONS, Order
from models.training.prepared import EXCLUDED, write_prepared
from models.training.sections import GeneratedNodulesData
from models.training.split import (
    Split,
    check_against_folder,
    draw_folds,
    draw_naive_folds,
    read_split,
    write_split,
)
from models.training.stages import Telling, Work, key_of

SPLIT, NAIVE = "split.csv", "naive.csv"


@dataclass(frozen=True)
class Divided:
    """The folds that count, and those that ignore groups where the recipe asks for them."""

    split: Split
    file: Path
    naive: Split | None


def prepare(order: Order, work: Work) -> CasesIn:
    """The cases in one form; the two known data sets are read in place.

    Raises
    ------
    CasesError
        The folder is missing, or a case cannot be used.
    """
    recipe, folder = order.recipe, order.data_folder
    if recipe.kind != "own":
        folder = folder / recipe.kind if (folder / recipe.kind).is_dir() else folder
        work.tell(Telling("prepare", "read in place", 1.0))
    else:
        folder = _prepared(order, work)
    return CasesIn(recipe.kind, folder, {item.name: item for item in list_cases(recipe.kind, folder)})


def _prepared(order: Order, work: Work) -> Path:
    recipe, data, folder = order.recipe, order.recipe.data, order.data_folder
    is_made = isinstance(data, GeneratedNodulesData)
    if not is_made and not folder.is_dir():
        raise CasesError(f"{folder} is no folder", remedy="Correct data.folder, or give --data.")
    about = {"name", "licence", "citation", "unit", "folder"}
    inputs = {
        "version": VERSIONS["prepare"],
        "data": data.model_dump(mode="json", exclude=about),
        "unit": recipe.input.unit,
        "classes": list(recipe.classes),
        **({"structures": recipe.findings.structures} if recipe.findings.structures else {}),
        "files": f"generator {GENERATOR}" if is_made else files_sha256(folder, work.folder),
    }

    def make(out: Path) -> None:
        shutil.rmtree(out)
        out.mkdir(parents=True)
        found = order.readers[data.reader](data, folder, recipe.input.unit)
        write_prepared(
            found,
            out,
            recipe.classes,
            faults_are_excluded=data.faults == "exclude",
            structures=recipe.findings.structures,
        )

    return work.stage("prepare", inputs, make)


def files_sha256(folder: Path, without: Path) -> str:
    """Of the names and contents of all files of a folder; `without`: the work's, should it lie there."""
    inner = without.resolve()
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and inner not in path.resolve().parents:
            content.update(f"{path.relative_to(folder).as_posix()} {hash_of(path)}\n".encode())
    return content.hexdigest()


def remarks(cases: CasesIn) -> list[str]:
    """Sentences for the card: what was not used and why, and whether patients are known."""
    path = cases.folder / EXCLUDED
    if cases.kind != "own":
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reasons = Counter(row["why"] for row in csv.DictReader(stream))
    sentences = [f"Left out of the data: {count} ({why})." for why, count in sorted(reasons.items())]
    if len({item.group for item in cases.items.values()}) == len(cases.items):
        sentences.append("Every case was taken for a patient of its own: no two share a group in the data.")
    return sentences


def cases_key(cases: CasesIn) -> str:
    """Of everything that is known of the cases, contents included."""
    return key_of({name: list(asdict(item).values()) for name, item in cases.items.items()})


def divide(order: Order, work: Work, cases: CasesIn) -> Divided:
    """The folds, drawn once or frozen; refused when a group crosses.

    Raises
    ------
    SplitError
        The split leaks, or was drawn for other cases.
    """
    section, items = order.recipe.split, list(cases.items.values())
    frozen = None if section.file is None else order.recipe_folder / section.file
    if frozen is not None:
        read_split(frozen)  # A leak, or no file, is refused before anything is written.
    inputs = {
        "version": VERSIONS["split"],
        "cases": cases_key(cases),
        "split": section.model_dump(mode="json", exclude={"file"}),
        "frozen": None if frozen is None else hash_of(frozen),
    }

    def make(out: Path) -> None:
        if frozen is not None:
            shutil.copyfile(frozen, out / SPLIT)
        else:
            folds = draw_folds(
                items,
                folds=section.folds,
                seed=section.seed,
                exclude_contradictions=section.contradictions == "exclude",
            )
            write_split(out / SPLIT, items, folds)
        if section.naive:
            drawn = len(read_split(out / SPLIT).fold_numbers)
            write_split(out / NAIVE, items, draw_naive_folds(items, folds=drawn, seed=section.seed))

    folder = work.stage("split", inputs, make)
    split = read_split(folder / SPLIT)
    # At every start, not only when it is drawn: data and tables change under a frozen split.
    check_against_folder(split, items)
    naive = read_split(folder / NAIVE, is_naive=True) if section.naive else None
    return Divided(split, folder / SPLIT, naive)


def fill_cache(order: Order, work: Work, cases: CasesIn, split: Split) -> None:
    """Slices of every case that is in a fold, prepared once."""
    used = [cases.items[name] for name, fold in split.folds.items() if fold >= 0]

    def progress(done: int, of: int) -> None:
        work.tell(Telling("cache", f"{done} of {of} cases", done / of))

    made = 0
    if work.processes.is_first:
        made = cache.fill(work.folder, used, order.recipe.run, lambda item: cases.load(item.name), progress)
    work.processes.wait()
    work.tell(Telling("cache", f"{made} cases prepared" if made else "done before", 1.0))
