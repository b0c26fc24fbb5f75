"""Splits: a frozen table of case, group, fold and content hash, how it is drawn, the guard against leaks.

Fold 0 is scored and never trained on. Groups whose copies carry different classes may be excluded from both
sides.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import PrereadError
from models.training.cases import DataKind, Listed

EXCLUDED = -1
FIELDS = ("name", "group", "stratum", "fold", "sha256")


class SplitError(PrereadError):
    """A split that leaks, does not fit the data folder, or cannot be read or drawn."""


@dataclass(frozen=True)
class Split:
    """Fold of each case. `sha256` is that of the table's text."""

    folds: dict[str, int]
    items: dict[str, Listed]
    sha256: str

    @property
    def fold_numbers(self) -> list[int]:
        """All folds, 0 first."""
        return sorted(set(self.folds.values()) - {EXCLUDED})

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
    """The frozen split of a known data set."""
    return Path(__file__).parent / "splits" / f"{kind}.csv"


def axilla_images() -> frozenset[str]:
    """Images of the scored breast fold whose burned-in text says that they show the axilla, read by eye.

    The package is not for the axilla; figures are given with and without them.
    """
    path = split_path("breast-us").with_name("breast-us-axilla.txt")
    return frozenset(path.read_text(encoding="utf-8").split())


def draw_folds(
    items: Sequence[Listed], *, folds: int, seed: int, exclude_contradictions: bool = False
) -> dict[str, int]:
    """Folds that keep groups together and are balanced over strata.

    Cases with the same pixels count as one group, whatever the groups say.

    Parameters
    ----------
    exclude_contradictions : put groups whose cases carry different classes on neither side

    Raises
    ------
    SplitError
        Fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = joined_groups(items)
    classes: dict[str, set[str]] = defaultdict(set)
    for item in items:
        classes[groups[item.name]].add(item.class_name)
    result = {item.name: EXCLUDED for item in items}
    kept = [item for item in items if not exclude_contradictions or len(classes[groups[item.name]]) == 1]
    kept_groups = [groups[item.name] for item in kept]
    if len(set(kept_groups)) < folds:
        raise SplitError(
            f"{len(set(kept_groups))} groups cannot be divided into {folds} folds",
            remedy="Collect more cases, or set split.folds lower.",
        )
    drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return result | _folds_of(drawn, kept, kept_groups)


def draw_naive_folds(items: Sequence[Listed], *, folds: int, seed: int) -> dict[str, int]:
    """Folds that ignore groups, as many published figures rest on; only to show what that hides."""
    from sklearn.model_selection import StratifiedKFold

    return _folds_of(StratifiedKFold(folds, shuffle=True, random_state=seed), items, None)


def _folds_of(drawn: Any, items: Sequence[Listed], groups: Sequence[str] | None) -> dict[str, int]:
    result: dict[str, int] = {}
    strata = common_strata([item.stratum for item in items], drawn.n_splits)
    with warnings.catch_warnings():
        # A stratum with fewer cases than folds cannot stand in every fold; that is no fault.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(drawn.split(items, strata, groups))
    for fold, (_, scored) in enumerate(parts):
        result.update({items[index].name: fold for index in scored})
    return result


def common_strata(strata: Sequence[str], least: int) -> list[str]:
    """Strata with rare ones put together, so that at least one has a case for every fold."""
    counts = Counter(strata)
    if max(counts.values()) < least:
        return ["all"] * len(strata)
    return [name if counts[name] >= least else "rare" for name in strata]


def joined_groups(items: Iterable[Listed]) -> dict[str, str]:
    """Group of each case, where groups that share the same pixels are one."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    by_content: dict[str, str] = {}
    listed = list(items)
    for item in listed:
        first, second = sorted((root(item.group), root(by_content.setdefault(item.sha256, item.group))))
        parent[second] = first
    return {item.name: root(item.group) for item in listed}


def write_split(path: Path, items: Sequence[Listed], folds: dict[str, int]) -> None:
    """Freeze a split as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(FIELDS)
        for item in items:
            writer.writerow([item.name, item.group, item.stratum, folds[item.name], item.sha256])


def read_split(path: Path, *, is_naive: bool = False) -> Split:
    """Read and check a frozen split.

    Parameters
    ----------
    is_naive : drawn without groups on purpose: leaks are what it is to show

    Raises
    ------
    SplitError
        The table is missing or malformed, or a group or identical content lies in two folds.
    """
    if not path.is_file():
        raise SplitError(
            f"split {path} is missing", remedy="A frozen split is kept with its recipe: put it back."
        )
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or tuple(rows[0]) != FIELDS:
        raise SplitError(f"split {path} must have the columns {', '.join(FIELDS)}")
    items = {row["name"]: Listed(row["name"], row["group"], row["stratum"], row["sha256"]) for row in rows}
    try:
        folds = {row["name"]: int(row["fold"]) for row in rows}
    except ValueError as error:
        raise SplitError(f"split {path}: a fold is not a number: {error}") from None
    if len(items) != len(rows):
        raise SplitError(f"split {path} names a case twice")
    if not is_naive:
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
                    f"{key[0]}; a split that leaks measures memory",
                    remedy="Draw the folds again by group.",
                )


def check_against_folder(split: Split, listed: Sequence[Listed], *, is_naive: bool = False) -> None:
    """Raise SplitError unless the folder holds exactly the split's cases with the split's content.

    The groups are those that the data name now, too: a table whose groups were changed hides no leak.
    """
    present = {item.name: item for item in listed}
    for name, item in split.items.items():
        if name not in present:
            raise SplitError(
                f"case {name} of the split is not in the data folder",
                remedy="Use the folder the split was drawn for.",
            )
        if present[name].sha256 != item.sha256:
            raise SplitError(
                f"case {name} has other content than when the split was drawn", remedy="Copy the data again."
            )
    unknown = sorted(set(present) - set(split.items))
    if unknown:
        raise SplitError(
            f"{len(unknown)} cases are not in the split, the first is {unknown[0]}",
            remedy="Draw a new split.",
        )
    if not is_naive:
        refuse_leaks(listed, split.folds, "the data folder")
