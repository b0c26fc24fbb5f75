"""Generated phantoms as cases to learn from and be judged on: each is made from its number alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.simulation.phantom import SLAB_MM, Phantom, draw_phantom

VERSION = 1  # raised when a seed makes other phantoms, so that kept ones are made again
GOLDEN_SEED, GOLDEN_MM = 20, 96.0


def phantoms(
    count: int,
    seed: int,
    *,
    slab_mm: tuple[float, float, float] = SLAB_MM,
    pixel_mm: float | None = None,
) -> Iterator[tuple[str, Phantom]]:
    """Name and content of phantom 0, 1, ...; number n is the same, however many there are."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        yield f"phantom-{number:04d}", draw_phantom(rng, slab_mm=slab_mm, fine_mm=pixel_mm)


def golden_phantom(
    slab_mm: tuple[float, float, float], pixel_mm: float | None
) -> dict[str, NDArray[np.float64] | NDArray[np.int16]]:
    """Arrays of a golden input: a cube cut out of a phantom around its largest nodule."""
    drawn = draw_phantom(np.random.default_rng(GOLDEN_SEED), slab_mm=slab_mm, fine_mm=pixel_mm)
    volume, sizes = drawn.volume, np.bincount(drawn.labels.ravel())
    largest = int(sizes[1:].argmax()) + 1
    middle = np.argwhere(drawn.labels == largest).mean(0)
    assert volume.pixel_spacing_mm is not None, "a phantom has all of them"
    assert volume.slice_spacing_mm is not None, "the same"
    assert volume.affine is not None, "the same"
    steps = (volume.slice_spacing_mm, *volume.pixel_spacing_mm)
    places = []
    for at, step, size in zip(middle, steps, volume.shape, strict=True):
        wanted = min(size, round(GOLDEN_MM / step))
        first = int(np.clip(round(at - wanted / 2), 0, size - wanted))
        places.append(slice(first, first + wanted))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in places[::-1]]
    return {
        "image": volume.array[tuple(places)].astype(np.int16),
        "affine": affine,
        "pixel_spacing_mm": np.array(volume.pixel_spacing_mm),
        "slice_spacing_mm": np.array(volume.slice_spacing_mm),
    }
