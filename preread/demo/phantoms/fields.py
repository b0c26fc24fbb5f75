"""Random fields and shapes that the phantoms are made of: smooth noise, soft steps, tubes, ellipsoids.

Everything works on coordinate grids in mm and takes the random generator as an argument.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], wavelength: float | Sequence[float]
) -> FloatArray:
    """Gaussian noise with zero mean and unit deviation whose features are about `wavelength` elements long.

    Parameters
    ----------
    shape : of the result
    wavelength : in elements, one number or one per axis
    """
    scales = np.broadcast_to(np.asarray(wavelength, dtype=float), (len(shape),))
    # A cubic spline through coarse noise, axis after axis, costs a fraction of blurring fine noise widely.
    bases = [_spline_basis(n, max(scale / 3.0, 1.0)) for n, scale in zip(shape, scales, strict=True)]
    coarse = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    # Spline (0.58 cells) and filter together blur by a third of the wavelength.
    blur = [0.8 if scale >= 3.0 else 0.27 * scale for scale in scales]
    field = ndimage.gaussian_filter(coarse, blur)
    for axis, basis in enumerate(bases):
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    spread = float(field.std())
    centred = field - float(field.mean())
    return np.ascontiguousarray(centred / spread if spread > 0 else centred, dtype=np.float32)


def _spline_basis(samples: int, cell: float) -> FloatArray:
    """Weight of each coarse node (columns) in each sample (rows): cubic B-splines `cell` samples wide."""
    nodes = int(np.ceil((samples - 1) / cell)) + 4
    distance = np.abs(np.arange(samples)[:, None] / cell + 1.0 - np.arange(nodes)[None, :])
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return np.asarray(np.where(distance < 1.0, near, far), dtype=np.float32)


def soft_step(values: NDArray[np.floating[Any]], width: float) -> FloatArray:
    """0 well below zero, 1 well above, in between a smooth rise about `width` wide."""
    return np.asarray(0.5 * (1.0 + np.tanh(values / max(width, 1e-6))), dtype=np.float32)


def ellipsoid(
    point: tuple[FloatArray, FloatArray, FloatArray],
    centre_mm: tuple[float, float, float],
    radii_mm: tuple[float, float, float],
) -> FloatArray:
    """Normalised radius: below 1 inside the ellipsoid; `point` is (x, y, z) in mm."""
    x, y, z = point
    return np.asarray(
        np.sqrt(
            ((x - centre_mm[0]) / radii_mm[0]) ** 2
            + ((y - centre_mm[1]) / radii_mm[1]) ** 2
            + ((z - centre_mm[2]) / radii_mm[2]) ** 2
        ),
        dtype=np.float32,
    )


def tube(
    point: tuple[FloatArray, FloatArray, FloatArray],
    path_mm: Sequence[tuple[float, float, float]],
    radii_mm: Sequence[float],
) -> FloatArray:
    """Depth below the surface of a bent tube, mm: positive inside, negative outside.

    Parameters
    ----------
    path_mm : corners of the axis, (x, y, z)
    radii_mm : radius at each corner, linear in between
    """
    x, y, z = point
    depth = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), -np.inf, dtype=np.float32)
    legs = zip(path_mm[:-1], path_mm[1:], radii_mm[:-1], radii_mm[1:], strict=True)
    for (x0, y0, z0), (x1, y1, z1), r0, r1 in legs:
        dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
        length_squared = max(dx * dx + dy * dy + dz * dz, 1e-6)
        along = np.clip(((x - x0) * dx + (y - y0) * dy + (z - z0) * dz) / length_squared, 0.0, 1.0)
        distance = np.sqrt(
            (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 + (z - z0 - along * dz) ** 2
        )
        np.maximum(depth, r0 + along * (r1 - r0) - distance, out=depth)
    return depth
