"""Lesions of the head phantom: irregular soft blobs in the white matter of one hemisphere."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.fields import BoolArray, FloatArray, smooth_noise, soft_step
from preread.demo.phantoms.head_tissues import HeadTissues
from preread.demo.phantoms.tissue import Tissue

_TRIES = 12
_LEAST_PART_OF_BALL = 0.4
"""A blob cut down further than this by skull, falx or ventricle is drawn again elsewhere."""


@dataclass(frozen=True)
class _Blob:
    mask: BoolArray
    part: FloatArray
    core: FloatArray


def grow_lesions(
    rng: np.random.Generator,
    tissues: HeadTissues,
    spacing_mm: tuple[float, float, float],
    *,
    count: int,
    diameter_mm: tuple[float, float],
    irregularity: float,
) -> tuple[FloatArray, FloatArray, NDArray[np.uint8]]:
    """Grow up to `count` lesions apart from each other; fewer only where they do not fit.

    Returns
    -------
    part of the voxel that is lesion (0 to 1), part of that which is core, labels 1 to n
    """
    shape = tissues.tissue.shape
    part = np.zeros(shape, dtype=np.float32)
    core = np.zeros(shape, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    brain = tissues.cerebrum & np.isin(
        tissues.tissue, (Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY, Tissue.RIM)
    )
    # A thin sulcus is pressed shut by what grows around it; ventricles and wide sulci stay.
    flesh = ~ndimage.binary_opening(~brain, np.ones((1, 3, 3), dtype=np.bool_)) & tissues.cerebrum
    for _ in range(count):
        for _try in range(_TRIES):
            radius = rng.uniform(*diameter_mm) / 2.0
            seeds = brain & (tissues.brain_depth_mm > np.clip(0.55 * radius, 6.0, 18.0))
            seeds &= (tissues.point_mm[2] > -15.0) & (
                np.abs(tissues.point_mm[0]) > min(0.8 * radius + 3.0, 30.0)
            )
            if labels.any():
                apart = ndimage.distance_transform_edt(labels == 0, sampling=spacing_mm)
                seeds &= apart > 1.25 * radius + 4.0
            places = np.flatnonzero(seeds)
            if places.size == 0:
                continue
            index = np.unravel_index(int(rng.choice(places)), shape)
            centre = (int(index[0]), int(index[1]), int(index[2]))
            side = np.sign(tissues.point_mm[0]) == np.sign(tissues.point_mm[0][centre])
            blob = _blob(rng, flesh & side & (labels == 0), centre, radius, spacing_mm, irregularity)
            ball = 4.0 / 3.0 * np.pi * radius**3 / float(np.prod(spacing_mm))
            if blob.mask.sum() < max(_LEAST_PART_OF_BALL * ball, 1.0):
                continue
            part, core = np.maximum(part, blob.part), np.maximum(core, blob.core)
            labels[blob.mask] = labels.max() + 1
            break
    return part, core, labels


def _blob(
    rng: np.random.Generator,
    allowed: BoolArray,
    centre: tuple[int, int, int],
    radius_mm: float,
    spacing_mm: tuple[float, float, float],
    irregularity: float,
) -> _Blob:
    """One lesion around `centre` (slice, row, column), only where `allowed` and in one piece."""
    shape = allowed.shape
    offsets = [
        (np.arange(n, dtype=np.float32) - c) * np.float32(s)
        for n, c, s in zip(shape, centre, spacing_mm, strict=True)
    ]
    dz, dy, dx = np.meshgrid(*offsets, indexing="ij", sparse=True)
    stretch = rng.uniform(0.8, 1.25, size=3)
    stretch /= np.cbrt(stretch.prod())
    angle = rng.uniform(0.0, np.pi)
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / stretch[0]
    v = (-np.sin(angle) * dx + np.cos(angle) * dy) / stretch[1]
    distance = np.sqrt(u**2 + v**2 + (dz / stretch[2]) ** 2)
    lobes = smooth_noise(rng, shape, [max(1.5 * radius_mm, 11.0) / s for s in spacing_mm])
    fringe = smooth_noise(rng, shape, [7.0 / s for s in spacing_mm])
    # Noise at the centre is taken off: it would shrink or swell the whole lesion, not bend its border.
    bent = lobes - lobes[centre] + 0.22 * fringe
    inside_mm = np.asarray(radius_mm * (1.0 + irregularity * np.clip(bent, -2.0, 2.0)) - distance, np.float32)
    weight = soft_step(inside_mm, 1.8) * allowed
    pieces, _ = ndimage.label(weight > 0.5)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    mask = np.asarray((pieces == sizes.argmax()) & (weight > 0.5), dtype=np.bool_)
    near = ndimage.binary_dilation(mask, iterations=2)
    core = soft_step(np.asarray(inside_mm - 0.45 * radius_mm, dtype=np.float32), 4.0)
    return _Blob(mask, np.asarray(weight * near, np.float32), np.asarray(core * near, np.float32))
