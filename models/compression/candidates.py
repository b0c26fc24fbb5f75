"""What each method makes of a package: a new weights file, and what changes in the manifest with it.

Nothing here judges; see `models.compression.compressing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from config.errors import PrereadError
from models.compression.graph import CLASSES, FEATURES, INPUT, LESION, LOGITS, float_graph
from models.compression.pruning import prune
from models.compression.quantised import calibration_inputs, quantised_graph
from models.compression.retraining import Lessons, Retrained, retrained
from models.manifest import FileRole, Training
from models.networks.building import build_declared, parameter_count
from models.networks.own_specs import UNetSpec
from models.networks.registry import EffNetLite0UNetSpec, OnnxCanvasSpec, OnnxSpec
from models.networks.spec_parts import GridSpec
from models.package import Package
from models.predictor import load_network
from models.steps import FitCanvas
from models.training.build import RECIPE
from models.training.cases import Case
from models.training.judged_on import JudgedOn, judged_on
from models.training.recipe_file import RecipeFile
from models.training.record import Progress
from models.training.run import WEIGHTS_NAME, read_run

WEIGHTS, GRAPH = "weights.safetensors", "network.onnx"
# What was fitted to the features and answers of the network before, and is nothing to the new one.
FITTED = ("calibration", "ood", "uncertainty", "explain")
PRUNED_RATE = 0.3  # of the recipe's rates: what is left has learnt before


@dataclass(frozen=True, eq=False)
class Candidate:
    """A compressed network before it is judged.

    files : new content by path; blocks : fields of the manifest that change
    without : roles whose files go
    words : of the card
    """

    files: dict[str, tuple[FileRole, bytes]]
    words: str
    blocks: dict[str, Any] = field(default_factory=dict)
    without: frozenset[FileRole] = frozenset()


@dataclass(frozen=True, eq=False)
class School:
    """Where and with what a student learns.

    cases : of the training folds, and generated ones
    work : folder of the run; a stopped one goes on there
    """

    lessons: Lessons
    cases: Sequence[Case]
    work: Path
    seed: int
    progress: Callable[[Progress], None]


def in_bfloat16(package: Package) -> Candidate:
    """Weights in bfloat16, and leave to compute in it.

    Raises
    ------
    PrereadError
        The weights are a graph.
    """
    path = package.path("weights")
    if path.suffix != ".safetensors":
        raise _not_that_way(package, "bf16")
    runtime = package.manifest.runtime
    return Candidate(
        {WEIGHTS: ("weights", save(_stored(load_file(path), torch.bfloat16)))},
        "Weights in bfloat16, and computed in it where a machine is faster so.",
        {"runtime": runtime.model_copy(update={"bfloat16": runtime.devices})},
    )


def in_integers(package: Package, cases: Sequence[Case]) -> Candidate:
    """Weights and activations in 8-bit integers, a graph that onnxruntime runs on the CPU.

    Parameters
    ----------
    cases : of training folds, whose inputs give the ranges

    Raises
    ------
    PrereadError
        The network is a graph already or cannot be written as one, or there are too few cases.
    """
    manifest = package.manifest
    spec = manifest.network
    if isinstance(spec, OnnxCanvasSpec | OnnxSpec):
        raise _not_that_way(package, "int8")
    inputs = calibration_inputs(package, cases)
    network = load_network(package)
    new: OnnxCanvasSpec | OnnxSpec
    if isinstance(spec, GridSpec):
        names, fixed = [LOGITS], True
        new = OnnxSpec(
            registry="onnx@1",
            dimensions=spec.dimensions,
            in_channels=spec.in_channels,
            heads=spec.heads,
            input=INPUT,
            output=LOGITS,
            features=FEATURES,
            one_at_a_time=False,
        )
    else:
        names = [LESION, *([CLASSES] if spec.classes else [])]
        fixed = any(isinstance(step, FitCanvas) for step in manifest.preprocess)
        new = OnnxCanvasSpec(registry="onnx_canvas@1", in_channels=spec.in_channels, classes=spec.classes)
    graph = quantised_graph(float_graph(network, inputs[0][None], names, fixed_size=fixed), inputs)
    return Candidate(
        {GRAPH: ("weights", graph)},
        "Weights and activations in 8-bit integers (onnxruntime, static, per channel), first and last layers "
        f"in single precision; ranges from {len(inputs)} inputs of training folds.",
        {
            "network": new,
            "runtime": manifest.runtime.model_copy(update={"devices": ("cpu",), "bfloat16": ()}),
            "explain": None,  # no gradient flows through a graph
        },
    )


def with_fewer_channels(package: Package, share: float, school: School) -> Candidate:
    """Channels taken out, then trained on with the package's network as teacher.

    Raises
    ------
    PrereadError
        The package has no recipe of ours, or its network cannot be pruned.
    """
    on, network, spec = judged_on(package), load_network(package), package.manifest.network
    if not isinstance(spec, EffNetLite0UNetSpec | UNetSpec):
        raise _not_that_way(package, "prune")
    smaller = prune(network, spec, share)
    recipe = on.recipe.model_copy(update={"network": smaller.spec})
    lessons = replace(school.lessons, rate_factor=school.lessons.rate_factor * PRUNED_RATE)
    done = _taught(smaller.network.state_dict(), [network], recipe, on, replace(school, lessons=lessons))
    counts = parameter_count(network), parameter_count(smaller.network)
    words = (
        f"About {share:.0%} of the channels taken out wherever one can go alone, those of least weight: "
        f"{counts[1]} parameters instead of {counts[0]}. Then {done.steps} steps on the training folds, "
        "learning from cases and from the network before."
    )
    return _candidate(package, recipe, done, words)


def as_student(package: Package, student: RecipeFile, teachers: Sequence[Path], school: School) -> Candidate:
    """A smaller network of the student's recipe, taught by the package and by other runs.

    Parameters
    ----------
    student : its network and training; it reads what the package reads
    teachers : folders of finished runs of the package's own network, each with run.json and weights

    Raises
    ------
    PrereadError
        The student reads or says something else, or a teacher has seen the scored fold.
    """
    on, spec = judged_on(package), package.manifest.network
    if isinstance(spec, OnnxCanvasSpec | OnnxSpec):
        raise _not_that_way(package, "distil")
    network = load_network(package)
    if _read_and_said(student) != _read_and_said(on.recipe):
        raise PrereadError(
            "the student's recipe reads or classes other than the package",
            where=student.id,
            remedy="Begin with the package's own recipe and change network and training only.",
        )
    assert not isinstance(student.network, OnnxCanvasSpec | OnnxSpec), "a recipe's own check"
    sizes = parameter_count(network), parameter_count(build_declared(student.network))
    if sizes[1] >= sizes[0]:
        raise PrereadError(
            f"a student of {sizes[1]} parameters, and its teacher has {sizes[0]}",
            where=student.id,
            remedy="Give it a smaller network: --set network.decoder_channels=[32,24,16,16].",
        )
    others = [_teacher(folder, package, on) for folder in teachers]
    changed = {"network": student.network, "training": student.training, "learning": student.learning}
    recipe = on.recipe.model_copy(update=changed)
    done = _taught(None, [network, *others], recipe, on, school)
    words = (
        f"A network of {sizes[1]} parameters instead of {sizes[0]}, taught for {done.steps} steps on the "
        f"training folds by cases and by {1 + len(others)} networks of the larger kind."
    )
    return _candidate(package, recipe, done, words)


def _read_and_said(recipe: RecipeFile) -> tuple[Any, ...]:
    """What goes into a recipe's network and what comes out."""
    heads = recipe.network.heads if isinstance(recipe.network, GridSpec) else 1
    return recipe.preprocess, recipe.grid, recipe.classes, recipe.network.in_channels, heads


def _teacher(folder: Path, package: Package, on: JudgedOn) -> nn.Module:
    """A network that has seen what the package's has seen, and no more: else the scored fold were told."""
    network = load_network(package)
    try:
        run = read_run(folder)
        network.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise PrereadError(
            f"no finished run of the package's network: {str(error).splitlines()[0][:200]}",
            where=str(folder),
            remedy="Give a folder that `preread models train` left: run.json and weights.safetensors.",
        ) from error
    if (run.split_sha256, run.scored_fold) != (on.split.sha256, 0):
        raise PrereadError(
            f"this teacher was trained on the fold that the student is scored on (it left out fold "
            f"{run.scored_fold} of split {run.split_sha256[:8]})",
            where=str(folder),
            remedy="Train further teachers on the same folds: preread models train NAME --fold 0 --seed 46.",
        )
    return network


def _taught(
    weights: dict[str, Tensor] | None,
    teachers: Sequence[nn.Module],
    recipe: RecipeFile,
    on: JudgedOn,
    school: School,
) -> Retrained:
    return retrained(
        weights,
        teachers,
        recipe.run,
        school.cases,
        school.lessons,
        school.work,
        seed=school.seed,
        split_sha256=on.split.sha256,
        progress=school.progress,
    )


def _candidate(package: Package, recipe: RecipeFile, done: Retrained, words: str) -> Candidate:
    """The package with the trained student in place of its network."""
    manifest = package.manifest
    spec = recipe.network
    assert not isinstance(spec, OnnxCanvasSpec | OnnxSpec), "a recipe's own check"
    files: dict[str, tuple[FileRole, bytes]] = {
        WEIGHTS: ("weights", save(_stored(done.weights, torch.float16)))
    }
    if manifest.has("recipe"):
        files[RECIPE] = ("recipe", recipe.resolved().encode())
    training: Training | None = manifest.training
    if training is not None:
        training = training.model_copy(
            update={
                "recipe_sha256": done.recipe_sha256,
                "steps": training.steps + done.steps,
                "seconds": round(training.seconds + done.seconds, 1),
            }
        )
    lost = [name for name in FITTED if getattr(manifest, name) is not None]
    if lost:
        words += f" Fitted to the network before, and not taken over: {', '.join(lost)}."
    runtime = manifest.runtime.model_copy(update={"parameters": parameter_count(build_declared(spec))})
    return Candidate(
        files,
        words,
        {"network": spec, "training": training, "runtime": runtime, **dict.fromkeys(lost)},
        frozenset({"ood"}) if "ood" in lost else frozenset(),
    )


def _stored(tensors: dict[str, Tensor], kind: torch.dtype) -> dict[str, Tensor]:
    return {
        name: (value.to(kind) if value.is_floating_point() else value).contiguous()
        for name, value in tensors.items()
    }


def _not_that_way(package: Package, method: str) -> PrereadError:
    return PrereadError(
        f"{package.manifest.network.registry} is not compressed by {method}",
        where=package.manifest.id,
        remedy="bf16 takes weights in safetensors, int8 every network that torch runs, distil one with its "
        "recipe, prune effnet_lite0_unet@1 and unet@1 with theirs.",
    )
