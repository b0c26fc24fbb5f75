"""Cerebrum, cerebellum and brain stem of the head phantom: cortex, sulci, nuclei, ventricles, cisterns."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.fields import BoolArray, FloatArray, ellipsoid, tube
from preread.demo.phantoms.tissue import HeadShape, Point, Tissue

Noise = Callable[[float], FloatArray]
"""Smooth noise on the grid of the head, of a wavelength in mm."""


def paint_cerebrum(
    rng: np.random.Generator,
    tissue: NDArray[np.uint8],
    point: Point,
    depth: FloatArray,
    cerebrum: BoolArray,
    shape: HeadShape,
    noise: Noise,
) -> None:
    """Paint cortex and white matter where `cerebrum` is true; `depth` is mm below the brain's surface."""
    x, y, z = point
    width = shape.sulcus_width
    tissue[cerebrum] = Tissue.WHITE
    # Distance to the nearest sheet of the folds, mm: the noise falls by about 1 in a fifth of a wavelength.
    sheet = np.abs(_folds(rng, point, depth, wavelength_mm=17.0)) * 3.3
    reach = np.clip(19.0 + 6.0 * noise(25.0), 8.0, 32.0)
    fade = np.clip(1.0 - depth / reach, 0.0, 1.0)
    grey = (sheet < 3.4 * np.sqrt(fade)) | (depth < 3.0)
    tissue[cerebrum & grey] = Tissue.GREY
    opening = width * (0.75 + 0.35 * noise(18.0))
    tissue[cerebrum & (sheet < opening * 1.15 * fade)] = Tissue.FLUID

    midline = np.abs(x + 1.4 * noise(22.0))
    callosum = ellipsoid(point, (0.0, 4.0, 10.0), (40.0, 44.0, 24.0)) < 1.0
    parted = cerebrum & ~callosum & (z > -14.0)
    tissue[parted & (midline < 3.8)] = Tissue.GREY
    tissue[parted & (midline < 0.55 * width + 0.4)] = Tissue.FLUID

    insula = ellipsoid((np.abs(x), y, z), (20.0, -4.0, 2.0), (19.0, 25.0, 21.0)) + 0.05 * noise(14.0)
    lateral = (np.abs(x) > 27.0) & cerebrum
    tissue[lateral & (np.abs(insula - 1.0) < 0.17)] = Tissue.GREY
    tissue[lateral & (np.abs(insula - 1.0) < 0.05 * width)] = Tissue.FLUID
    operculum = np.abs(y + 8.0 - 0.7 * (z - 4.0) + 3.5 * noise(16.0))
    gap = lateral & (np.abs(z - 2.0) < 16.0) & (insula > 1.0)
    tissue[gap & (operculum < 4.0)] = Tissue.GREY
    tissue[gap & (operculum < 1.1 * width)] = Tissue.FLUID
    _paint_deep(tissue, point, cerebrum, shape, noise)


def _folds(rng: np.random.Generator, point: Point, depth: FloatArray, wavelength_mm: float) -> FloatArray:
    """Noise whose zero set runs inwards from the surface in thin curves, as sulci do."""
    x, y, z = point
    # Drawing the point towards the surface makes the sheets radial; what is left lets them curve.
    from_centre = np.clip(np.sqrt(x**2 + y**2 + z**2), 20.0, None)
    stretch = 1.0 + 0.6 * np.clip(depth, 0.0, 30.0) / from_centre
    cube = 96
    noise = ndimage.gaussian_filter(
        rng.standard_normal((cube, cube, cube), dtype=np.float32), 1.0, mode="wrap"
    )
    noise /= noise.std()
    cells_per_mm = 6.0 / wavelength_mm
    grid = [np.asarray(c * stretch * cells_per_mm + cube / 2) for c in (z * 0.7, y, x)]
    return np.asarray(ndimage.map_coordinates(noise, grid, order=1, mode="grid-wrap"), dtype=np.float32)


def _paint_deep(
    tissue: NDArray[np.uint8], point: Point, cerebrum: BoolArray, shape: HeadShape, noise: Noise
) -> None:
    """Paint basal ganglia, ventricles with their bright rim, and the cisterns around the brain stem."""
    x, y, z = point
    uneven = noise(18.0)
    side = np.abs(x), y, z
    for centre, radii in (
        ((10.0, 12.0, 8.0), (9.0, 15.0, 10.0)),  # thalamus
        ((25.0, -4.0, 6.0), (6.0, 16.0, 11.0)),  # putamen
        ((13.0, -20.0, 13.0), (5.0, 8.0, 9.0)),  # head of the caudate
    ):
        tissue[cerebrum & (ellipsoid(side, centre, radii) + 0.08 * uneven < 1.0)] = Tissue.DEEP_GREY
    scale = shape.ventricle_scale
    body = tube(
        side,
        [(14, -36, 10), (9, -28, 16), (5, -14, 22), (8, 4, 27), (15, 26, 22), (21, 40, 12), (20, 54, 8)],
        [r * scale for r in (1.5, 3.8, 4.4, 4.6, 5.6, 3.6, 0.8)],
    )
    horn = tube(
        side,
        [(17, 28, 18), (28, 24, 0), (30, 8, -14), (29, -4, -17)],
        [4.0 * scale, 2.4 * scale, 1.8 * scale, 1.0],
    )
    third = tube((x * 1.6, y, z), [(0, -10, 0), (0, 10, 6)], [3.4 * scale, 3.0 * scale])
    lateral = np.maximum(body, horn) + 0.7 * uneven
    tissue[cerebrum & (body > -1.3)] = Tissue.RIM
    tissue[cerebrum & (np.maximum(lateral, third) > 0)] = Tissue.FLUID
    # Suprasellar and ambient cisterns: a star around the midbrain.
    turn = np.arctan2(x, -(y + 8.0))
    star = 12.0 + 4.0 * np.cos(5.0 * turn)
    basal = (z < -8.0) & (z > -24.0) & (np.hypot(x, y + 8.0) < star)
    tissue[basal & cerebrum] = Tissue.FLUID


def paint_cerebellum(
    tissue: NDArray[np.uint8], point: Point, cerebellum: FloatArray, cavity: FloatArray, noise: Noise
) -> None:
    """Paint cerebellum where `cerebellum` (mm below its surface) is positive, stem and fourth ventricle."""
    x, y, z = point
    inside = cerebellum > 0
    tissue[inside] = Tissue.GREY
    # Folia are concentric around the stem, about 4 mm apart, and finer than the slice shows sharply.
    ring = np.sin(1.5 * np.hypot(x * 0.7, y - 8.0) + 0.25 * z + 1.6 * noise(16.0))
    tissue[inside & (ring > 0.6) & (cerebellum < 18.0)] = Tissue.WHITE
    tissue[inside & (ring < -0.95) & (cerebellum < 10.0)] = Tissue.FLUID
    vermis = inside & (np.abs(np.abs(x) - 7.0) < 0.8) & (y > 45.0)
    tissue[vermis] = Tissue.FLUID
    core = ellipsoid((np.abs(x), y, z), (20.0, 32.0, -28.0), (16.0, 14.0, 13.0)) + 0.12 * noise(12.0)
    tissue[inside & (core < 1.0)] = Tissue.WHITE

    pons = 1.0 - ellipsoid(point, (0.0, 6.0, -28.0), (17.0, 13.0, 16.0))
    midbrain = 1.0 - ellipsoid(point, (0.0, 8.0, -10.0), (15.0, 12.0, 14.0))
    cord = 1.0 - np.hypot(x / 8.0, (y - 14.0) / 7.0) - np.clip((z + 36.0) / 8.0, 0.0, None)
    stem = np.maximum(np.maximum(pons, midbrain), cord)
    tissue[(stem > -0.3) & (cavity > 0) & ~inside & (z < -6.0)] = Tissue.FLUID
    tissue[(stem > 0) & (cavity > -6.0) & (z < -4.0)] = Tissue.WHITE
    peduncle = tube((np.abs(x), y, z), [(10, 10, -28), (20, 26, -28)], [7.0, 8.0]) > 0
    tissue[peduncle & (cavity > 0)] = Tissue.WHITE
    fourth = ellipsoid(point, (0.0, 23.0, -27.0), (8.0, 4.5, 12.0)) < 1.0
    tissue[fourth & (cavity > 0)] = Tissue.FLUID
    aqueduct = np.hypot(x, y - 17.0) < 1.6
    tissue[aqueduct & (z > -16.0) & (z < -4.0)] = Tissue.FLUID
