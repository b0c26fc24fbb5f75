"""From finished runs and what was measured to a package: halve the weights, make the golden case, write card,
recipe, split and manifest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from models.evaluation.case_result import CaseResult
from models.evaluation.evaluate import EvaluationReport, frozen_part, report_of
from models.manifest import Evaluation, FileRole, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.building import build_declared, parameter_count
from models.package import MANIFEST_NAME, Package, digest_of, hash_of, load_package
from models.predictor import Predictor, golden_volume
from models.simulation.cases import golden_phantom
from models.training.card import card_text
from models.training.card_pictures import PicturedCase, draw_pictures
from models.training.golden import golden_for_window, golden_input
from models.training.judged_on import JudgedOn
from models.training.pretrained import PRETRAINED_NAME
from models.training.recipe_file import RecipeFile
from models.training.run import TrainingRun
from models.training.sections import GeneratedNodulesData
from models.training.split import Split

WEIGHTS, GOLDEN_IN, GOLDEN_OUT, CARD, RECIPE, SPLIT = (
    "weights.safetensors",
    "golden/input.npz",
    "golden/expected.npz",
    "CARD.md",
    "recipe.yaml",
    "split.csv",
)
DRAFT_FILES: tuple[tuple[str, FileRole], ...] = (
    (WEIGHTS, "weights"),
    (GOLDEN_IN, "golden_in"),
    (GOLDEN_OUT, "golden_out"),
    (CARD, "card"),
)


@dataclass(frozen=True, eq=False)
class Measured:
    """What a package is made of.

    Parameters
    ----------
    weights : float32 safetensors of the last run; shipped as float16
    runs : the run and those it was fine-tuned from, oldest first; the last names the seed
    split_file : the frozen split, shipped with the package
    results : on the scored fold
    others : of the networks of the other folds; empty, or all of them: with them go figures over all cases
    naive : of a network of its own on fold 0 of a split that ignores groups, and that split's sha256
    remarks : sentences on the data, for the card
    """

    weights: Path
    runs: Sequence[TrainingRun]
    split: Split
    split_file: Path
    results: Sequence[CaseResult]
    others: Sequence[CaseResult] = ()
    naive: tuple[Sequence[CaseResult], str] | None = None
    remarks: Sequence[str] = ()


def build_package(
    recipe: RecipeFile,
    measured: Measured,
    package_folder: Path,
    *,
    released: str,
    pictured: Sequence[PicturedCase] = (),
    notes: Sequence[str] = (),
) -> tuple[Package, tuple[EvaluationReport, ...]]:
    """Write a package folder and return it, loaded and verified, with its evaluations.

    An existing package is replaced at the end, when the new one is whole.

    Parameters
    ----------
    released : e.g. 2026-11-21
    pictured : cases whose slices are shown on the card with the model's outlines
    notes : sentences about how this very file was made, for the card
    """
    folder = package_folder.with_name(f".{package_folder.name}.partial")
    predictor = open_draft(recipe, measured.weights, measured.runs, folder, released=released)
    golden = write_golden(predictor, golden_of(recipe), predictor.package.manifest.golden)
    captions = draw_pictures(predictor, pictured)
    (folder / RECIPE).write_text(packaged(recipe).resolved(), encoding="utf-8")
    shutil.copyfile(measured.split_file, folder / SPLIT)
    reports = reports_of(predictor.package, JudgedOn(recipe, measured.split), measured)
    evaluation = tuple(row for part in reports for row in evaluation_rows(part))
    describe = partial(
        assemble,
        recipe,
        measured.runs,
        folder,
        [
            *DRAFT_FILES,
            (RECIPE, "recipe"),
            (SPLIT, "split"),
            *((name, "picture") for name, _ in captions),
        ],
        evaluation,
        golden,
        released=released,
    )
    sentences = [*excluded_groups(measured.split), *measured.remarks, *notes]
    (folder / CARD).write_text(card_text(describe(), measured.runs, captions, sentences), encoding="utf-8")
    text = json.dumps(describe().model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    golden_report = Predictor(load_package(folder), device="cpu").verify_golden()
    if not golden_report.passed:
        raise RuntimeError(f"{folder}: the golden case does not repeat itself: {golden_report.message}")
    shutil.rmtree(package_folder, ignore_errors=True)
    folder.rename(package_folder)
    return load_package(package_folder), reports


def reports_of(package: Package, on: JudgedOn, measured: Measured) -> tuple[EvaluationReport, ...]:
    """Figures of everything that was measured."""
    scored = report_of(package, on, measured.results, "scored")
    reports = [scored, frozen_part(scored, on)]
    if measured.others:
        reports.append(report_of(package, on, [*measured.results, *measured.others], "out-of-fold"))
    if measured.naive is not None:
        results, sha256 = measured.naive
        reports.append(replace(report_of(package, on, results, "naive"), split_sha256=sha256))
    return tuple(reports)


def packaged(recipe: RecipeFile) -> RecipeFile:
    """The recipe as it stands in the package: beside its split, without the place of the data."""
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"folder": None}),
            "split": recipe.split.model_copy(update={"file": SPLIT}),
        }
    )


def golden_of(recipe: RecipeFile) -> dict[str, NDArray[Any]]:
    """A generated input like what the package reads: a head for series, an ultrasound image for images, a few
    windows for a grid.
    """
    if recipe.grid is not None:
        return golden_for_window(recipe.grid.tiling.window)
    if recipe.kind != "own":
        return golden_input(recipe.kind)
    if isinstance(recipe.data, GeneratedNodulesData):
        return golden_phantom(recipe.data.slab_mm, recipe.data.pixel_mm)
    return golden_input("breast-us" if recipe.input.unit == "image" else "brain-flair")


def open_draft(
    recipe: RecipeFile, weights: Path, runs: Sequence[TrainingRun], folder: Path, *, released: str
) -> Predictor:
    """Weights as they would be shipped, in a folder without figures, card and golden answer: to be judged."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "golden").mkdir(parents=True)
    tensors = load_file(weights)
    # Half the bytes; what is evaluated below is this file, so the figures are those of the halves.
    halves = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
    save_file(halves, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone; a service reads as another user
    np.savez_compressed(folder / GOLDEN_IN, allow_pickle=False, **golden_of(recipe))
    # The golden answer and the figures come from the package itself: first without them, then with.
    for name in (GOLDEN_OUT, CARD):
        (folder / name).write_bytes(b"")
    golden = Golden(
        probability_tolerance=0.02,
        class_tolerance=0.02,
        lesions=0,
        class_name=None,
        structure_voxels=(0,) * recipe.findings.structures,
    )
    draft = assemble(recipe, runs, folder, DRAFT_FILES, (), golden, released=released)
    return Predictor(Package(draft, folder, digest_of(draft.model_dump(mode="json"))), device="cpu")


def excluded_groups(split: Split) -> list[str]:
    """A sentence that lists the groups whose copies carry different classes, when there are any."""
    groups: dict[str, list[str]] = {}
    for item in split.excluded():
        groups.setdefault(item.group, []).append(item.name)
    if not groups:
        return []
    listed = "; ".join(", ".join(sorted(names)) for _, names in sorted(groups.items()))
    return [f"Left out of training and test, since near-duplicates carry different classes: {listed}."]


def write_golden(predictor: Predictor, arrays: dict[str, NDArray[Any]], golden: Golden) -> Golden:
    """Predict the golden input, write what comes out, and return the case with its decisions."""
    volume = golden_volume(arrays)
    if golden.structure_voxels:
        maps, voxels = predictor.structure_maps(volume)
        np.savez_compressed(predictor.package.path("golden_out"), probability=maps.astype(np.float16))
        return golden.model_copy(update={"structure_voxels": voxels})
    prediction = predictor.predict(volume)
    expected: dict[str, Any] = {"probability": prediction.probability.astype(np.float16)}
    if prediction.detected is not None:
        # A corner that moves by a rounding turns whole voxels: boxes are compared, not what is drawn.
        scores = np.array(prediction.lesion_scores)
        expected = {"boxes": prediction.detected.of_lesions, "scores": scores}
    if prediction.class_scores is not None:
        expected["class_scores"] = np.array(list(prediction.class_scores.values()))
    np.savez_compressed(predictor.package.path("golden_out"), **expected)
    return golden.model_copy(
        update={"lesions": int(prediction.labels.max()), "class_name": prediction.class_name}
    )


def evaluation_rows(report: EvaluationReport) -> list[Evaluation]:
    """A report's figures as rows of the manifest, rounded to four digits."""
    return [
        Evaluation(
            dataset=report.dataset,
            split_sha256=report.split_sha256,
            subset=report.subset,
            metric=figure.metric,
            value=round(figure.value, 4),
            ci95=(round(figure.ci95[0], 4), round(figure.ci95[1], 4)),
            n=figure.n,
            unit=figure.unit,
        )
        for figure in report.figures
    ]


def assemble(
    recipe: RecipeFile,
    runs: Sequence[TrainingRun],
    folder: Path,
    files: Sequence[tuple[str, FileRole]],
    evaluation: tuple[Evaluation, ...],
    golden: Golden,
    *,
    released: str,
) -> Manifest:
    """The manifest of what lies in the folder now."""
    network = recipe.network
    steps = sum(run.steps for run in runs)
    return Manifest(
        format="preread-model/1",
        id=recipe.id,
        version=recipe.version,
        title=recipe.title,
        summary=recipe.summary,
        released=released,
        files=tuple(
            PackageFile(
                path=name, role=role, bytes=(folder / name).stat().st_size, sha256=hash_of(folder / name)
            )
            for name, role in files
        ),
        task=recipe.task,
        network=network,
        inputs=(recipe.input,),
        preprocess=recipe.preprocess,
        grid=recipe.grid,
        inference=recipe.inference,
        postprocess=recipe.postprocess,
        findings=recipe.coded_findings,
        operating_points=recipe.operating_points,
        evaluation=evaluation,
        training=Training(
            recipe=recipe.id,
            recipe_sha256=runs[-1].recipe_sha256,
            seed=runs[-1].seed,
            steps=steps,
            seconds=round(sum(run.seconds for run in runs), 1),
            data=(recipe.data.counted(runs[-1].real_cases),),
            simulated_fraction=round(sum(run.simulated_fraction * run.steps for run in runs) / steps, 4),
            pretrained=(PRETRAINED_NAME,) if recipe.grid is None else (),
        ),
        runtime=Runtime(
            torch="2.13",
            devices=("cpu", "cuda"),
            memory=recipe.memory_needed,
            parameters=parameter_count(build_declared(network)),
        ),
        golden=golden,
        card=recipe.card,
    )
