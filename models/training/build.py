"""From a finished run to a package: halve the weights, make the golden case, judge the shipped file, write
the card.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from models.evaluation.evaluate import EvaluationReport, Subset, evaluate_package
from models.manifest import Evaluation, FileRole, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.building import build_network, parameter_count
from models.package import MANIFEST_NAME, Package, digest_of, hash_of, load_package
from models.predictor import Predictor, golden_volume
from models.training.card import card_text
from models.training.declared import DECLARATIONS
from models.training.golden import golden_input
from models.training.pretrained import PRETRAINED_NAME
from models.training.recipes import RECIPES, Recipe
from models.training.run import TrainingRun

WEIGHTS, GOLDEN_IN, GOLDEN_OUT, CARD = (
    "weights.safetensors",
    "golden/input.npz",
    "golden/expected.npz",
    "CARD.md",
)


def build_package(
    weights: Path,
    runs: Sequence[TrainingRun],
    data_folder: Path,
    package_folder: Path,
    *,
    version: str,
    released: str,
    pictures: Sequence[tuple[Path, str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Package, EvaluationReport]:
    """Write a package folder and return it, loaded and verified, with its evaluation on the scored fold.

    Parameters
    ----------
    weights : float32 safetensors of the last run; shipped as float16
    runs : the run and those it was fine-tuned from, oldest first; the last names recipe and seed
    version, released : e.g. 1.0.0 and 2026-11-21
    pictures : JPEG files for the card, each with its sentence
    """
    recipe = RECIPES[runs[-1].recipe]
    if package_folder.exists():
        shutil.rmtree(package_folder)
    (package_folder / "golden").mkdir(parents=True)
    tensors = load_file(weights)
    # Half the bytes; what is evaluated below is this file, so the figures are those of the halves.
    halves = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
    save_file(halves, package_folder / WEIGHTS)
    arrays = golden_input(recipe.kind)
    np.savez_compressed(package_folder / GOLDEN_IN, allow_pickle=False, **arrays)
    listed: list[tuple[str, FileRole]] = [(WEIGHTS, "weights"), (GOLDEN_IN, "golden_in")]
    for index, (picture, _) in enumerate(pictures):
        (package_folder / "pictures").mkdir(exist_ok=True)
        name = f"pictures/{index + 1}{picture.suffix}"
        shutil.copyfile(picture, package_folder / name)
        listed.append((name, "picture"))
    # The golden answer and the figures come from the package itself: first without them, then with.
    placeholders: list[tuple[str, FileRole]] = [(GOLDEN_OUT, "golden_out"), (CARD, "card")]
    for name, _ in placeholders:
        (package_folder / name).write_bytes(b"")
    files = listed + placeholders
    golden = Golden(probability_tolerance=0.02, class_tolerance=0.02, lesions=0, class_name=None)
    draft = assemble(recipe, runs, package_folder, files, (), golden, version=version, released=released)
    predictor = Predictor(
        Package(draft, package_folder, digest_of(draft.model_dump(mode="json"))), device="cpu"
    )
    prediction = predictor.predict(golden_volume(arrays))
    expected: dict[str, Any] = {"probability": prediction.probability.astype(np.float16)}
    if prediction.class_scores is not None:
        expected["class_scores"] = np.array(list(prediction.class_scores.values()))
    np.savez_compressed(package_folder / GOLDEN_OUT, **expected)
    golden = golden.model_copy(
        update={"lesions": int(prediction.labels.max()), "class_name": prediction.class_name}
    )
    subsets: tuple[Subset, ...] = ("scored", "frozen")
    reports = [
        evaluate_package(
            predictor.package, data_folder, subset=subset, predictor=predictor, progress=progress
        )
        for subset in subsets
    ]
    evaluation = tuple(row for report in reports for row in evaluation_rows(report))
    manifest = assemble(
        recipe, runs, package_folder, files, evaluation, golden, version=version, released=released
    )
    captions = [(f"pictures/{index + 1}{path.suffix}", text) for index, (path, text) in enumerate(pictures)]
    (package_folder / CARD).write_text(card_text(manifest, runs, captions), encoding="utf-8")
    manifest = assemble(
        recipe, runs, package_folder, files, evaluation, golden, version=version, released=released
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    (package_folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    package = load_package(package_folder)
    golden_report = Predictor(package, device="cpu").verify_golden()
    if not golden_report.passed:
        raise RuntimeError(
            f"{package_folder}: the golden case does not repeat itself: {golden_report.message}"
        )
    return package, reports[0]


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
    recipe: Recipe,
    runs: Sequence[TrainingRun],
    folder: Path,
    files: Sequence[tuple[str, FileRole]],
    evaluation: tuple[Evaluation, ...],
    golden: Golden,
    *,
    version: str,
    released: str,
) -> Manifest:
    """The manifest of what lies in the folder now."""
    declared = DECLARATIONS[recipe.id]
    return Manifest(
        format="preread-model/1",
        id=recipe.id,
        version=version,
        title=declared.title,
        summary=declared.summary,
        released=released,
        files=tuple(
            PackageFile(
                path=name, role=role, bytes=(folder / name).stat().st_size, sha256=hash_of(folder / name)
            )
            for name, role in files
        ),
        task=declared.task,
        network=recipe.network,
        inputs=(declared.model_input,),
        preprocess=recipe.preprocess,
        inference=declared.inference,
        postprocess=declared.postprocess,
        findings=declared.findings,
        operating_points=declared.operating_points,
        evaluation=evaluation,
        training=Training(
            recipe=recipe.id,
            recipe_sha256=recipe.sha256,
            seed=runs[-1].seed,
            steps=sum(run.steps for run in runs),
            seconds=round(sum(run.seconds for run in runs), 1),
            data=(declared.real_data.model_copy(update={"n": runs[-1].real_cases}),),
            simulated_fraction=max(run.simulated_fraction for run in runs),
            pretrained=(PRETRAINED_NAME,),
        ),
        runtime=Runtime(
            torch="2.13",
            devices=("cpu", "cuda"),
            memory=declared.memory,
            parameters=parameter_count(build_network(recipe.network)),
        ),
        golden=golden,
        card=declared.card,
    )
