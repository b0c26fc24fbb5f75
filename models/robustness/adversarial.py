"""How far a package's figures fall under attacks, and whether the attacks are any: their loss must rise.

An attack that does nothing looks like a robust network, so every row says what became of the loss itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.predictor import Predictor
from models.preprocess import prepare
from models.robustness.answers import Answer
from models.robustness.attack import Attacked, Bounds, fgsm, pgd
from models.robustness.canvas import CanvasModel
from models.robustness.drops import Drop, Judged, drops_between
from models.training.cases import Case
from models.training.losses import segmentation_loss

Head = Literal["segmentation", "class"]
Name = Literal["FGSM", "PGD"]
GREY_LEVELS: Final = (0.5, 1.0, 2.0, 4.0)  # of 255 over the range of the canvas
PGD_STEPS: Final = 20
SLICES_MAX: Final = 8  # of a volume, around its largest lesion: the gradient keeps every map of the network
RISEN_MIN: Final = 0.9  # of the cases must have a higher loss, or the attack is broken
SEED: Final = 45
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AttackRow:
    """One attack of one head at one strength.

    Parameters
    ----------
    level : largest change of a pixel, in grey levels of 255
    loss_before, loss_after : of the attacked head, mean over the cases
    share_risen : of the cases whose loss rose
    """

    head: Head
    attack: Name
    level: float
    n: int
    loss_before: float
    loss_after: float
    share_risen: float
    drops: tuple[Drop, ...]


@dataclass(frozen=True)
class Adversarial:
    """All attacks."""

    cases: int
    rows: tuple[AttackRow, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Why these rows do not measure robustness: the attack itself did not work."""
        found = []
        for row in self.rows:
            if row.attack == "PGD" and row.share_risen < RISEN_MIN:
                found.append(
                    f"PGD at {row.level:g} grey levels raised the {row.head} loss of only "
                    f"{100 * row.share_risen:.0f} of 100 cases"
                )
        for head in dict.fromkeys(row.head for row in self.rows):
            strongest = {
                row.attack: row.loss_after
                for row in self.rows
                if row.head == head and row.level == max(GREY_LEVELS)
            }
            if strongest.get("PGD", 0.0) < strongest.get("FGSM", 0.0):
                found.append(f"twenty steps found less {head} loss than one")
        return tuple(found)


@dataclass(frozen=True, eq=False)
class _Target:
    """A case on the canvas: slices, truth (n, H, W), and the index of its class."""

    judged: Judged
    image: Tensor
    truth: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    class_index: int | None


def measure_adversarial(
    predictor: Predictor, cases: Sequence[Case], progress: Progress | None = None
) -> Adversarial:
    """Attack every case on every head the package has, by both attacks and at every strength.

    Raises
    ------
    PrereadError
        The package's network is none that can be attacked.
    PreprocessError
        A case cannot be brought to the network.
    """
    model = CanvasModel(predictor)
    targets = [_target(model, case) for case in cases]
    plans: list[tuple[Head, list[_Target]]] = [
        ("segmentation", [one for one in targets if one.truth.any()]),
        ("class", [one for one in targets if one.class_index is not None]),
    ]
    plans = [(head, chosen) for head, chosen in plans if chosen]
    done, total = 0, 2 * len(GREY_LEVELS) * sum(len(chosen) for _, chosen in plans)
    rows = []
    for head, chosen in plans:
        clean = [model.answer(one.image, one.truth) for one in chosen]
        for name in ("FGSM", "PGD"):
            for level in GREY_LEVELS:
                results = []
                for one in chosen:
                    results.append(_attacked(model, one, head, name, level))
                    done += 1
                    if progress is not None:
                        progress(done, total)
                rows.append(_row(model, head, name, level, chosen, clean, results))
    return Adversarial(len(targets), tuple(rows))


def evenly(cases: Sequence[Case], count: int) -> list[Case]:
    """At most `count` cases, evenly from the first to the last, so that every stratum has its share."""
    if len(cases) <= count:
        return list(cases)
    return [cases[int(index)] for index in np.linspace(0, len(cases) - 1, count).round()]


def _target(model: CanvasModel, case: Case) -> _Target:
    prepared = prepare(case.volume, model.manifest.preprocess)
    truth = prepared.mask_to_canvas(case.mask)
    first = 0
    if len(truth) > SLICES_MAX:
        middle = int(truth.sum((1, 2)).argmax())
        first = min(max(0, middle - SLICES_MAX // 2), len(truth) - SLICES_MAX)
    part = slice(first, first + SLICES_MAX)
    index = next(
        (item.index for item in model.manifest.findings.classes if item.name == case.class_name), None
    )
    judged = Judged(case.name, case.group, case.class_name if index is not None else None)
    return _Target(judged, model.tensor(prepared.image[part]), truth[part], index)


def _attacked(model: CanvasModel, one: _Target, head: Head, name: Name, level: float) -> Attacked:
    truth = torch.from_numpy(one.truth[:, None]).to(one.image)

    def loss(image: Tensor) -> Tensor:
        maps = model.maps(image)
        if head == "segmentation":
            return segmentation_loss(maps.lesion, truth, "image")
        assert maps.classes is not None  # only cases with an index are attacked on their class
        index = torch.full((len(image),), one.class_index or 0, device=image.device)
        return F.cross_entropy(maps.classes.float(), index)

    bounds = Bounds(level / 255 * model.high, 0.0, model.high)
    if name == "FGSM":
        return fgsm(one.image, loss, bounds)
    seed = zlib.crc32(f"{SEED} {one.judged.name} {head} {level}".encode())
    return pgd(one.image, loss, bounds, steps=PGD_STEPS, generator=torch.Generator().manual_seed(seed))


def _row(
    model: CanvasModel,
    head: Head,
    name: Name,
    level: float,
    chosen: Sequence[_Target],
    clean: Sequence[Answer],
    results: Sequence[Attacked],
) -> AttackRow:
    answers = [model.answer(result.image, one.truth) for one, result in zip(chosen, results, strict=True)]
    return AttackRow(
        head=head,
        attack=name,
        level=level,
        n=len(chosen),
        loss_before=float(np.mean([result.loss_before for result in results])),
        loss_after=float(np.mean([result.loss_after for result in results])),
        share_risen=float(np.mean([result.loss_after > result.loss_before for result in results])),
        drops=drops_between([one.judged for one in chosen], clean, answers, model.manifest.findings.classes),
    )
