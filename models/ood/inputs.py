"""PURE what can be said of an input without a network: shape, spacing, and how its grey values are spread.

Grey values count relative to the input's own range, since scanners use scales of their own. What lies outside
the ranges of a package is unusual, not refused: limits that refuse stand in its applicability rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.ood.block import InputName, InputRange
from models.volume import Volume

WIDENING: Final = 0.1  # of a range on either side: the extremes of a hundred cases are not those of all
_WORDS: Final[Mapping[InputName, str]] = {
    "slices": "number of slices",
    "rows": "number of rows",
    "columns": "number of columns",
    "row_spacing_mm": "distance of rows in mm",
    "column_spacing_mm": "distance of columns in mm",
    "slice_spacing_mm": "distance of slices in mm",
    "grey_25": "darker quarter of the grey values",
    "grey_50": "median of the grey values",
    "grey_75": "brighter quarter of the grey values",
}


def described(volume: Volume) -> dict[InputName, float]:
    """The quantities of a volume; those that are unknown are left out.

    `grey_25` and so on: the quartiles of all voxels, 0 at the 1st and 1 at the 99th percentile.
    """
    slices, rows, columns = volume.shape
    found: dict[InputName, float] = {"slices": slices, "rows": rows, "columns": columns}
    if volume.pixel_spacing_mm is not None:
        found["row_spacing_mm"], found["column_spacing_mm"] = volume.pixel_spacing_mm
    if volume.slice_spacing_mm is not None:
        found["slice_spacing_mm"] = volume.slice_spacing_mm
    low, *quartiles, high = np.percentile(volume.array, (1, 25, 50, 75, 99))
    if high > low:
        names: tuple[InputName, ...] = ("grey_25", "grey_50", "grey_75")
        found.update(
            {name: float((q - low) / (high - low)) for name, q in zip(names, quartiles, strict=True)}
        )
    return found


def ranges_of(cases: Sequence[Mapping[InputName, float]]) -> tuple[InputRange, ...]:
    """The range of each quantity over all cases, widened.

    What not all cases have, or what is the same in all, is left out: it says how the files were made, and
    nothing of what the network can read.
    """
    ranges = []
    for name in _WORDS:
        values = [case[name] for case in cases if name in case]
        if len(values) < len(cases) or not values or min(values) == max(values):
            continue
        margin = WIDENING * (max(values) - min(values))
        ranges.append(InputRange(name=name, low=min(values) - margin, high=max(values) + margin))
    return tuple(ranges)


def unusual(volume: Volume, ranges: Sequence[InputRange]) -> tuple[str, ...]:
    """A clause for each known quantity outside its range."""
    found = described(volume)
    return tuple(
        f"{_WORDS[one.name]} {found[one.name]:.3g}, among training cases {one.low:.3g} to {one.high:.3g}"
        for one in ranges
        if one.name in found and not one.low <= found[one.name] <= one.high
    )
