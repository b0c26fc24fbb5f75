"""Series with known answers, for training and judging a sorter, and the folds they stand in.

What is kept of a series are a few images on the network's canvas: as they are, and once degraded. Folds keep
patients together; pieces of which there are too few for folds are always trained on, or only ever judged.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.sorting.degraded import degraded
from models.sorting.manifest import SorterInput
from models.sorting.slices import canvas_of, chosen_slices

FOLDS: Final = 5
ALWAYS_TRAINED, ONLY_JUDGED = -1, -2
OTHER: Final = "other"  # truth: none of the question's answers; unknown is right
QUALITY: Final = "quality"
FIELDS = ("name", "group", "kind", "fold", "source", "truth", "sha256")
EXTRA_POSITIONS: Final = (0.18, 0.32, 0.42, 0.58, 0.68, 0.82)  # trained on besides the package's own


@dataclass(frozen=True, eq=False)
class SortingCase:
    """One series.

    Parameters
    ----------
    group : patient, or group of near-duplicates
    kind : what it is one of, such as brain-flair; how often it is drawn hangs on it
    array : (slices, rows, columns), bright is bright
    truth : answer by question, or other; a question that is not there is neither learnt nor judged
    extra : further images that are trained on, of other planes
    """

    name: str
    group: str
    kind: str
    fold: int
    is_generated: bool
    array: NDArray[Any]
    truth: Mapping[str, str]
    extra: Sequence[NDArray[Any]] = ()


@dataclass(frozen=True, eq=False)
class View:
    """A series on the canvas, as it is or degraded: `canvases` (k, side, side), 0 to 255.

    The first `judged` of them are at the package's positions; the others are trained on only.
    """

    name: str
    group: str
    kind: str
    fold: int
    is_generated: bool
    truth: Mapping[str, str]
    canvases: NDArray[np.uint8]
    judged: int
    pixels: int  # longer side of the images
    sha256: str

    @property
    def judged_canvases(self) -> NDArray[np.float32]:
        """(judged, side, side), 0 to 1."""
        return np.asarray(self.canvases[: self.judged] / np.float32(255), dtype=np.float32)


def views_of(case: SortingCase, reading: SorterInput, *, seed: int) -> list[View]:
    """The series as it is and, where its quality is known, once degraded; none where it shows nothing."""
    count = len(case.array)
    judged = chosen_slices(count, reading.positions)
    more = [index for index in chosen_slices(count, EXTRA_POSITIONS) if index not in judged]
    chosen = np.stack([case.array[index] for index in (*judged, *more)])
    views = [_view(case, case.name, case.truth, chosen, len(judged), case.extra, reading)]
    if QUALITY in case.truth:
        rng = np.random.default_rng([seed, int(hashlib.sha256(case.name.encode()).hexdigest()[:8], 16)])
        worse, quality = degraded(chosen, rng)
        truth = {**case.truth, QUALITY: quality}
        views.append(_view(case, f"{case.name}-{quality}", truth, worse, len(judged), (), reading))
    return [view for view in views if view is not None]


def _view(
    case: SortingCase,
    name: str,
    truth: Mapping[str, str],
    chosen: NDArray[Any],
    judged: int,
    extra: Sequence[NDArray[Any]],
    reading: SorterInput,
) -> View | None:
    first = [canvas for plane in chosen[:judged] if (canvas := canvas_of(plane, reading)) is not None]
    rest = [
        canvas for plane in (*chosen[judged:], *extra) if (canvas := canvas_of(plane, reading)) is not None
    ]
    if not first:
        return None
    canvases = np.round(np.stack([*first, *rest]) * 255).astype(np.uint8)
    pixels = max(chosen.shape[1:])
    sha256 = hashlib.sha256(canvases.tobytes()).hexdigest()
    return View(
        name,
        case.group,
        case.kind,
        case.fold,
        case.is_generated,
        dict(truth),
        canvases,
        len(first),
        pixels,
        sha256,
    )


def prepare(
    cases: Iterable[SortingCase],
    reading: SorterInput,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[View]:
    """All views of all cases, in order; one series is in memory at a time."""
    views: list[View] = []
    for done, case in enumerate(cases, start=1):
        views.extend(views_of(case, reading, seed=seed))
        progress(done)
    return views


def training_views(views: Sequence[View], scored_fold: int) -> list[View]:
    """What the network that does not see a fold is trained on."""
    return [view for view in views if view.fold not in (scored_fold, ONLY_JUDGED)]


def write_split(path: Path, views: Sequence[View]) -> None:
    """Which view stands in which fold, with its truth and content, frozen as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(FIELDS)
        for view in views:
            truth = " ".join(f"{question}={answer}" for question, answer in sorted(view.truth.items()))
            source = "generated" if view.is_generated else "real"
            writer.writerow([view.name, view.group, view.kind, view.fold, source, truth, view.sha256])


def leaks(views: Sequence[View]) -> list[str]:
    """Groups, or identical pixels, that stand in two folds; each a sentence."""
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    found = []
    for view in views:
        for key in (("group", view.group), ("content", view.sha256)):
            fold, name = seen.setdefault(key, (view.fold, view.name))
            if fold != view.fold:
                found.append(f"{view.name} (fold {view.fold}) and {name} (fold {fold}) share one {key[0]}")
    return found
