"""PURE how far a feature vector lies from those of the training cases. numpy alone: this runs in the worker.

Vectors are split into a part inside the space of the first principal components and the rest. The distance
counts both, each direction in units of its own spread: a case of another body part often moves where the
training cases never did, which the components alone would not see.

    d^2 = |whitened scores|^2 + |rest|^2 / rest_variance

in units in which a typical case that the statistics were not fitted on has d = 1.

The file is safetensors with float32 `mean` (c,), `axes` (k, c) with orthonormal rows, `whitening` (k, k) and
`rest_variance` (1,), the variance of the rest along one direction.

Sources: Lee et al., NeurIPS 2018 (Mahalanobis distance of features); Gonzalez et al., arXiv 2107.05975 and
2208.03217 (segmentation networks); Moghaddam and Pentland, PAMI 1997 (distance in and from feature space);
Ledoit and Wolf 2004 (shrinkage).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.ood.block import FILE_BYTES_MAX, Ood

Floats = NDArray[np.float64]
ORTHONORMAL_TOLERANCE = 1e-3
_NAMES = ("axes", "mean", "rest_variance", "whitening")


class StatisticsError(ValueError):
    """A file that does not hold the statistics its package declares; the message says what is wrong."""


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Of n training vectors with c features, reduced to k components.

    Parameters
    ----------
    mean : (c,)
    axes : (k, c), orthonormal rows, the directions of largest spread first
    whitening : (k, k), makes the scores uncorrelated and of equal spread
    rest_variance : of what the axes leave over, along one direction
    """

    mean: Floats
    axes: Floats
    whitening: Floats
    rest_variance: float

    def distance(self, vectors: Floats) -> Floats:
        """(n, c) -> (n,)."""
        centred = vectors - self.mean
        scores = centred @ self.axes.T  # (n, c) -> (n, k)
        rest = centred - scores @ self.axes
        inside = (scores @ self.whitening) ** 2
        return np.asarray(np.sqrt(inside.sum(1) + (rest**2).sum(1) / self.rest_variance))

    def in_units_of(self, distance: float) -> FeatureStatistics:
        """The same with `distance` as the new 1."""
        return replace(
            self, whitening=self.whitening / distance, rest_variance=self.rest_variance * distance**2
        )


def to_bytes(statistics: FeatureStatistics) -> bytes:
    """The file."""
    arrays = {
        "mean": statistics.mean,
        "axes": statistics.axes,
        "whitening": statistics.whitening,
        "rest_variance": np.array([statistics.rest_variance]),
    }
    return save({name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()})


def read_statistics(path: Path, block: Ood) -> FeatureStatistics:
    """The statistics of a package.

    Raises
    ------
    StatisticsError
        Too large, not safetensors, other arrays or shapes than declared, or values that make no distance.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise StatisticsError(f"{path.stat().st_size} bytes, at most {FILE_BYTES_MAX} are read")
    try:
        arrays = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StatisticsError("not readable as safetensors") from error
    if tuple(sorted(arrays)) != _NAMES:
        raise StatisticsError(f"holds {sorted(arrays)}, not {list(_NAMES)}")
    shapes = {
        "mean": (block.features,),
        "axes": (block.components, block.features),
        "whitening": (block.components, block.components),
        "rest_variance": (1,),
    }
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise StatisticsError(f"{name} is {array.dtype} {array.shape}, declared is float32 {shape}")
        if not np.isfinite(array).all():
            raise StatisticsError(f"{name} holds values that are not finite")
    axes, whitening = arrays["axes"].astype(np.float64), arrays["whitening"].astype(np.float64)
    if np.abs(axes @ axes.T - np.eye(block.components)).max() > ORTHONORMAL_TOLERANCE:
        raise StatisticsError("the rows of axes are not orthonormal")
    # With a direction that counts nothing, everything along it would pass for a training case.
    if np.linalg.matrix_rank(whitening) < block.components or arrays["rest_variance"][0] <= 0:
        raise StatisticsError("a direction counts nothing")
    return FeatureStatistics(
        arrays["mean"].astype(np.float64), axes, whitening, float(arrays["rest_variance"][0])
    )
