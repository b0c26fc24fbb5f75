"""On which cases a package is judged: by the recipe and the split in its folder, or those of a shipped one.

A package that was made with `preread models train` carries both; the shipped packages of earlier versions are
known by their id.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from config.errors import PrereadError
from models.package import Package
from models.training.cases import Case, CasesError, DataKind, Listed, list_cases, load_case
from models.training.prepared import write_prepared
from models.training.readers import READERS
from models.training.recipe_file import SHIPPED, RecipeFile, read_recipe, shipped_recipe
from models.training.split import Split, SplitError, check_against_folder, read_split, split_path


class NotJudged(PrereadError):
    """A package that no recipe of ours made."""


@dataclass(frozen=True)
class JudgedOn:
    """A recipe and the frozen split of its data."""

    recipe: RecipeFile
    split: Split

    @property
    def kind(self) -> DataKind:
        """Which data set."""
        return self.recipe.kind

    @property
    def dataset(self) -> str:
        """Its name in figures: the known data set, or the package itself."""
        return self.recipe.id if self.kind == "own" else self.kind

    def cases_in(self, folder: Path) -> CasesIn:
        """The cases, in the folder of the data set, the one that holds it, or where training prepared them.

        Files as a reader of image and mask pairs takes them are prepared now, in a temporary folder.

        Raises
        ------
        CasesError, SplitError
            The folder is not the one the frozen split was drawn for.
        """
        if self.kind != "own":
            place = folder / self.kind if (folder / self.kind).is_dir() else folder
            return CasesIn(self.kind, place, self._checked(place))
        faults: list[PrereadError] = []
        for place in (folder, *sorted(folder.glob("prepare-*"))):
            try:
                return CasesIn("own", place, self._checked(place))
            except (CasesError, SplitError) as error:
                faults.append(error)
        for place in (folder, *sorted(inner for inner in folder.glob("*") if inner.is_dir())):
            try:
                return self._prepared_now(place)
            except (CasesError, SplitError) as error:
                faults.insert(0, error)
        raise faults[-1]

    def _prepared_now(self, folder: Path) -> CasesIn:
        recipe, data = self.recipe, self.recipe.data
        if data.reader not in READERS or not folder.is_dir():
            raise CasesError(f"{folder} cannot be read as {data.reader} here")
        place = Path(mkdtemp(prefix="preread-cases-"))
        try:
            write_prepared(
                READERS[data.reader](data, folder, recipe.input.unit),
                place,
                recipe.classes,
                faults_are_excluded=data.faults == "exclude",
                structures=recipe.findings.structures,
            )
            cases = CasesIn("own", place, self._checked(place))
        except BaseException:
            shutil.rmtree(place)
            raise
        weakref.finalize(cases, shutil.rmtree, place)
        return cases

    def _checked(self, place: Path) -> dict[str, Listed]:
        listed = list_cases(self.kind, place)
        check_against_folder(self.split, listed)
        return {item.name: item for item in listed}


@dataclass(frozen=True)
class CasesIn:
    """A folder whose cases are those of the split."""

    kind: DataKind
    folder: Path
    items: dict[str, Listed]

    def load(self, name: str) -> Case:
        """Read one case."""
        return load_case(self.kind, self.folder, self.items[name])

    def load_all(self, items: Sequence[Listed]) -> list[Case]:
        """Read several."""
        return [self.load(item.name) for item in items]


def judged_on(package: Package) -> JudgedOn:
    """What a package is judged on.

    Raises
    ------
    NotJudged
        It was imported, or made without its recipe.
    RecipeError, SplitError
        Its recipe or split cannot be read.
    """
    manifest = package.manifest
    if manifest.has("recipe") and manifest.has("split"):
        return JudgedOn(read_recipe(package.path("recipe")), read_split(package.path("split")))
    if manifest.id in SHIPPED:
        recipe = shipped_recipe(manifest.id)
        return JudgedOn(recipe, read_split(split_path(recipe.kind)))
    raise NotJudged(
        f"nothing is known to judge {manifest.id} on",
        remedy="A package that `preread models train` made names its cases; this one does not.",
    )
