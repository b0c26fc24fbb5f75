"""Everything below the brain of the head phantom: orbits, nose, sinuses, mastoids, muscles of the neck.

A model meets all of it in the lowest slices of every real head and must leave it alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from preread.demo.phantoms.fields import BoolArray, FloatArray, ellipsoid, tube
from preread.demo.phantoms.tissue import Point, Tissue


def paint_face(
    tissue: NDArray[np.uint8],
    point: Point,
    depth: FloatArray,
    below: BoolArray,
    noise: Callable[[float], FloatArray],
) -> None:
    """Paint the voxels in `below` (under the skull base); `depth` is mm below the skin."""
    x, y, z = point
    fine, middle, coarse = noise(8.0), noise(15.0), noise(28.0)
    side = (np.abs(x), y, z)
    here = below & (depth > 3.5)
    tissue[here] = Tissue.MUSCLE
    tissue[here & (np.abs(middle) < 0.16)] = Tissue.FAT
    tissue[here & (coarse > 1.1)] = Tissue.FAT
    tissue[here & (coarse < -1.0)] = Tissue.BONE
    cheek = here & (depth < 15.0) & (y < 5.0)
    tissue[cheek] = Tissue.FAT
    tissue[cheek & (np.abs(coarse) < 0.14)] = Tissue.MUSCLE
    jaw = here & (np.abs(np.abs(x) - 50.0 + 3.0 * coarse) < 3.5) & (y < 2.0) & (y > -45.0) & (z < -38.0)
    tissue[jaw] = Tissue.BONE

    petrous = ellipsoid(side, (38.0, 14.0, -33.0), (27.0, 13.0, 13.0)) + 0.15 * middle
    tissue[here & (petrous < 1.0)] = Tissue.BONE
    mastoid = ellipsoid(side, (55.0, 26.0, -36.0), (15.0, 16.0, 18.0)) + 0.15 * fine
    tissue[here & (mastoid < 1.0)] = Tissue.BONE
    tissue[here & (mastoid < 0.9) & (fine > 1.3)] = Tissue.MARROW
    clivus = here & (np.abs(x) < 12.0) & (y > -24.0) & (y < 10.0)
    tissue[clivus] = Tissue.MARROW
    tissue[clivus & (y < -8.0) & (np.abs(middle) < 1.4)] = Tissue.AIR  # sphenoid sinus

    _paint_orbits(tissue, side, depth)
    nasal = (np.abs(x) < 15.0 + 2.0 * coarse) & (y < -24.0) & (z < -20.0) & (depth > 4.0)
    tissue[nasal] = Tissue.AIR
    turbinate = np.abs(np.abs(x) - 7.0 + 2.2 * middle) < 1.6
    tissue[nasal & turbinate & (fine > -1.0)] = Tissue.MUSCLE
    tissue[nasal & (np.abs(x - 1.2 * coarse) < 1.0)] = Tissue.SKIN
    maxillary = ellipsoid(side, (31.0, -56.0, -52.0), (15.0, 17.0, 13.0)) + 0.15 * middle
    tissue[(maxillary < 1.0) & (depth > 8.0)] = Tissue.AIR
    tissue[(np.abs(maxillary - 1.05) < 0.06) & (depth > 8.0)] = Tissue.SKIN


def _paint_orbits(tissue: NDArray[np.uint8], side: Point, depth: FloatArray) -> None:
    x, y, _ = side
    cone = ellipsoid(side, (31.0, -56.0, -29.0), (18.0, 31.0, 15.0)) < 1.0
    cone &= (np.abs(x - 31.0) < 4.0 + 0.7 * np.clip(-y - 24.0, 0.0, None)) & (depth > 2.0)
    tissue[cone] = Tissue.FAT
    nerve = tube(side, [(30, -66, -29), (14, -30, -25)], [1.9, 1.9]) > 0
    shell = np.abs(ellipsoid(side, (30.0, -54.0, -29.0), (14.0, 27.0, 12.0)) - 0.9) < 0.09
    tissue[cone & (nerve | shell)] = Tissue.MUSCLE
    globe = ellipsoid(side, (32.0, -70.0, -29.0), (12.0, 12.0, 12.0))
    tissue[(globe < 1.12) & (depth > 0.8)] = Tissue.MUSCLE
    tissue[(globe < 1.0) & (depth > 0.8)] = Tissue.EYE
