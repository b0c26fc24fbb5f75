"""PURE: simulated nodules in the lung of a real CT: for judging, never for training.

A series of few slices is continued by its mirror image along the slices, there and back, so that a nodule
finds room; vessels then run as columns, which real ones do not. The grain of the scan stays within a nodule.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.simulation.chest import Chest
from models.simulation.fields import Field, MmGrid
from models.simulation.lidc import draw_count
from models.simulation.nodules import put_in
from models.simulation.phantom import MORE_NODULES, Phantom, draw_nodules
from models.volume import Volume

AIRED_HU = (-990.0, -500.0)  # lung with its small vessels; below lies gas in the bowel
PART_ML = 3.0  # smallest connected part that counts as lung
GRAIN_MM = 1.5  # what is finer than this in the real image stays
EDGE_MM = 0.5  # blur of the scanner, about


def mirrored(volume: Volume, slices: int) -> Volume:
    """At least so many slices: the series, then backwards, then forwards again, its ends once each."""
    count = volume.shape[0]
    if count >= slices or count == 1:
        return volume
    period = [*range(count), *range(count - 2, 0, -1)]
    order = [period[index % len(period)] for index in range(slices)]
    return Volume(volume.array[order], volume.affine, volume.pixel_spacing_mm, volume.slice_spacing_mm)


def lung_of(volume: Volume) -> NDArray[np.bool_]:
    """Aired lung: dark, inside the body, in parts of some size that are not plain gas."""
    image, lung = volume.array.astype(np.float32), np.zeros(volume.shape, bool)
    for plane, found in zip(image, lung, strict=True):
        solid = ndimage.binary_closing(plane > AIRED_HU[1], iterations=2)
        parts, count = ndimage.label(~ndimage.binary_dilation(solid))
        border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        inside = ~np.isin(parts, border) & (parts > 0)
        found[:] = ndimage.binary_dilation(inside) & (plane < AIRED_HU[1]) if count else False
    parts, count = ndimage.label(lung)
    voxel_ml = volume.voxel_ml or 0.0
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        one = parts[box] == number
        is_gas = float(np.median(image[box][one])) < AIRED_HU[0] + 40
        if one.sum() * voxel_ml < PART_ML or is_gas:
            lung[box][one] = False
    return lung


def lung_ml(volume: Volume) -> float:
    """How much aired lung there is."""
    return float(lung_of(volume).sum()) * (volume.voxel_ml or 0.0)


def with_nodules(volume: Volume, rng: np.random.Generator) -> Phantom:
    """The volume with nodules after LIDC where its lung has room for them.

    Raises
    ------
    ValueError
        Its spacing is not known.
    """
    if volume.pixel_spacing_mm is None or volume.slice_spacing_mm is None:
        raise ValueError("nodules are drawn in mm, and the volume has no spacing")
    grid = MmGrid(volume.shape, (volume.slice_spacing_mm, *volume.pixel_spacing_mm))
    image: Field = volume.array.astype(np.float32)
    lung = lung_of(volume)
    # Vessels within the lung are part of where a nodule may lie.
    filled = np.stack([ndimage.binary_closing(plane, iterations=4) for plane in lung])
    inner = [ndimage.distance_transform_edt(plane, sampling=grid.spacing[1:]) for plane in filled]
    outer = [ndimage.distance_transform_edt(~plane, sampling=grid.spacing[1:]) for plane in filled]
    depth = (np.stack(inner) - np.stack(outer)).astype(np.float32)
    chest = Chest(grid, image, lung, depth, ())
    nodules = draw_nodules(chest, draw_count(rng) + MORE_NODULES, rng)
    labels = np.zeros(volume.shape, np.uint8)
    for number, nodule in enumerate(nodules, start=1):
        blur = [EDGE_MM / step for step in grid.spacing]
        share = ndimage.gaussian_filter(nodule.share, blur)
        put_in(image, replace(nodule, share=share), keep_noise_mm=GRAIN_MM, spacing=np.array(grid.spacing))
        labels[nodule.box][nodule.inside] = number
    array = np.round(image).astype(np.int16)
    made = Volume(array, volume.affine, volume.pixel_spacing_mm, volume.slice_spacing_mm)
    return Phantom(made, labels, tuple(one.traits for one in nodules))
