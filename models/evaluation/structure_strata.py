"""PURE Dice of structures in parts of the data: by structure, by its size, by what else is known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models.evaluation.document import JudgedCase
from models.evaluation.figures import FigureMaker, mean_over
from models.evaluation.gates import StratumFigure
from models.evaluation.structure_metrics import metric_keys
from models.evaluation.structures import StructureCase, mean_dice, structure_labels

BANDS = 3  # of the true size, with as many cases in each


def structure_strata(cases: Sequence[JudgedCase]) -> tuple[StratumFigure, ...]:
    """Dice of all structures together by structure, and of each by its size; both by what else is known.

    Metrics: `dice`, the mean over the structures of a case; `dice_KEY` of one structure.
    """
    compared = [case.measures.result.structures for case in cases]
    labels = structure_labels(compared)
    keys = metric_keys(labels)
    groups = [case.measures.result.group for case in cases]
    of_each = [[case[index].dice for case in compared] for index in range(len(labels))]
    means = [mean_dice(case) for case in compared]
    everything = [True] * len(cases)
    rows = [_part("all", "cases", "dice", means, groups, everything)]
    if len(labels) > 1:
        rows += [
            _part("structure", label, "dice", dices, groups, everything)
            for label, dices in zip(labels, of_each, strict=True)
        ]
    rows += _known_parts("dice", means, groups, cases)
    for index, key in enumerate(keys):
        metric, structures = f"dice_{key}", [case[index] for case in compared]
        rows.append(_part("all", "cases", metric, of_each[index], groups, everything))
        for name, members in size_bands(structures):
            rows.append(_part("size", name, metric, of_each[index], groups, members))
        rows += _known_parts(metric, of_each[index], groups, cases)
    return tuple(row for row in rows if row is not None)


def size_bands(cases: Sequence[StructureCase]) -> list[tuple[str, list[bool]]]:
    """Thirds by true size: name, and of each case whether it is in it. Fewer where sizes do not differ."""
    sizes = np.array([case.truth_size for case in cases])
    there = np.sort(sizes[sizes > 0])
    if not len(there):
        return []
    unit = cases[0].unit
    inner = [float(there[len(there) * part // BANDS]) for part in range(1, BANDS)]
    edges = sorted({edge for edge in inner if edge > there[0]})
    if not edges:
        return []
    named = [f"{edge:.3g}" for edge in edges]
    bands = [(f"below {named[0]} {unit}", 0.0, edges[0])]
    bands += [
        (f"{low} to {high} {unit}", *ends)
        for (low, high), ends in zip(pairwise(named), pairwise(edges), strict=True)
    ]
    bands.append((f"{named[-1]} {unit} and more", edges[-1], float("inf")))
    return [(name, [bool(size > 0 and low <= size < high) for size in sizes]) for name, low, high in bands]


def _known_parts(
    metric: str, dices: Sequence[float | None], groups: Sequence[str], cases: Sequence[JudgedCase]
) -> list[StratumFigure | None]:
    """By every division that the cases carry."""
    divisions = dict.fromkeys(division for case in cases for division in case.strata)
    parts = {
        division: sorted({case.strata[division] for case in cases if division in case.strata})
        for division in divisions
    }
    return [
        _part(division, part, metric, dices, groups, [case.strata.get(division) == part for case in cases])
        for division, named in parts.items()
        if len(named) > 1  # one part alone is the whole
        for part in named
    ]


def _part(
    division: str,
    part: str,
    metric: str,
    dices: Sequence[float | None],
    groups: Sequence[str],
    members: Sequence[bool],
) -> StratumFigure | None:
    """The mean Dice of the members that have one."""
    chosen = [index for index, is_in in enumerate(members) if is_in and dices[index] is not None]
    maker = FigureMaker(tuple(groups[index] for index in chosen), "cases")
    figure = maker.make(metric, "", "mean", mean_over([dices[index] for index in chosen]))
    if figure is None:
        return None
    return StratumFigure(division, part, metric, figure.value, figure.ci95, figure.n)
