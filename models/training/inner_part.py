"""PURE: a part of the training folds held back by group, to be judged while training."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from models.training.cases import Listed
from models.training.split import Split


@dataclass(frozen=True)
class Parts:
    """Cases to train on, and cases to judge with while training; no group is on both sides."""

    training: list[Listed]
    inner: list[Listed]


def inner_part(split: Split, scored_fold: int, *, share: float, seed: int) -> Parts:
    """Hold back a share of the groups of every stratum; cases of the scored fold are in neither part.

    At least one group of a stratum stays in training.
    """
    cases = split.training(scored_fold)
    held: set[str] = set()
    generator = random.Random(seed)
    for stratum in sorted({case.stratum for case in cases}):
        groups = sorted({case.group for case in cases if case.stratum == stratum})
        held |= set(generator.sample(groups, min(round(share * len(groups)), len(groups) - 1)))
    return Parts(_in(cases, held, True), _in(cases, held, False))


def _in(cases: Iterable[Listed], held: set[str], leave_out: bool) -> list[Listed]:
    return [case for case in cases if (case.group not in held) == leave_out]
