"""A synthetic CT of a trunk: oval body, lungs above, liver and kidneys below, spine, table, noise, in HU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.fields import ellipsoid, smooth_noise


@dataclass(frozen=True)
class CtBody:
    """Hounsfield units, (slices, rows, columns), slice 0 the lowest; spacing (z, y, x) in mm."""

    array: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]


def ct_body(
    rng: np.random.Generator,
    *,
    slices: int = 12,
    rows: int = 256,
    columns: int = 256,
    pixel_spacing_mm: float = 1.6,
    slice_spacing_mm: float = 5.0,
    half_width_mm: float = 165.0,
    half_depth_mm: float = 112.0,
    noise_hu: float = 14.0,
    lung_base_mm: float = 10.0,
    table: bool = True,
) -> CtBody:
    """One CT volume around the diaphragm.

    Parameters
    ----------
    half_width_mm, half_depth_mm : of the body; it is made smaller where the field of view is
    lung_base_mm : height of the lung bases over the middle slice
    table : whether the couch shows below the patient
    """
    z, y, x = np.meshgrid(
        (np.arange(slices) - (slices - 1) / 2) * slice_spacing_mm,
        (np.arange(rows) - (rows - 1) / 2) * pixel_spacing_mm,
        (np.arange(columns) - (columns - 1) / 2) * pixel_spacing_mm,
        indexing="ij",
    )
    x, y, z = x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)
    fit = min(
        1.0, 0.46 * rows * pixel_spacing_mm / half_depth_mm, 0.48 * columns * pixel_spacing_mm / half_width_mm
    )
    wide, deep = half_width_mm * fit * rng.uniform(0.92, 1.0), half_depth_mm * fit * rng.uniform(0.92, 1.0)
    # The anatomy is drawn for a body of 165 x 112 mm and follows the real one.
    x, y = x / wide * 165.0, y / deep * 112.0
    spacing = (slice_spacing_mm, pixel_spacing_mm, pixel_spacing_mm)
    lumps = smooth_noise(rng, x.shape, [70.0 / s for s in spacing])
    point = (x + 2.0 * lumps, y + 2.0 * lumps, z)
    side = (np.abs(point[0]), point[1], z)
    x, y = point[0], point[1]

    radius = ((np.abs(x) / 165.0) ** 2.4 + (np.abs(y) / 112.0) ** 2.4) ** (1 / 2.4)
    hu = np.full(x.shape, -1000.0, dtype=np.float32)
    hu[radius < 1.0] = 40.0  # skin
    hu[radius < 0.985] = -105.0  # fat
    hu[radius < 0.88 + 0.015 * lumps] = 55.0  # muscle wall
    hu[radius < 0.82] = -95.0  # fat inside
    ribs = (np.abs(radius - 0.85) < 0.022) & (np.sin(8.0 * np.arctan2(y, np.abs(x)) + 0.12 * z + 1.0) > 0.5)
    hu[ribs] = 380.0

    for centre, radii, value in (
        ((-62.0, -8.0, -20.0), (76.0, 68.0, 62.0), 105.0),  # liver
        ((82.0, 26.0, -8.0), (32.0, 40.0, 42.0), 112.0),  # spleen
        ((48.0, -40.0, -22.0), (46.0, 34.0, 46.0), 28.0),  # stomach
    ):
        hu[(ellipsoid(point, centre, radii) < 1.0) & (radius < 0.81)] = value
    gas = ellipsoid(point, (52.0, -58.0, -20.0), (24.0, 12.0, 28.0)) < 1.0
    hu[gas & (y < -54.0) & (radius < 0.8)] = -900.0
    kidneys = ellipsoid(side, (56.0, 48.0, -42.0), (25.0, 21.0, 36.0)) < 1.0
    hu[kidneys & (radius < 0.8)] = 150.0
    dome = lung_base_mm + 32.0 * (1.0 - np.clip(np.hypot((np.abs(x) - 75.0) / 75.0, y / 85.0), 0, 1))
    lungs = (radius < 0.8) & (np.abs(x) > 30.0) & (z > dome)
    texture = smooth_noise(rng, x.shape, [6.0 / s for s in spacing])
    hu[lungs] = (-840.0 + 45.0 * texture + 500.0 * (texture > 2.2))[lungs]
    heart = ellipsoid(point, (18.0, -38.0, 34.0), (52.0, 42.0, 30.0)) < 1.0
    hu[heart] = 130.0
    spine = np.hypot(x / 22.0, (y - 62.0) / 19.0)
    disc = np.abs((z + 15.0) % 32.0 - 16.0) < 3.0
    hu[spine < 1.0] = np.where(disc[spine < 1.0], 80.0, 190.0)
    hu[(spine > 0.86) & (spine < 1.0) & ~disc] = 420.0
    arch = np.minimum(
        np.abs(np.hypot(x, y - 88.0) - 12.0) - 3.0, np.hypot(x / 4.0, (y - 103.0) / 9.0) * 4.0 - 4.0
    )
    hu[arch < 0] = 360.0
    hu[np.hypot(x, y - 88.0) < 9.0] = 30.0
    hu[np.hypot(x - 14.0, y - 34.0) < 12.0] = 165.0  # aorta
    hu += np.where(hu > -200.0, 5.0 * texture, 0.0)
    if table:
        below = (np.arange(rows) - (rows - 1) / 2)[None, :, None] * pixel_spacing_mm - deep
        couch = (below > 4.0) & (below < 7.0) & (np.abs(point[0]) < 200.0)
        hu[couch & (radius > 1.0)] = -120.0
    hu = ndimage.gaussian_filter(hu, (0.3, 0.6, 0.6))
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0.0, 0.7, 0.7))
    hu += noise_hu * noise / max(float(noise.std()), 1e-6)
    return CtBody(np.clip(np.round(hu), -1024, 3071).astype(np.int16), spacing)
