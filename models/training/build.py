"""From a finished run to a package: halve the weights, make the golden case, judge the shipped file, write
the card.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from models.evaluation.evaluate import CaseResult, EvaluationReport, frozen_part, judge_all, report_of
from models.evaluation.overlap import dice
from models.evaluation.pictures import contact_sheet, outlined, save_jpeg
from models.manifest import Evaluation, FileRole, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.building import build_network, parameter_count
from models.package import MANIFEST_NAME, Package, digest_of, hash_of, load_package
from models.predictor import Prediction, Predictor, golden_volume
from models.training.card import card_text
from models.training.declared import DECLARATIONS
from models.training.golden import golden_input
from models.training.pretrained import PRETRAINED_NAME
from models.training.recipes import RECIPES, Recipe
from models.training.run import TrainingRun
from models.training.split import Split, read_split, split_path
from models.volume import Volume

WEIGHTS, GOLDEN_IN, GOLDEN_OUT, CARD = (
    "weights.safetensors",
    "golden/input.npz",
    "golden/expected.npz",
    "CARD.md",
)
DRAFT_FILES: tuple[tuple[str, FileRole], ...] = (
    (WEIGHTS, "weights"),
    (GOLDEN_IN, "golden_in"),
    (GOLDEN_OUT, "golden_out"),
    (CARD, "card"),
)
CELL_PIXELS = 180  # of a slice on a contact sheet


@dataclass(frozen=True, eq=False)
class PicturedCase:
    """A case to show on the card; only what may be published.

    `sentence` says what it is, without the full stop; what the model made of it is added.
    """

    volume: Volume
    truth: NDArray[np.bool_] | None
    sentence: str


def build_package(
    weights: Path,
    runs: Sequence[TrainingRun],
    data_folder: Path,
    package_folder: Path,
    *,
    version: str,
    released: str,
    pictured: Sequence[PicturedCase] = (),
    notes: Sequence[str] = (),
    others: Sequence[CaseResult] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Package, tuple[EvaluationReport, ...]]:
    """Write a package folder and return it, loaded and verified, with its evaluations.

    An existing package is replaced at the end, when the new one is whole.

    Parameters
    ----------
    weights : float32 safetensors of the last run; shipped as float16
    runs : the run and those it was fine-tuned from, oldest first; the last names the seed
    version, released : e.g. 1.0.0 and 2026-11-21
    pictured : cases whose slices are shown on the card with the model's outlines
    notes : sentences about how this very file was made, for the card
    others : results of the networks of the other folds; with them go figures over all cases
    """
    recipe = RECIPES[runs[-1].recipe]
    folder = package_folder.with_name(f".{package_folder.name}.partial")
    predictor = open_draft(weights, runs, folder, version=version, released=released)
    draft = predictor.package.manifest
    golden = write_golden(predictor, golden_input(recipe.kind), draft.golden)
    captions = draw_pictures(predictor, pictured)
    results = judge_all(
        predictor, data_folder, read_split(split_path(recipe.kind)).scored(), progress=progress
    )
    report = report_of(predictor.package, results, "scored")
    reports = [report, frozen_part(report)]
    if others:
        reports.append(report_of(predictor.package, [*results, *others], "out-of-fold"))
    evaluation = tuple(row for part in reports for row in evaluation_rows(part))
    describe = partial(
        assemble,
        recipe,
        runs,
        folder,
        [*DRAFT_FILES, *((name, "picture") for name, _ in captions)],
        evaluation,
        golden,
        version=version,
        released=released,
    )
    sentences = [*excluded_groups(read_split(split_path(recipe.kind))), *notes]
    (folder / CARD).write_text(card_text(describe(), runs, captions, sentences), encoding="utf-8")
    text = json.dumps(describe().model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    golden_report = Predictor(load_package(folder), device="cpu").verify_golden()
    if not golden_report.passed:
        raise RuntimeError(f"{folder}: the golden case does not repeat itself: {golden_report.message}")
    shutil.rmtree(package_folder, ignore_errors=True)
    folder.rename(package_folder)
    return load_package(package_folder), tuple(reports)


def open_draft(
    weights: Path, runs: Sequence[TrainingRun], folder: Path, *, version: str, released: str
) -> Predictor:
    """Weights as they would be shipped, in a folder without figures, card and golden answer: to be judged."""
    recipe = RECIPES[runs[-1].recipe]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "golden").mkdir(parents=True)
    tensors = load_file(weights)
    # Half the bytes; what is evaluated below is this file, so the figures are those of the halves.
    halves = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
    save_file(halves, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone; a service reads as another user
    np.savez_compressed(folder / GOLDEN_IN, allow_pickle=False, **golden_input(recipe.kind))
    # The golden answer and the figures come from the package itself: first without them, then with.
    for name in (GOLDEN_OUT, CARD):
        (folder / name).write_bytes(b"")
    golden = Golden(probability_tolerance=0.02, class_tolerance=0.02, lesions=0, class_name=None)
    draft = assemble(recipe, runs, folder, DRAFT_FILES, (), golden, version=version, released=released)
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
    prediction = predictor.predict(golden_volume(arrays))
    expected: dict[str, Any] = {"probability": prediction.probability.astype(np.float16)}
    if prediction.class_scores is not None:
        expected["class_scores"] = np.array(list(prediction.class_scores.values()))
    np.savez_compressed(predictor.package.path("golden_out"), **expected)
    return golden.model_copy(
        update={"lesions": int(prediction.labels.max()), "class_name": prediction.class_name}
    )


def draw_pictures(predictor: Predictor, cases: Sequence[PicturedCase]) -> list[tuple[str, str]]:
    """One contact sheet per case: its path in the package and its sentence."""
    captions = []
    for index, case in enumerate(cases):
        prediction = predictor.predict(case.volume)
        found = prediction.labels > 0
        cells = [
            outlined(plane, found[k], None if case.truth is None else case.truth[k], CELL_PIXELS)
            for k, plane in enumerate(case.volume.array)
        ]
        name = f"pictures/{index + 1}.jpg"
        save_jpeg(contact_sheet(cells, min(6, len(cells))), predictor.package.folder / name)
        captions.append((name, f"{case.sentence}: {said_of(prediction, case.truth)}"))
    return captions


def said_of(prediction: Prediction, truth: NDArray[np.bool_] | None) -> str:
    """What a model made of a case, in words, and what the colours of its picture mean."""
    words = outline_words(prediction.labels > 0, truth)
    if prediction.class_name is not None and prediction.class_scores is not None:
        words += f"; class {prediction.class_name} ({prediction.class_scores[prediction.class_name]:.2f})"
    return f"{words}. Red: model{'; there is no truth' if truth is None else ', green: truth'}."


def outline_words(found: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> str:
    """How an outline compares with the truth, where there is one; both (slices, rows, columns)."""
    is_drawn = bool(found.any())
    if truth is None:
        return "outlined" if is_drawn else "nothing outlined"
    if not truth.any():
        return "outlined, falsely" if is_drawn else "nothing outlined"
    if not (found & truth).any():
        return "missed, and outlined elsewhere" if is_drawn else "missed"
    return f"Dice {dice(found, truth):.2f}"


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
    steps = sum(run.steps for run in runs)
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
            recipe_sha256=runs[-1].recipe_sha256,
            seed=runs[-1].seed,
            steps=steps,
            seconds=round(sum(run.seconds for run in runs), 1),
            data=(declared.real_data.model_copy(update={"n": runs[-1].real_cases}),),
            simulated_fraction=round(sum(run.simulated_fraction * run.steps for run in runs) / steps, 4),
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
