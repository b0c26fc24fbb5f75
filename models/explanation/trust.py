"""The three trust tests of a heat map, on labelled cases: weights, place and steadiness.

A map that stays when what was learnt is shuffled away shows the picture, not the model; one whose heat lies
beside the lesion explains nothing; one that jumps when the image moves by two pixels cannot be relied on.
Source: Arun et al., medRxiv 2020.07.28.20163899; Adebayo et al., arXiv 1810.03292.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.evaluation.bootstrap import interval
from models.evaluation.figures import mean_over, ratio_over
from models.explanation.attending import MapMaker, Recipe, canvas_heat
from models.explanation.attention import to_unit
from models.explanation.block import ExplainSanity
from models.explanation.likeness import likeness
from models.explanation.limits import SHIFT_PIXELS
from models.explanation.shuffled import cascade
from models.predictor import Predictor
from models.preprocess import Prepared, network_input, prepare
from models.resample import FloatArray
from models.training.cases import Case

SEED = 45
PAIRS = 5  # other images that each map is compared with
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Explained:
    """A case whose class is a finding, on the network's canvas, with its map.

    Parameters
    ----------
    stacked : (n, channels, H, W), what the network reads
    index, class_name : of the class the model chose
    heat : (n, H, W), 0 to 1
    """

    case: Case
    prepared: Prepared
    stacked: FloatArray
    index: int
    class_name: str
    heat: FloatArray

    @property
    def on_source(self) -> FloatArray:
        """The map on the grid of the source, 0 to 1."""
        return to_unit(self.prepared.to_source(self.heat))


@dataclass(frozen=True)
class CaseTrust:
    """What the tests found on one case.

    Parameters
    ----------
    ssim_by_stage : likeness to the map of the shuffled network, of each stage of the cascade
    ssim_pairs : mean likeness to maps of other images
    energy_share, area_share : of heat and of image inside the lesion; None without one or without heat
    """

    name: str
    group: str
    class_name: str
    ssim_by_stage: tuple[float, ...]
    ssim_pairs: float
    shift_ssim: float
    energy_share: float | None
    area_share: float | None


@dataclass(frozen=True)
class TrustFigures:
    """All cases, and how much of the network each stage of the cascade had shuffled."""

    stages: tuple[float, ...]
    cases: tuple[CaseTrust, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """What is tested: a network and how maps of it are made; `flip`: with those of the mirror image."""

    network: nn.Module
    make: MapMaker
    flip: bool
    device: torch.device

    def heat(self, stacked: FloatArray, index: int) -> FloatArray:
        """The map (n, H, W) for a class, 0 to 1."""
        found = canvas_heat(self.network, stacked, index, self.make, flip=self.flip, device=self.device)
        return to_unit(found)


def explained_cases(
    predictor: Predictor,
    subject: Subject,
    cases: Iterable[Case],
    progress: Progress | None = None,
    of: int = 0,
) -> list[Explained]:
    """The cases whose class is a finding, with their maps: only those would be shown one."""
    manifest = predictor.package.manifest
    found = []
    for done, case in enumerate(cases):
        name = predictor.predict(case.volume).class_name
        plan = next(item for item in manifest.findings.classes if item.name == name)
        if not plan.negative:
            prepared = prepare(case.volume, manifest.preprocess)
            stacked = network_input(prepared.image, manifest.preprocess)
            heat = subject.heat(stacked, plan.index)
            found.append(Explained(case, prepared, stacked, plan.index, plan.name, heat))
        if progress is not None:
            progress(done + 1, of)
    return found


def measure_trust(
    subject: Subject, explained: Sequence[Explained], progress: Progress | None = None
) -> TrustFigures:
    """Run the three tests.

    Raises
    ------
    ValueError
        Fewer than two groups: there is no pair of different images.
    """
    if len({one.case.group for one in explained}) < 2:
        raise ValueError("heat maps are tested on at least two images of different groups")
    stages: list[float] = []
    by_stage: list[list[float]] = []
    for share, network in cascade(subject.network, seed=SEED):
        stages.append(share)
        row = []
        for number, one in enumerate(explained):
            shuffled = replace(subject, network=network)
            row.append(likeness(one.heat, shuffled.heat(one.stacked, one.index)))
            if progress is not None:
                progress(len(by_stage) * len(explained) + number + 1, 8 * len(explained))
        by_stage.append(row)
    results = []
    for number, one in enumerate(explained):
        energy, area = shares_inside(one.on_source, one.case.mask)
        results.append(
            CaseTrust(
                one.case.name,
                one.case.group,
                one.class_name,
                tuple(row[number] for row in by_stage),
                _pair_likeness(explained, number),
                _shift_likeness(subject, one),
                energy,
                area,
            )
        )
        if progress is not None:
            progress(6 * len(explained) + 2 * (number + 1), 8 * len(explained))
    return TrustFigures(tuple(stages), tuple(results))


def sanity_of(
    figures: TrustFigures,
    recipe: Recipe,
    *,
    dataset: str,
    split_sha256: str,
    subset: Literal["scored", "frozen"],
) -> ExplainSanity:
    """The figures of all cases with their intervals, as a package declares them.

    Raises
    ------
    ValueError
        No case has a lesion and a map: nothing can be said about the place.
    """
    cases = figures.cases
    groups = [case.group for case in cases]
    last = [case.ssim_by_stage[-1] for case in cases]
    pairs = [case.ssim_pairs for case in cases]
    shifts = [case.shift_ssim for case in cases]
    there = [case for case in cases if case.energy_share is not None and case.area_share]
    if not there:
        raise ValueError("no case has both a lesion and a map: where the heat lies cannot be judged")
    ratio = ratio_over([case.energy_share or 0 for case in there], [case.area_share or 0 for case in there])
    difference = mean_over([one - other for one, other in zip(last, pairs, strict=True)])
    everything = np.arange(len(there))

    def four(ends: tuple[float, float]) -> tuple[float, float]:
        return round(ends[0], 4), round(ends[1], 4)

    return ExplainSanity(
        tried=recipe.method,
        layer=recipe.layer,
        dataset=dataset,
        split_sha256=split_sha256,
        subset=subset,
        n=len(cases),
        n_lesions=len(there),
        ssim_randomised=round(float(np.mean(last)), 4),
        ssim_random_pairs=round(float(np.mean(pairs)), 4),
        ssim_difference_ci95=four(interval(difference, groups)),
        energy_ratio=round(ratio(everything), 4),
        energy_ratio_ci95=four(interval(ratio, [case.group for case in there])),
        shift_ssim=round(float(np.mean(shifts)), 4),
        shift_ssim_ci95=four(interval(mean_over(shifts), groups)),
    )


def shares_inside(heat: FloatArray, mask: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """Share of the heat inside the mask, and share of the image; both (slices, rows, columns)."""
    total = float(heat.sum())
    if total == 0 or not mask.any():
        return None, None
    return float(heat[mask].sum()) / total, float(mask.mean())


def moved(stack: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """(..., H, W) moved down and right by whole pixels; what comes in repeats the border."""
    height, width = stack.shape[-2:]
    down = np.clip(np.arange(height) - rows, 0, height - 1)
    right = np.clip(np.arange(width) - columns, 0, width - 1)
    return np.ascontiguousarray(stack[..., down[:, None], right])


def _pair_likeness(explained: Sequence[Explained], number: int) -> float:
    """Mean likeness of one map to those of images of other groups, drawn by a fixed seed."""
    one = explained[number]
    others = [
        other
        for other in explained
        if other.case.group != one.case.group and other.heat.shape == one.heat.shape
    ]
    drawn = random.Random(SEED + number).sample(others, min(PAIRS, len(others)))
    if not drawn:
        raise ValueError(f"{one.case.name}: no image of another group has a map of the same size")
    return float(np.mean([likeness(one.heat, other.heat) for other in drawn]))


def _shift_likeness(subject: Subject, one: Explained) -> float:
    """Mean likeness over four shifts, each moved back, without the border that came in."""
    edge = 2 * SHIFT_PIXELS
    inside = (slice(None), slice(edge, -edge), slice(edge, -edge))
    found = []
    for rows, columns in ((SHIFT_PIXELS, 0), (-SHIFT_PIXELS, 0), (0, SHIFT_PIXELS), (0, -SHIFT_PIXELS)):
        shifted = subject.heat(moved(one.stacked, rows, columns), one.index)
        found.append(likeness(one.heat[inside], moved(shifted, -rows, -columns)[inside]))
    return float(np.mean(found))
