"""PURE: a series made worse in a way that can be named: noise, or blur. Strengths of models.robustness."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.robustness.corruptions import Severity, blur, down_sampling, noise
from models.volume import Volume

FINE, NOISY, BLURRED = "fine", "noisy", "blurred"
SEVERITIES: Final[tuple[Severity, ...]] = (3, 4, 5)  # milder ones are neither fine nor degraded


def degraded(planes: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[np.float32], str]:
    """(k, rows, columns) with noise, or out of focus, or with too few pixels; and the quality's name."""
    volume = Volume(np.ascontiguousarray(planes, dtype=np.float32))
    mask = np.zeros(volume.shape, np.bool_)
    severity = SEVERITIES[int(rng.integers(len(SEVERITIES)))]
    if rng.random() < 0.5:
        worse, _ = noise(volume, mask, severity, rng)
        return np.asarray(worse.array, np.float32), NOISY
    change = blur if rng.random() < 0.5 else down_sampling
    worse, _ = change(volume, mask, severity, rng)
    return np.asarray(worse.array, np.float32), BLURRED
