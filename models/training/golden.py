"""The golden case of a package: a small generated input, never a patient, and what the model says about
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.training.cases import DataKind

Arrays = dict[str, NDArray[Any]]


def golden_input(kind: DataKind) -> Arrays:
    """Arrays of the input file: an oval head with a bright lesion, or speckle with a dark oval."""
    generator = np.random.default_rng(20)
    return _head(generator) if kind == "brain-flair" else _breast(generator)


def golden_for_window(window: Sequence[int]) -> Arrays:
    """A volume of 1 mm, a quarter larger than a window, so that windows meet: soft texture, a bright and a
    dark ball. A window of two sizes gets three slices.
    """
    generator = np.random.default_rng(20)
    sizes = tuple(size + size // 4 for size in window)
    shape = sizes if len(sizes) == 3 else (3, *sizes)
    texture = ndimage.gaussian_filter(generator.normal(size=shape), 2)
    image = 400 + 120 * texture / texture.std()
    places = np.indices(shape)
    for share, step in ((0.35, 500.0), (0.65, -300.0)):
        centre = np.array(shape) * share
        distance = np.linalg.norm((places.T - centre).T, axis=0)
        image += step * np.clip(min(sizes) / 6 - distance + 0.5, 0, 1)
    image += generator.normal(0, 15, shape)
    return {
        "image": np.round(image.clip(0)).astype(np.int16),
        "affine": np.eye(4),
        "pixel_spacing_mm": np.array([1.0, 1.0]),
        "slice_spacing_mm": np.array(1.0),
    }


def _oval(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> NDArray[np.float64]:
    """1 inside an ellipse, falling to 0 over two pixels."""
    rows, columns = np.indices(shape)
    radius = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    return np.asarray(np.clip((1 - radius) * min(radii) / 2 + 0.5, 0, 1))


def _head(generator: np.random.Generator) -> Arrays:
    shape = (200, 176)
    slices = []
    for index in range(7):
        size = 1 - 0.02 * index
        plane = 900 * _oval(shape, (100, 88), (92 * size, 74 * size))  # scalp
        plane -= 750 * _oval(shape, (100, 88), (86 * size, 68 * size))  # skull
        plane += 450 * _oval(shape, (100, 88), (80 * size, 62 * size))  # brain
        texture = ndimage.gaussian_filter(generator.normal(size=shape), 3)
        plane += 150 * texture * _oval(shape, (100, 88), (80 * size, 62 * size))
        for side in (-1, 1):
            plane -= 400 * _oval(shape, (98, 88 + 11 * side), (20, 5))  # ventricles
        if 1 <= index <= 5:
            plane += 520 * _oval(shape, (122, 120), (20 - 2 * abs(index - 3), 16 - 2 * abs(index - 3)))
        slices.append(np.hypot(plane + generator.normal(0, 18, shape), generator.normal(0, 18, shape)))
    affine = np.diag([0.94, 0.94, 5.0, 1.0])
    return {
        "image": np.round(np.array(slices)).astype(np.int16),
        "affine": affine,
        "pixel_spacing_mm": np.array([0.94, 0.94]),
        "slice_spacing_mm": np.array(5.0),
    }


def _breast(generator: np.random.Generator) -> Arrays:
    shape = (180, 240)
    layers = (
        0.42
        + 0.12 * np.sin(np.linspace(0, 14, shape[0]))[:, None] * np.exp(-np.linspace(0, 2, shape[0]))[:, None]
    )
    depth = np.linspace(1.1, 0.55, shape[0])[:, None]
    echo = layers * depth * (1 + 0.25 * ndimage.gaussian_filter(generator.normal(size=shape), (1.5, 5)) * 4)
    lesion = _oval(shape, (85, 125), (26, 42))
    echo = echo * (1 - 0.88 * lesion)
    behind = ndimage.gaussian_filter(lesion.max(0)[None, :] * (np.arange(shape[0]) > 110)[:, None], 5)
    echo = echo * (1 + 0.6 * behind)
    grain = ndimage.gaussian_filter(generator.rayleigh(size=shape), (0.6, 1.0))
    image = np.clip(255 * echo * grain / grain.mean(), 0, 255)
    return {"image": np.round(image)[None].astype(np.uint8)}
