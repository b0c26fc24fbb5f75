"""Frozen splits: a table of case, group, fold and content hash in the repository, and the guard against
leaks.

Fold 0 is scored and never trained on. Groups whose copies carry different classes are excluded from both
sides.
"""

from __future__ import annotations

import csv
import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.training.cases import DataKind, Listed

EXCLUDED = -1
FIELDS = ("name", "group", "stratum", "fold", "sha256")


class SplitError(ValueError):
    """A split that leaks, does not fit the data folder, or cannot be read."""


@dataclass(frozen=True)
class Split:
    """Fold of each case. `sha256` is that of the table's text."""

    folds: dict[str, int]
    items: dict[str, Listed]
    sha256: str

    def training(self, scored_fold: int = 0) -> list[Listed]:
        """Cases of all other folds."""
        return [self.items[name] for name, fold in self.folds.items() if fold not in (scored_fold, EXCLUDED)]

    def scored(self, scored_fold: int = 0) -> list[Listed]:
        """Cases of the scored fold."""
        return [self.items[name] for name, fold in self.folds.items() if fold == scored_fold]

    def excluded(self) -> list[Listed]:
        """Cases on neither side."""
        return [self.items[name] for name, fold in self.folds.items() if fold == EXCLUDED]


def split_path(kind: DataKind) -> Path:
    """The frozen split of a data set."""
    return Path(__file__).parent / "splits" / f"{kind}.csv"


def axilla_images() -> frozenset[str]:
    """Images of the scored breast fold whose burned-in text says that they show the axilla, read by eye.

    The package is not for the axilla; figures are given with and without them.
    """
    path = split_path("breast-us").with_name("breast-us-axilla.txt")
    return frozenset(path.read_text(encoding="utf-8").split())


def draw_folds(items: Sequence[Listed], *, folds: int, seed: int) -> dict[str, int]:
    """Folds by group, balanced over strata; a group with two strata is excluded (its copies contradict each
    other).
    """
    members: dict[str, list[Listed]] = defaultdict(list)
    for item in items:
        members[item.group].append(item)
    by_stratum: dict[str, list[str]] = defaultdict(list)
    result: dict[str, int] = {}
    for group, group_items in sorted(members.items()):
        strata = {item.stratum for item in group_items}
        if len(strata) > 1:
            result.update({item.name: EXCLUDED for item in group_items})
        else:
            by_stratum[strata.pop()].append(group)
    generator = random.Random(seed)
    for _, groups in sorted(by_stratum.items()):
        generator.shuffle(groups)
        counts = [0] * folds
        # Large groups first, each to the emptiest fold: folds of a stratum differ by a few cases at most.
        for group in sorted(groups, key=lambda name: -len(members[name])):
            fold = counts.index(min(counts))
            counts[fold] += len(members[group])
            result.update({item.name: fold for item in members[group]})
    return {item.name: result[item.name] for item in items}


def write_split(path: Path, items: Sequence[Listed], folds: dict[str, int]) -> None:
    """Freeze a split as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(FIELDS)
        for item in items:
            writer.writerow([item.name, item.group, item.stratum, folds[item.name], item.sha256])


def read_split(path: Path) -> Split:
    """Read and check a frozen split.

    Raises
    ------
    SplitError
        The table is missing or malformed, or a group or identical content lies in two folds.
    """
    if not path.is_file():
        raise SplitError(f"split {path} is missing; it is part of the repository, check it out again")
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or tuple(rows[0]) != FIELDS:
        raise SplitError(f"split {path} must have the columns {', '.join(FIELDS)}")
    items = {row["name"]: Listed(row["name"], row["group"], row["stratum"], row["sha256"]) for row in rows}
    folds = {row["name"]: int(row["fold"]) for row in rows}
    if len(items) != len(rows):
        raise SplitError(f"split {path} names a case twice")
    refuse_leaks(items.values(), folds, str(path))
    return Split(folds, items, hashlib.sha256(text.encode()).hexdigest())


def refuse_leaks(items: Iterable[Listed], folds: dict[str, int], where: str) -> None:
    """Raise SplitError when a group, or the same bytes, stand in two folds."""
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    for item in items:
        for key in (("group", item.group), ("content", item.sha256)):
            fold, other = seen.setdefault(key, (folds[item.name], item.name))
            if fold != folds[item.name]:
                raise SplitError(
                    f"{where}: {item.name} (fold {folds[item.name]}) and {other} (fold {fold}) share one "
                    f"{key[0]}; "
                    "a split that leaks measures memory: draw the folds again by group"
                )


def check_against_folder(split: Split, listed: Sequence[Listed]) -> None:
    """Raise SplitError unless the folder holds exactly the split's cases with the split's content."""
    present = {item.name: item for item in listed}
    for name, item in split.items.items():
        if name not in present:
            raise SplitError(
                f"case {name} of the split is not in the data folder; use the folder the split was drawn for"
            )
        if present[name].sha256 != item.sha256:
            raise SplitError(
                f"case {name} has other content than when the split was drawn; copy the data again"
            )
    unknown = sorted(set(present) - set(split.items))
    if unknown:
        raise SplitError(
            f"{len(unknown)} cases are not in the split, the first is {unknown[0]}; draw a new split"
        )
