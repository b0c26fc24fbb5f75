"""A sorter's package from labelled series: folds trained, thresholds chosen, judged, packed, verified.

The network that is shipped never saw fold 0. Its thresholds are chosen on folds 1 to 4, each judged by the
network that did not see it; the figures of fold 0 are then those of the shipped file itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from config.errors import PrereadError
from models.manifest import Evaluation, FileRole, Memory, PackageFile, Runtime, Training, TrainingData
from models.networks.building import build_own_network, parameter_count
from models.package import MANIFEST_NAME, hash_of
from models.sorting.answers import UNKNOWN, Probabilities
from models.sorting.card import card_text
from models.sorting.cases import FOLDS, View, leaks, training_views, write_split
from models.sorting.judging import JudgedAnswer, chosen_threshold, figures, judge
from models.sorting.learning import FeatureTable
from models.sorting.manifest import Question, SorterGolden, SorterManifest, SortTask
from models.sorting.package import SorterPackage, load_sorter
from models.sorting.pictures import sheet_of
from models.sorting.recipe import SorterRecipe
from models.sorting.sorter import Sorter
from models.sorting.training import (
    TABLE_NAME,
    judged_by,
    kept_table,
    said_of,
    train_without,
    trained_network,
)
from models.training.pretrained import PRETRAINED_NAME
from models.training.record import Progress

WEIGHTS, CARD, SPLIT = "weights.safetensors", "CARD.md", "split.csv"
GOLDEN_IN, GOLDEN_OUT = "golden/input.npz", "golden/expected.npz"
PICTURES: Final = ("pictures/generated.jpg",)
TOLERANCE = 0.02
LEAST, LEAST_SURE = 0.5, 0.95
FOUND_NAME = "run.json"


class SorterError(PrereadError):
    """A sorter that cannot be made."""


@dataclass(frozen=True)
class FoldRun:
    """One finished run."""

    fold: int
    weights: Path
    steps: int
    seconds: float


def make_sorter(
    recipe: SorterRecipe,
    views: Sequence[View],
    golden: Sequence[NDArray[np.float32]],
    work: Path,
    *,
    released: str,
    progress: Callable[[int, Progress], None],
) -> SorterPackage:
    """Train, choose, judge and pack; finished folds in `work` are not trained again.

    Parameters
    ----------
    golden : generated images, (rows, columns) each
    progress : is told the fold and how far its run is

    Raises
    ------
    SorterError
        A patient stands in two folds, or the package does not pass its own golden case.
    """
    if found := leaks(views):
        raise SorterError(f"{len(found)} series leak: {found[0]}", remedy="Give each patient one fold.")
    work.mkdir(parents=True, exist_ok=True)
    write_split(work / SPLIT, views)
    split_sha256 = hash_of(work / SPLIT)
    table = kept_table(recipe, views, work / f"{recipe.sha256[:8]}-{split_sha256[:8]}-{TABLE_NAME}")
    runs = [run_fold(fold, recipe, views, table, work, split_sha256, progress) for fold in range(FOLDS)]
    plain = [question.asked() for question in recipe.questions]
    said = {
        run.fold: said_of(trained_network(recipe, run.weights), plain, judged_by(views, run.fold))
        for run in runs
    }
    questions = with_thresholds(recipe, views, said)
    folder = work / recipe.id
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "golden").mkdir(parents=True)
    _write_halves(trained_network(recipe, runs[0].weights), folder / WEIGHTS)
    shutil.copyfile(work / SPLIT, folder / SPLIT)
    planes = np.stack([_golden_plane(image, recipe.input.side) for image in golden])
    np.savez_compressed(folder / GOLDEN_IN, planes=planes)
    draft = _manifest(recipe, questions, runs, views, (), _no_golden(), folder, DRAFT_FILES, released)
    for name in (GOLDEN_OUT, CARD):
        (folder / name).write_bytes(b"")
    sorter = Sorter(SorterPackage(draft, folder, ""))
    evaluation = (
        *figures(judge_package(sorter, views), "scored", split_sha256, questions),
        *figures(
            [
                one
                for fold in range(FOLDS)
                for one in judge(questions, _of(views, fold), _own(said, views, fold))
            ],
            "out-of-fold",
            split_sha256,
            questions,
        ),
    )
    answers = _write_golden(sorter, planes, folder)
    sheet_of(sorter, views, folder / PICTURES[0])
    golden_block = SorterGolden(tolerance=TOLERANCE, answers=answers)
    shown = _manifest(recipe, questions, runs, views, evaluation, golden_block, folder, DRAFT_FILES, released)
    (folder / CARD).write_text(card_text(shown, judge_package(sorter, views)), encoding="utf-8")
    whole = _manifest(recipe, questions, runs, views, evaluation, golden_block, folder, FILES, released)
    text = json.dumps(whole.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
    package = load_sorter(folder)
    report = Sorter(package).verify_golden()
    if not report.passed:
        raise SorterError(f"the package does not pass its golden case: {report.message}", where=str(folder))
    return package


def run_fold(
    fold: int,
    recipe: SorterRecipe,
    views: Sequence[View],
    table: FeatureTable,
    work: Path,
    split_sha256: str,
    progress: Callable[[int, Progress], None],
) -> FoldRun:
    """The run that does not see a fold; one that was finished for the same recipe and split is kept."""
    out = work / f"fold-{fold}-{recipe.sha256[:8]}-{split_sha256[:8]}"
    record = out / FOUND_NAME
    if not record.is_file():
        out.mkdir(parents=True, exist_ok=True)
        result = train_without(
            fold,
            recipe,
            views,
            table,
            out,
            split_sha256=split_sha256,
            progress=lambda line: progress(fold, line),
        )
        record.write_text(json.dumps({"steps": result.step, "seconds": round(result.seconds, 1)}))
    found = json.loads(record.read_text(encoding="utf-8"))
    return FoldRun(fold, out / WEIGHTS, int(found["steps"]), float(found["seconds"]))


def with_thresholds(
    recipe: SorterRecipe, views: Sequence[View], said: Mapping[int, Sequence[Mapping[str, Probabilities]]]
) -> tuple[Question, ...]:
    """The questions with the thresholds that folds 1 to 4 ask for, each judged by the network without it."""
    plain = [question.asked() for question in recipe.questions]
    judged: list[JudgedAnswer] = []
    for fold in range(1, FOLDS):
        judged += judge(plain, _of(views, fold), _own(said, views, fold))
    questions = []
    for section in recipe.questions:
        answered = [one for one in judged if one.question == section.name and one.said != UNKNOWN]
        scores, right = [one.score for one in answered], [one.is_right for one in answered]
        threshold = chosen_threshold(scores, right, wrong_max=section.wrong_max, least=LEAST)
        sure = chosen_threshold(scores, right, wrong_max=section.sure_wrong_max, least=LEAST_SURE)
        words = f"{len(answered)} answers of folds 1 to 4, at most {section.wrong_max:.1%} of them wrong"
        # Rounded up: at the score itself the share would be exceeded.
        up = [min(1.0, float(np.ceil(value * 1e4) / 1e4)) for value in (threshold, max(threshold, sure))]
        questions.append(section.asked(up[0], up[1], words))
    return tuple(questions)


def judge_package(sorter: Sorter, views: Sequence[View]) -> list[JudgedAnswer]:
    """What the package itself says of fold 0 and of the pieces that are only judged."""
    asked = judged_by(views, 0)
    said = [sorter.probabilities(view.judged_canvases) for view in asked]
    return judge(sorter.package.manifest.questions, asked, said)


def _of(views: Sequence[View], fold: int) -> list[View]:
    return [view for view in views if view.fold == fold]


def _own(
    said: Mapping[int, Sequence[Mapping[str, Probabilities]]], views: Sequence[View], fold: int
) -> list[Mapping[str, Probabilities]]:
    """What the network of a fold said of that fold, without the pieces that are only judged."""
    asked = judged_by(views, fold)
    return [found for view, found in zip(asked, said[fold], strict=True) if view.fold == fold]


def _write_halves(network: nn.Module, path: Path) -> None:
    """Half the bytes; what is judged is this file."""
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(
        {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}, path
    )
    path.chmod(0o644)  # safetensors writes for the owner alone; a service reads as another user


def _golden_plane(image: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """A generated image as 8 bits of one size, so that all lie in one array."""
    from models.sorting.slices import on_square

    low, high = float(image.min()), float(image.max())
    unit = np.asarray((image - low) / max(high - low, 1e-6), dtype=np.float32)
    return np.round(on_square(unit, side) * 255).astype(np.uint8)


def _write_golden(sorter: Sorter, planes: NDArray[np.uint8], folder: Path) -> tuple[tuple[str, str], ...]:
    """What the package says of its golden images, written beside them."""
    from models.sorting.slices import canvases_of

    manifest = sorter.package.manifest
    rows, answers = [], []
    for plane in planes:
        found = sorter.probabilities(canvases_of([plane], manifest.input))
        rows.append(np.concatenate([found[question.name] for question in manifest.questions]))
        answers += [(one.question, one.name) for one in sorter.sort([plane]).given]
    np.savez_compressed(folder / GOLDEN_OUT, probabilities=np.stack(rows))
    return tuple(answers)


def _no_golden() -> SorterGolden:
    return SorterGolden(tolerance=TOLERANCE, answers=())


DRAFT_FILES: Final[tuple[tuple[str, FileRole], ...]] = (
    (WEIGHTS, "weights"),
    (GOLDEN_IN, "golden_in"),
    (GOLDEN_OUT, "golden_out"),
    (CARD, "card"),
    (SPLIT, "split"),
)
FILES: Final[tuple[tuple[str, FileRole], ...]] = (*DRAFT_FILES, *((name, "picture") for name in PICTURES))


def _manifest(
    recipe: SorterRecipe,
    questions: tuple[Question, ...],
    runs: Sequence[FoldRun],
    views: Sequence[View],
    evaluation: tuple[Evaluation, ...],
    golden: SorterGolden,
    folder: Path,
    files: Sequence[tuple[str, FileRole]],
    released: str,
) -> SorterManifest:
    """The manifest of what lies in the folder now; a file that is not written yet has no bytes."""
    listed = []
    for name, role in files:
        path = folder / name
        size = path.stat().st_size if path.is_file() else 0
        sha256 = hash_of(path) if path.is_file() else hashlib.sha256(b"").hexdigest()
        listed.append(PackageFile(path=name, role=role, bytes=size, sha256=sha256))
    seen = training_views(views, 0)
    return SorterManifest(
        format="preread-model/1",
        id=recipe.id,
        version=recipe.version,
        title=recipe.title,
        summary=recipe.summary,
        released=released,
        files=tuple(listed),
        task=SortTask(kind="sort"),
        network=recipe.network,
        input=recipe.input,
        questions=questions,
        evaluation=evaluation,
        training=Training(
            recipe=recipe.id,
            recipe_sha256=recipe.sha256,
            seed=recipe.seed,
            steps=runs[0].steps,
            seconds=runs[0].seconds,
            data=tuple(
                TrainingData(
                    name=item.name,
                    licence=item.licence,
                    n=len({view.group for view in seen if view.kind in item.kinds}),
                    unit=item.unit,
                    citation=item.citation,
                )
                for item in recipe.data
            ),
            simulated_fraction=round(simulated_share(recipe, seen), 4),
            pretrained=(PRETRAINED_NAME,),
        ),
        runtime=Runtime(
            torch="2.13",
            devices=("cpu",),
            memory=Memory(base=50 << 20, per_canvas_pixel=1200, per_voxel=0),
            parameters=parameter_count(build_own_network(recipe.network)),
        ),
        golden=golden,
        card=recipe.card,
    )


def simulated_share(recipe: SorterRecipe, views: Sequence[View]) -> float:
    """Share of the training samples that were generated or derived."""
    kinds = {view.kind: view.is_generated for view in views}
    whole = sum(recipe.shares[kind] for kind in kinds)
    return sum(recipe.shares[kind] for kind, is_generated in kinds.items() if is_generated) / whole
