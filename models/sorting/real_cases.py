"""The labelled data folders as series with known answers: brain-flair, hippocampus and breast-us.

What is derived from them stands beside them with the same patient: images whose greys are turned over, which
show a head by no sequence of the list, and ultrasound bent into a sector, as probes make that are not for the
breast. Both are counted as generated.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.sorting.cases import FOLDS, OTHER, QUALITY, SortingCase
from models.sorting.degraded import FINE
from models.training.cases import CasesError, list_cases, load_case
from models.training.readers import read_volume
from models.training.split import EXCLUDED, read_split, split_path

BODY, MODALITY, CONTRAST = "body_part", "modality", "contrast"
HEAD, BREAST, TRUNK = "head", "breast", "trunk"
FLAIR, T1, CT, ULTRASOUND = "mr_flair", "mr_t1", "ct", "ultrasound"
T1_SERIES: Final = (("t1pre", "without"), ("t1post", "with"))
INVERTED_EVERY, SECTOR_EVERY = 3, 4


def real_cases(folder: Path) -> Iterator[SortingCase]:
    """Every series of the three data folders, and what is derived from some of them.

    Raises
    ------
    CasesError
        One of the folders is missing.
    """
    for name in ("brain-flair", "hippocampus", "breast-us"):
        if not (folder / name).is_dir():
            raise CasesError(f"{folder / name} is missing", remedy="Give the folder of the labelled data.")
    yield from _brains(folder / "brain-flair")
    yield from _hippocampi(folder / "hippocampus")
    yield from _breasts(folder / "breast-us")


def _brains(folder: Path) -> Iterator[SortingCase]:
    split = read_split(split_path("brain-flair"))
    for index, item in enumerate(list_cases("brain-flair", folder)):
        fold = split.folds[item.name]
        flair = load_case("brain-flair", folder, item).volume.array
        truth = {BODY: HEAD, MODALITY: FLAIR, QUALITY: FINE}
        yield SortingCase(f"{item.name}-flair", item.group, "brain-flair", fold, False, flair, truth)
        if index % INVERTED_EVERY == 0:
            yield _inverted(f"{item.name}-flair", item.group, fold, flair)
        for series, contrast in T1_SERIES:
            path = folder / f"{item.name}_{series}.nii.gz"
            if path.is_file():
                array = read_volume(path).array
                truth = {BODY: HEAD, MODALITY: T1, CONTRAST: contrast, QUALITY: FINE}
                name = f"{item.name}-{series}"
                yield SortingCase(name, item.group, f"brain-{series}", fold, False, array, truth)
                yield _inverted(name, item.group, fold, array)


def _hippocampi(folder: Path) -> Iterator[SortingCase]:
    """Crops of a T1 of 1 mm; coronal, as they come in DICOM, with axial images to train on."""
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as stream:
        names = sorted(row["case"] for row in csv.DictReader(stream))
    for index, name in enumerate(names):
        array = read_volume(folder / "images" / f"{name}.nii.gz").array
        coronal = np.ascontiguousarray(array.transpose(1, 0, 2)[:, ::-1])
        axial = [array[place] for place in (len(array) // 3, len(array) // 2, 2 * len(array) // 3)]
        truth = {BODY: HEAD, MODALITY: T1}
        yield SortingCase(name, name, "hippocampus", index % FOLDS, False, coronal, truth, axial)


def _breasts(folder: Path) -> Iterator[SortingCase]:
    split = read_split(split_path("breast-us"))
    for index, item in enumerate(list_cases("breast-us", folder)):
        fold = split.folds[item.name]
        if fold == EXCLUDED:
            continue
        array = load_case("breast-us", folder, item).volume.array
        group = f"breast-{item.group}"
        truth = {BODY: BREAST, MODALITY: ULTRASOUND, QUALITY: FINE}
        yield SortingCase(item.name, group, "breast-us", fold, False, array, truth)
        if index % SECTOR_EVERY == 0:
            rng = np.random.default_rng(index)
            truth = {BODY: OTHER, MODALITY: ULTRASOUND}
            bent = sector(array[0], rng)[None]
            yield SortingCase(f"{item.name}-sector", group, "sector", fold, True, bent, truth)


def _inverted(name: str, group: str, fold: int, array: NDArray[Any]) -> SortingCase:
    truth = {BODY: HEAD, MODALITY: OTHER, QUALITY: FINE}
    return SortingCase(f"{name}-inverted", group, "inverted", fold, True, turned_over(array), truth)


def turned_over(array: NDArray[Any]) -> NDArray[np.float32]:
    """Bright tissue dark and dark tissue bright, air left black: fluid shines, as on T2."""
    values = array.astype(np.float32)
    top = float(np.percentile(values[values > 0], 99)) if (values > 0).any() else 1.0
    unit = np.clip(values / max(top, 1e-6), 0, 1)
    tissue = ndimage.binary_fill_holes(unit.max(0) > 0.12)
    inside = tissue[None] & ndimage.binary_closing(
        unit > 0.06, iterations=2, structure=np.ones((1, 3, 3), np.bool_)
    )
    return np.asarray(np.where(inside, 1.05 - unit, unit * 0.3), dtype=np.float32)


def sector(image: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """(rows, columns): the image bent around the tip of a probe, black outside."""
    rows, columns = image.shape
    side = max(rows, columns)
    angle = float(rng.uniform(0.5, 0.85))  # half of the opening, radians
    inner = float(rng.uniform(0.02, 0.3)) * side
    across = (np.arange(side) - (side - 1) / 2)[None, :]
    down = np.arange(side)[:, None] + inner * np.cos(angle)
    radius, turn = np.hypot(across, down), np.arctan2(across, down)
    depth = (radius - inner) / (side - inner * (1 - np.cos(angle))) * rows
    place = (turn / angle + 1) / 2 * (columns - 1)
    bent = ndimage.map_coordinates(image.astype(np.float32), [depth, place], order=1, cval=0.0)
    bent[(np.abs(turn) > angle) | (depth < 0) | (depth > rows - 1)] = 0
    return np.asarray(bent, dtype=np.float32)
