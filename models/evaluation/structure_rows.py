"""PURE one line of a report for each named structure, and what its drawings are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.agreement import bland_altman
from models.evaluation.measures import CaseMeasures
from models.evaluation.scales import Scale
from models.evaluation.structure_metrics import metric_keys
from models.manifest import Findings
from models.screen_colours import Rgb, to_rgb


@dataclass(frozen=True)
class StructureRow:
    """One structure over all cases; its figures carry its key in their names.

    key : of the names of its figures
    colour : in pictures, red, green, blue
    present : cases whose truth has it; missed : of them, those where nothing was outlined
    absent : cases whose truth does not have it; false_alarms : of them, those where it was outlined
    mean_truth : size where it is there; bias : found less true; limits : of agreement, Bland and Altman
    unit : of the sizes
    sizes : (true, found) of each case that has it
    tolerance : of the agreement of borders (NSD), in the scale's length unit
    """

    label: str
    key: str
    colour: Rgb
    present: int
    missed: int
    absent: int
    false_alarms: int
    mean_truth: float | None
    bias: float | None
    limits: tuple[float, float] | None
    unit: str
    sizes: tuple[tuple[float, float], ...]
    tolerance: float


def structure_rows(
    cases: Sequence[CaseMeasures], findings: Findings, scale: Scale
) -> tuple[StructureRow, ...]:
    """A row for each structure of a package."""
    rows = []
    keys = metric_keys([segment.label for segment in findings.segments])
    for index, (segment, key) in enumerate(zip(findings.segments, keys, strict=True)):
        structures = [case.result.structures[index] for case in cases]
        there = [one for one in structures if one.truth_size > 0]
        found, truth = (
            np.array([getattr(one, name) for one in there]) for name in ("found_size", "truth_size")
        )
        agreement = bland_altman(found, truth) if len(there) > 1 else None
        rows.append(
            StructureRow(
                segment.label,
                key,
                to_rgb(segment.colour),
                present=len(there),
                missed=sum(one.is_missed for one in there),
                absent=len(structures) - len(there),
                false_alarms=sum(one.is_false_alarm for one in structures),
                mean_truth=float(truth.mean()) if there else None,
                bias=None if agreement is None else agreement.bias,
                limits=None if agreement is None else agreement.limits,
                unit=structures[0].unit,
                sizes=tuple((one.truth_size, one.found_size) for one in there),
                tolerance=scale.tolerance,
            )
        )
    return tuple(rows)
