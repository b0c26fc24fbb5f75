"""A recipe: one YAML file from which a package is made, and with which it can be judged again.

Everything is a plain value checked against these types; readers, networks and steps come from closed lists,
so a recipe is data and never code. Faults name the file, the line, the reason and the remedy. Any value can
be replaced on the command line: `--set training.steps=600`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from config.errors import PrereadError
from config.yaml_file import (
    FileProblems,
    Place,
    Problem,
    line_of,
    place_of,
    plain_value,
    read_tree,
    reason_of,
    spelled,
    written,
)
from models.applicability import Text
from models.grid_steps import Grid
from models.manifest import Card, Findings, Inference, Memory, ModelInput, OperatingPoint, Task
from models.networks.own_specs import CenterNetSpec
from models.networks.registry import EffNetLite0UNetSpec, NetworkSpec, OnnxCanvasSpec, OnnxSpec
from models.steps import (
    ImageGate,
    KeepDetections,
    MinComponent,
    MinPeak,
    PostprocessStep,
    PreprocessStep,
    Strict,
    Threshold,
)
from models.training.cases import DataKind
from models.training.grid_checks import check_grid
from models.training.recipes import FineTuning, GridRecipe, Recipe, RunRecipe, TrainingSettings
from models.training.sections import (
    DataSource,
    FindingsSection,
    GeneratedSection,
    JudgingSection,
    OperatingSection,
    SplitSection,
)
from models.training.settings import TrainSettings

FORMAT = "preread-recipe/1"
SHIPPED = ("brain-flair-lesion", "breast-us-lesion", "hippocampus-volume", "chest-ct-nodule")
MEMORY = Memory(base=200 << 20, per_canvas_pixel=1200, per_voxel=60)  # measured on the shipped network
GRID_MEMORY = Memory(base=200 << 20, per_canvas_pixel=2000, per_voxel=24)  # of U-Nets of 32 maps and fewer


class RecipeError(FileProblems):
    """A recipe that cannot be used; `problems` lists every reason found."""


class RecipeFile(Strict):
    """The whole file."""

    format: Literal["preread-recipe/1"]
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "0.0.1"
    title: Text
    summary: Text
    seed: int = 45  # of the runs and of the generated cases
    data: DataSource
    split: SplitSection = SplitSection()
    input: ModelInput
    preprocess: tuple[PreprocessStep, ...] = ()  # of a network on a canvas
    grid: Grid | None = None  # of every other network
    network: NetworkSpec
    training: TrainingSettings | None = None  # of a network on a canvas
    learning: TrainSettings | None = None  # of a network on a grid
    generated: GeneratedSection | None = None
    fine_tuning: FineTuning | None = None
    inference: Inference = Inference(flip=True, batch=8)
    postprocess: tuple[PostprocessStep, ...] = Field(min_length=1)
    findings: FindingsSection
    operating_point: OperatingSection
    judging: JudgingSection | None = None
    memory: Memory | None = None  # None: as measured on networks like it
    card: Card

    @model_validator(mode="after")
    def _parts_agree(self) -> RecipeFile:
        names = self.classes
        # A detector's classes are those of boxes.
        of_image = 0 if isinstance(self.network, CenterNetSpec) else self.network.classes
        if len(names) != of_image:
            raise ValueError(
                f"findings.classes names {len(names)} classes, network.classes is {of_image}. "
                "Make the two agree."
            )
        if [item.index for item in self.findings.classes] != list(range(len(names))):
            raise ValueError("findings.classes must be listed by index, from 0. Number them again.")
        for step in self.postprocess:
            if isinstance(step, ImageGate) and step.class_name not in names:
                raise ValueError(
                    f"postprocess: image_gate names the class {step.class_name!r}, findings.classes does "
                    "not. Correct one of them."
                )
        if self.kind == "own" and self.judging is None:
            raise ValueError("judging is required for your own data: say `judging: {length_unit: px}` or mm.")
        return self

    @model_validator(mode="after")
    def _network_is_fed(self) -> RecipeFile:
        """A canvas for the one network, a grid for the others."""
        name = self.network.registry
        if isinstance(self.network, EffNetLite0UNetSpec):
            if self.training is None or not self.preprocess:
                raise ValueError(f"network: {name} needs the sections preprocess and training. Add them.")
            if self.grid is not None or self.learning is not None or self.findings.structures:
                raise ValueError(
                    f"network: {name} reads a canvas and finds lesions: it has no grid, no learning and no "
                    "structures. Take them out, or use unet@1."
                )
            return self
        if isinstance(self.network, OnnxCanvasSpec | OnnxSpec):
            raise ValueError(f"network: {name} can be imported and run, but not trained here. Use unet@1.")
        if self.grid is None or self.learning is None:
            raise ValueError(f"network: {name} needs the sections grid and learning. Add them.")
        if self.preprocess or self.training is not None or self.fine_tuning is not None:
            raise ValueError(
                f"network: {name} reads a grid: preprocess, training and fine_tuning are for "
                "effnet_lite0_unet@1. Take them out."
            )
        if self.findings.structures and self.generated is not None:
            raise ValueError("generated: generated cases show lesions, not structures. Take the section out.")
        check_grid(self.network, self.grid, self.learning, self.findings.structures)
        return self

    @property
    def kind(self) -> DataKind:
        """Which of the known data sets is read; own: any other."""
        reader = self.data.reader
        return reader if reader in ("brain-flair", "breast-us") else "own"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of a whole image; empty without a class head."""
        return tuple(item.name for item in self.findings.classes)

    @property
    def run(self) -> RunRecipe:
        """What decides a training run."""
        if not isinstance(self.network, EffNetLite0UNetSpec):
            assert self.grid is not None, "checked when the file was read"
            assert self.learning is not None, "the same"
            return GridRecipe(
                id=self.id,
                kind=self.kind,
                classes=self.classes,
                network=self.network,
                grid=self.grid,
                learning=self.learning,
            )
        assert self.training is not None, "checked when the file was read"
        return Recipe(
            id=self.id,
            kind=self.kind,
            classes=self.classes,
            network=self.network,
            preprocess=self.preprocess,
            **dict(self.training),
        )

    @property
    def memory_needed(self) -> Memory:
        """As model.json has it."""
        return self.memory or (MEMORY if self.grid is None else GRID_MEMORY)

    @property
    def task(self) -> Task:
        """As model.json has it."""
        if isinstance(self.network, CenterNetSpec):
            return Task(kind="detect")
        return Task(kind="segment_and_classify" if self.classes else "segment")

    @property
    def coded_findings(self) -> Findings:
        """As model.json has it."""
        return self.findings.coded()

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """The one setting of the thresholds, collected from the post-processing."""
        thresholds: dict[str, float] = {}
        for step in self.postprocess:
            if isinstance(step, Threshold):
                thresholds["probability"] = step.probability
            elif isinstance(step, MinPeak):
                thresholds["peak"] = step.probability
            elif isinstance(step, KeepDetections):
                thresholds["score"] = step.score
            elif isinstance(step, MinComponent) and step.minimum_ml is not None:
                thresholds["minimum_ml"] = step.minimum_ml
            elif isinstance(step, MinComponent) and step.minimum_share is not None:
                thresholds["minimum_share"] = step.minimum_share
            elif isinstance(step, ImageGate) and step.probability is not None:
                thresholds[f"{step.class_name}_from"] = step.probability
        point = self.operating_point
        return (
            OperatingPoint(name=point.name, default=True, thresholds=thresholds, chosen_on=point.chosen_on),
        )

    def resolved(self) -> str:
        """Every setting as YAML, defaults included, as it is kept in a package."""
        content = self.model_dump(mode="json")
        return f"# Every setting of this package's training, defaults included.\n{written(content)}"


def read_recipe(file: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """Read and check a recipe.

    Parameters
    ----------
    overrides : "training.steps=600", "preprocess.1.rows=192": place and value, as on the command line

    Raises
    ------
    RecipeError
        With every problem found: file and line (or the override), setting, reason, remedy.
    """
    if not file.is_file():
        remedy = "there is no such file. Make one with `preread models init`."
        raise RecipeError([Problem(str(file), "", remedy)])
    try:
        tree, lines = read_tree(file, first_words=f"format: {FORMAT}")
    except FileProblems as error:
        raise RecipeError(error.problems) from None
    replaced: dict[Place, str] = {}
    for text in overrides:
        replaced[_replace(tree, text)] = f"--set {text}"
    try:
        # Through JSON, where a list is a tuple: the types stay strict otherwise.
        return RecipeFile.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        problems = []
        for detail in error.errors():
            place = place_of(detail, RecipeFile)
            option = next((replaced[place[:n]] for n in range(len(place) + 1) if place[:n] in replaced), None)
            where = option or f"{file} line {line_of(place, lines)}"
            problems.append(Problem(where, spelled(place), reason_of(detail, detail["loc"], RecipeFile)))
        raise RecipeError(problems) from None


def _replace(tree: dict[str, Any], text: str) -> Place:
    """Put one override into the tree; returns its place."""
    name, sign, value = text.partition("=")
    place: Place = tuple(int(part) if part.isdigit() else part for part in name.split("."))
    if not sign or not all(str(part) for part in place):
        raise RecipeError([Problem(f"--set {text}", "", "write it as place=value: training.steps=600.")])
    try:
        new = plain_value(value)
    except yaml.YAMLError:
        raise RecipeError(
            [Problem(f"--set {text}", name, "the value is not valid YAML. Quote it.")]
        ) from None
    node: Any = tree
    for part in place[:-1]:
        node = node.setdefault(part, {}) if isinstance(node, dict) else _entry(node, part)
        if not isinstance(node, dict | list):
            raise RecipeError([Problem(f"--set {text}", name, f"{part} is no section here. Correct it.")])
    last = place[-1]
    if isinstance(node, list) and _entry(node, last) is None:
        raise RecipeError([Problem(f"--set {text}", name, f"there is no {last} in this list. Correct it.")])
    node[last] = new
    return place


def _entry(entries: list[Any], index: str | int) -> Any:
    return entries[index] if isinstance(index, int) and index < len(entries) else None


class UnknownRecipe(PrereadError):
    """Neither a file nor the id of a shipped recipe."""


def shipped_path(recipe_id: str) -> Path:
    """The file of a shipped recipe."""
    return Path(__file__).parent / "shipped" / f"{recipe_id}.yaml"


def shipped_recipe(recipe_id: str) -> RecipeFile:
    """A recipe of a package that is shipped with preread."""
    return read_recipe(shipped_path(recipe_id))


def recipe_path(name: str) -> Path:
    """The file that is meant: its path, or the id of a shipped recipe.

    Raises
    ------
    UnknownRecipe
        There is none.
    """
    if Path(name).is_file():
        return Path(name)
    if name in SHIPPED:
        return shipped_path(name)
    raise UnknownRecipe(
        f"there is no recipe {name}",
        remedy=f"Give a YAML file, or one of {', '.join(SHIPPED)}; `preread models init` makes a file.",
    )
