"""Small generated inputs of several kinds, for tests of how like its training cases an input is."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from models.training.cases import Case
from models.volume import Volume

SHAPE = (144, 176)


def breast_like(seed: int) -> Volume:
    """Speckle in layers that fade with depth, and a dark oval."""
    rng = np.random.default_rng([1, seed])
    rows, columns = np.indices(SHAPE)
    depth = np.linspace(1.1, rng.uniform(0.4, 0.7), SHAPE[0])[:, None]
    layers = 0.45 + rng.uniform(0.05, 0.15) * np.sin(rows / rng.uniform(6, 12))
    texture = 1 + ndimage.gaussian_filter(rng.normal(size=SHAPE), (1.5, 5))
    centre, radii = rng.uniform((50, 60), (90, 120)), rng.uniform((14, 20), (26, 40))
    oval = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1]) < 1
    grain = ndimage.gaussian_filter(rng.rayleigh(size=SHAPE), (0.6, 1.0))
    echo = layers * depth * texture * np.where(oval, 0.15, 1.0) * grain
    return _image(255 * echo / np.percentile(echo, 99.5))


def trunk_like(seed: int) -> Volume:
    """As in computed tomography: air, an even oval with organs and bright bone, hardly any noise."""
    rng = np.random.default_rng([2, seed])
    rows, columns = np.indices(SHAPE)
    plane = 120.0 * (np.hypot((rows - 72) / 55, (columns - 88) / 80) < 1)
    for _ in range(6):
        centre, radius = rng.uniform((45, 40), (100, 136)), rng.uniform(6, 16)
        plane[np.hypot(rows - centre[0], columns - centre[1]) < radius] = rng.uniform(60, 160)
    plane[np.hypot(rows - 112, columns - 88) < 9] = 255
    return _image(plane + rng.normal(0, 2, SHAPE))


def head_like(seed: int) -> Volume:
    """As in magnetic resonance: a smooth oval with a rim and dark ventricles."""
    rng = np.random.default_rng([3, seed])
    rows, columns = np.indices(SHAPE)
    radius = np.hypot((rows - 72) / rng.uniform(60, 68), (columns - 88) / rng.uniform(52, 60))
    plane = np.where(radius < 1, 200.0, 0.0) - 160.0 * ((radius > 0.86) & (radius < 0.94))
    for side in (-1, 1):
        plane[np.hypot((rows - 70) / 16, (columns - 88 + 10 * side) / 5) < 1] = 60
    smooth = ndimage.gaussian_filter(plane, 1) + 15 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    return _image(smooth + rng.normal(0, 4, SHAPE))


def noise(seed: int) -> Volume:
    """Nothing but noise."""
    return _image(np.random.default_rng([4, seed]).uniform(0, 255, SHAPE))


OTHERS: dict[str, Callable[[int], Volume]] = {"trunk": trunk_like, "head": head_like, "noise": noise}


def breast_cases(count: int) -> list[Case]:
    """Cases of `breast_like` with a class each, as a folder of files gives them."""
    cases = []
    for index in range(count):
        volume = breast_like(index)
        name = f"case-{index:02d}"
        kind = ("benign", "malignant", "normal")[index % 3]
        cases.append(Case(name, name, kind, volume, np.zeros(volume.shape, bool), kind, is_simulated=True))
    return cases


def _image(plane: np.ndarray) -> Volume:
    return Volume(np.clip(plane, 0, 255).round().astype(np.uint8)[None])
