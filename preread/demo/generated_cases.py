"""Labelled cases from the study generator for training: a minority beside real ones.

With them the models know what the demo shows; what patients look like is learned from patients.
"""

from collections.abc import Iterator

import numpy as np

from models.training.cases import Case, DataKind
from models.volume import Volume
from preread.demo.phantoms import breast_ultrasound, flair_head
from preread.demo.phantoms.breast import BreastKind

PIXEL_SPACING_MM, SLICE_SPACING_MM = 0.94, 5.0  # as assumed for the real training data
# Half of the heads have no lesion: all real training patients have one, so only these teach to be quiet.
HEAD_LESIONS = (0, 1, 0, 2, 0, 3, 0, 1)
SMALLEST_MM, WIDTH_MM = (8.0, 20.0), 25.0  # of lesions: the smallest is drawn, the largest is so much wider
BREAST_KINDS: tuple[BreastKind, ...] = ("benign", "malignant", "normal")
BREAST_SIZES = ((400, 480), (470, 560), (470, 480), (470, 560))  # rows, columns


def generated_cases(kind: DataKind, count: int, *, seed: int) -> Iterator[Case]:
    """`count` cases of a data set's kind; the same seed gives the same cases."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        yield _head(rng, index) if kind == "brain-flair" else _breast(rng, index)


def _head(rng: np.random.Generator, index: int) -> Case:
    smallest = float(rng.uniform(*SMALLEST_MM))
    lesions = HEAD_LESIONS[index % len(HEAD_LESIONS)]
    head = flair_head(rng, lesions=lesions, lesion_diameter_mm=(smallest, smallest + WIDTH_MM))
    spacing = (PIXEL_SPACING_MM, PIXEL_SPACING_MM)
    volume = Volume(np.round(head.array).astype(np.int16), None, spacing, SLICE_SPACING_MM)
    name = f"generated-head-{index:03d}"
    return Case(name, name, "", volume, head.mask.astype(np.uint8), None, is_simulated=True)


def _breast(rng: np.random.Generator, index: int) -> Case:
    kind = BREAST_KINDS[index % len(BREAST_KINDS)]
    rows, columns = BREAST_SIZES[index % len(BREAST_SIZES)]
    image = breast_ultrasound(rng, kind=kind, rows=rows, columns=columns)
    name = f"generated-breast-{index:03d}"
    return Case(
        name,
        name,
        kind,
        Volume(image.array[None]),
        image.mask[None].astype(np.uint8),
        kind,
        is_simulated=True,
    )
