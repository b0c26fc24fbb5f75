"""Series of known kind from the study generator, for training and judging the series sorter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sorting.cases import FOLDS, OTHER, QUALITY, SortingCase
from models.sorting.degraded import FINE
from models.sorting.real_cases import (
    BODY,
    BREAST,
    CONTRAST,
    CT,
    FLAIR,
    HEAD,
    MODALITY,
    T1,
    TRUNK,
    ULTRASOUND,
)
from preread.demo.phantoms import breast_ultrasound, ct_body, head_anatomy
from preread.demo.phantoms import head_contrast as mr
from preread.demo.phantoms.breast import BreastKind
from preread.demo.phantoms.head_ct import ct_head

SLICES = 7  # of a head: as many as are looked at
BREAST_KINDS: tuple[BreastKind, ...] = ("benign", "malignant", "normal")
SEQUENCES: tuple[tuple[str, mr.HeadContrast, dict[str, str]], ...] = (
    ("flair", mr.FLAIR, {MODALITY: FLAIR}),
    ("t1", mr.T1, {MODALITY: T1, CONTRAST: "without"}),
    ("t1post", mr.T1_POST, {MODALITY: T1, CONTRAST: "with"}),
    ("t2", mr.T2, {MODALITY: OTHER}),
)


def generated_series(patients: int, *, seed: int) -> Iterator[SortingCase]:
    """Heads by four MR sequences and CT, breasts, trunks: `patients` of each, one of each to a patient."""
    for index in range(patients):
        rng = np.random.default_rng([seed, 11, index])
        yield from _head(rng, index)
        yield _breast(rng, index)
        yield _trunk(rng, index)


def _head(rng: np.random.Generator, index: int) -> Iterator[SortingCase]:
    side = int(rng.integers(160, 257))
    anatomy = head_anatomy(
        rng,
        slices=SLICES,
        rows=side,
        columns=side,
        pixel_spacing_mm=240.0 / side,
        slice_spacing_mm=5.0,
        # Contrast medium shows in vessels and lesions; the phantom has no vessels.
        lesions=int(rng.integers(1, 4)),
        lesion_diameter_mm=(12.0, 40.0),
    )
    group, fold = f"phantom-head-{index:03d}", index % FOLDS
    common = {BODY: HEAD, QUALITY: FINE}
    for name, contrast, truth in SEQUENCES:
        scanner = mr.Scanner(
            white_matter_units=300.0,
            noise=float(rng.uniform(0.01, 0.05)),
            bias=float(rng.uniform(0.03, 0.16)),
        )
        array = mr.render_head(
            rng,
            anatomy.tissue,
            anatomy.lesion,
            anatomy.lesion_core,
            contrast=contrast,
            scanner=scanner,
        )
        kind = f"phantom-{name}"
        yield SortingCase(f"{group}-{name}", group, kind, fold, True, array, {**common, **truth})
    truth = {**common, MODALITY: CT}
    array = _as_scanned(ct_head(rng, anatomy), rng)
    yield SortingCase(f"{group}-ct", group, "phantom-head-ct", fold, True, array, truth)


def _breast(rng: np.random.Generator, index: int) -> SortingCase:
    rows, columns = int(rng.integers(240, 420)), int(rng.integers(280, 500))
    image = breast_ultrasound(rng, kind=BREAST_KINDS[index % len(BREAST_KINDS)], rows=rows, columns=columns)
    name, truth = f"phantom-breast-{index:03d}", {BODY: BREAST, MODALITY: ULTRASOUND, QUALITY: FINE}
    return SortingCase(name, name, "phantom-breast", index % FOLDS, True, image.array[None], truth)


def _trunk(rng: np.random.Generator, index: int) -> SortingCase:
    side = int(rng.integers(192, 321))
    body = ct_body(
        rng,
        slices=SLICES,
        rows=side,
        columns=side,
        pixel_spacing_mm=float(rng.uniform(320.0, 460.0)) / side,
        slice_spacing_mm=float(rng.uniform(4.0, 16.0)),
        half_width_mm=float(rng.uniform(130.0, 190.0)),
        half_depth_mm=float(rng.uniform(90.0, 130.0)),
        noise_hu=float(rng.uniform(5.0, 20.0)),
        lung_base_mm=float(rng.uniform(-60.0, 60.0)),
        table=bool(rng.random() < 0.6),
    )
    name, truth = f"phantom-trunk-{index:03d}", {BODY: TRUNK, MODALITY: CT, QUALITY: FINE}
    return SortingCase(name, name, "phantom-trunk", index % FOLDS, True, _as_scanned(body.array, rng), truth)


def _as_scanned(array: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """As a CT comes: the whole scale, a window of it, or a disc of the field of view in its padding."""
    values = array.astype(np.float32)
    form = rng.random()
    if form < 0.35:  # windowed, as a picture of the screen
        middle, width = float(rng.uniform(20, 80)), float(rng.uniform(80, 500))
        return np.clip(values, middle - width / 2, middle + width / 2)
    if form < 0.7:
        rows, columns = (np.linspace(-1, 1, size) for size in values.shape[1:])
        outside = np.hypot(rows[:, None], columns[None, :]) > 1
        return np.where(outside[None], np.float32(rng.choice([-1024.0, -2000.0, -3024.0])), values)
    return values
