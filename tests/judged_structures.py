"""The package of two ranges with a recipe, a split and prepared cases, so that it can be judged.

Its network outlines two ranges of intensity exactly; so a case is made wrong in its truth, by what is known:
moved by a voxel, with the two parts changed for each other, without one of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from two_ranges import IN_ANTERIOR, IN_POSTERIOR, truth_of, write_two_ranges

from models.package import Package, hash_of, load_package
from models.training.prepared import FoundCase, list_prepared, write_prepared
from models.training.recipe_file import read_recipe
from models.training.split import write_split
from models.training.starting import starting_recipe
from models.volume import Volume

SPACING = (2.0, 1.0, 1.0)  # slices, rows, columns, mm
VOXEL_ML = 0.002
SERIES = (
    "input.unit=series",
    "data.unit=patients",
    "judging.length_unit=mm",
    "judging.tolerance=1.0",
)
SEED_CASES = 12
SCORED = 8  # of them in fold 0


@dataclass(frozen=True)
class Judged:
    """What there is to judge: the package, and the folder of its cases."""

    package: Package
    data: Path


def image_of(number: int) -> NDArray[np.uint16]:
    """A case: both parts grow with its number, each by one column for every number."""
    rng = np.random.default_rng(number)
    image = rng.integers(60, 140, (8, 20, 48)).astype(np.uint16)
    image[2:6, 3:9, 4 : 14 + number] = IN_ANTERIOR + rng.integers(-40, 40)
    image[2:6, 11:17, 6 : 18 + number] = IN_POSTERIOR + rng.integers(-40, 40)
    return image


def volume_of(image: NDArray[np.uint16]) -> Volume:
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])
    return Volume(image, affine, SPACING[1:], SPACING[0])


def write_judged(folder: Path, truths: Sequence[NDArray[np.uint16]], scored: int = SCORED) -> Judged:
    """The package with the cases of `image_of`, whose truths are given; the first ones are scored.

    Parameters
    ----------
    truths : labels of case 0, 1 and so on
    """
    data = folder / "cases"
    found = [
        FoundCase(f"case-{k:02d}", f"patient-{k:02d}", None, volume_of(image_of(k)), truth)
        for k, truth in enumerate(truths)
    ]
    write_prepared(found, data, (), faults_are_excluded=False, structures=2)
    listed = list_prepared(data)
    package = folder / "test-two-ranges"
    write_two_ranges(package)
    write_split(package / "split.csv", listed, {one.name: int(k >= scored) for k, one in enumerate(listed)})
    start = folder / "start.yaml"
    start.write_text(starting_recipe("test-two-ranges", "cases"), encoding="utf-8")
    (package / "recipe.yaml").write_text(read_recipe(start, SERIES).resolved(), encoding="utf-8")
    content = json.loads((package / "model.json").read_text())
    for name, role in (("recipe.yaml", "recipe"), ("split.csv", "split")):
        path = package / name
        content["files"].append(
            {"path": name, "role": role, "bytes": path.stat().st_size, "sha256": hash_of(path)}
        )
    (package / "model.json").write_text(json.dumps(content))
    return Judged(load_package(package), data)


def exact_truths(count: int = SEED_CASES) -> list[NDArray[np.uint16]]:
    """What the network outlines in each case."""
    return [truth_of(image_of(k)) for k in range(count)]


def moved(truth: NDArray[np.uint16], number: int) -> NDArray[np.uint16]:
    """With one structure moved by one voxel along the columns."""
    one = truth == number
    result = np.where(one, 0, truth).astype(np.uint16)
    result[np.roll(one, 1, axis=2)] = number
    return result


def swapped(truth: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """With the two structures changed for each other."""
    return np.array([0, 2, 1], np.uint16)[truth]


def without(truth: NDArray[np.uint16], number: int) -> NDArray[np.uint16]:
    """Without one structure."""
    return np.where(truth == number, 0, truth).astype(np.uint16)
