"""PURE: a slab of chest without nodules: wall, ribs, spine, heart, lungs with vessels, airways and fissures.

Only what a detector of nodules meets is there: no patient looks like it, and much is left out (scapulae,
oesophagus, breathing).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.simulation.fields import Field, MmGrid, Point, covered, smooth_noise
from models.simulation.mimics import add_mimics
from models.simulation.tubes import Piece, add_tubes, tree

AIR, FAT, MUSCLE, BLOOD, BONE = -1000.0, -100.0, 45.0, 40.0, 450.0
LUNG_HU = (-890.0, -790.0)
SMALLEST_VESSEL_MM = 0.4  # radius
SMALL_TREES = 35  # in a litre of slab, on each side


@dataclass(frozen=True, eq=False)
class Chest:
    """A slab of chest on a grid.

    Parameters
    ----------
    image : HU
    lung : where a nodule may lie
    depth_mm : of a voxel below the lung's surface, about; negative outside
    vessels : pieces of vessels, the large ones first
    """

    grid: MmGrid
    image: Field
    lung: NDArray[np.bool_]
    depth_mm: Field
    vessels: tuple[Piece, ...]


def draw_chest(grid: MmGrid, rng: np.random.Generator) -> Chest:
    """A chest of random size, shape and attenuation."""
    z, y, x = grid.lines()
    voxel = float(np.min(grid.spacing))
    wide, deep = 0.46 * grid.extent[2] * rng.uniform(0.93, 1.0), 0.46 * grid.extent[1] * rng.uniform(0.9, 1.0)
    bumps = _plane_noise(grid, 60.0, rng)
    body = _ellipse(y, x, (0.0, 0.0), (deep, wide), power=2.4) + bumps
    fat = float(rng.uniform(6, 22))
    image = np.full(grid.shape, AIR, np.float32)
    _lay(image, body, FAT, voxel)
    _lay(image, body - fat, MUSCLE, voxel)
    oval = _ellipse(y, x, (0.0, 0.0), (deep - fat - 16, wide - fat - 14), power=2.3) + bumps
    depth = _lungs(z, y, x, oval, bumps, (deep - fat - 16, wide - fat - 14), rng)
    _ribs(image, body - fat - 6, oval, z, y, x, rng, voxel)
    _lay(image, _ellipse(y, x, (deep - fat - 24, 0.0), (17.0, 20.0)), BONE - 200, voxel)
    _lay(image, _ellipse(y, x, (deep - fat - 24, 0.0), (15.0, 18.0)), 180.0, voxel)
    inside = covered(depth, voxel)
    image += inside * (_parenchyma(grid, y, deep, rng) - image)
    enhanced = float(rng.choice([BLOOD, rng.uniform(120, 260)]))
    vessels, airways = _trees(grid, wide, rng)
    occupied = np.zeros(grid.shape, np.float32)
    add_tubes(occupied, grid, vessels)
    _fissures(occupied, grid, rng)
    add_mimics(occupied, depth, grid, rng)
    image += occupied * inside * (enhanced - image)
    _airways(image, inside, grid, airways)
    return Chest(grid, image, np.asarray((depth > 0) & (occupied < 0.5)), depth, tuple(vessels))


def _ellipse(
    y: Field, x: Field, centre: tuple[float, float], axes: tuple[float, float], power: float = 2.0
) -> Field:
    """Distance inside a (super)ellipse of the plane, mm, about."""
    out = (np.abs((y - centre[0]) / axes[0]) ** power + np.abs((x - centre[1]) / axes[1]) ** power) ** (
        1 / power
    )
    return np.asarray((1 - out) * min(axes), dtype=np.float32)


def _lay(image: Field, inside_mm: Field, value: float, voxel: float) -> None:
    share = covered(inside_mm, voxel)
    image += share * (np.float32(value) - image)


def _lungs(
    z: Field,
    y: Field,
    x: Field,
    oval: Field,
    bumps: Field,
    axes: tuple[float, float],
    rng: np.random.Generator,
) -> Field:
    """Depth below the surface of the lungs: an oval without mediastinum, heart and diaphragm."""
    gap = rng.uniform(16, 26) + 5 * bumps + 14 * (y / axes[0]) ** 2
    flat = np.minimum(oval, np.abs(x) - gap)
    heart = [rng.uniform(-25, 15), -0.25 * axes[0], 22.0]
    size = rng.uniform(38, 52)
    out = ((z - heart[0]) / 1.2) ** 2 + ((y - heart[1]) ** 2 + ((x - heart[2]) / 1.25) ** 2)
    depth = np.minimum(flat, np.sqrt(out, dtype=np.float32) - np.float32(size))
    floor = float(z.min()) - rng.uniform(-35, 25)  # tops of the domes, where they reach into the slab
    dome = (z - (floor - 60)) ** 2 + (y**2 + (np.abs(x) - 0.5 * axes[1]) ** 2)
    return np.asarray(np.minimum(depth, np.sqrt(dome, dtype=np.float32) - 75), dtype=np.float32)


def _ribs(
    image: Field,
    below_skin: Field,
    oval: Field,
    z: Field,
    y: Field,
    x: Field,
    rng: np.random.Generator,
    voxel: float,
) -> None:
    """Oblique bars between skin and lung, a marrow of 150 HU in a shell of bone."""
    slope, step = rng.uniform(0.35, 0.6), rng.uniform(22, 27)
    along = np.abs(np.mod(z + slope * y + rng.uniform(0, step), step) - step / 2)
    layer = 4.5 - np.abs(-oval - 6.5)  # between 2 and 11 mm outside the chest's inner surface
    rib = np.minimum(np.minimum(layer, 5.5 - along), below_skin)
    rib = np.where(np.abs(x) > 25, rib, -1.0).astype(np.float32)
    _lay(image, rib, BONE, voxel)
    _lay(image, rib - np.float32(2), 150.0, voxel)


def _parenchyma(grid: MmGrid, y: Field, deep: float, rng: np.random.Generator) -> Field:
    """Lung without vessels: denser towards the back, mottled."""
    base, gravity = rng.uniform(*LUNG_HU), rng.uniform(10, 45)
    mottled = rng.uniform(12, 24) * smooth_noise(grid.shape, grid.spacing, 5.0, rng)
    uneven = 14 * _plane_noise(grid, 20.0, rng)
    return np.asarray(mottled + (base + gravity * y / deep + uneven), dtype=np.float32)


def _plane_noise(grid: MmGrid, length_mm: float, rng: np.random.Generator) -> Field:
    """(1, rows, columns) of smooth noise, the same on every slice."""
    return smooth_noise((1, *grid.shape[1:]), grid.spacing, length_mm, rng)


def _trees(grid: MmGrid, wide: float, rng: np.random.Generator) -> tuple[list[Piece], list[Piece]]:
    """Arteries, veins and airways of both lungs, from several roots near the middle, and small ones that
    come from beyond the slab.
    """
    vessels: list[Piece] = []
    airways: list[Piece] = []
    half = grid.extent / 2
    # What is a quarter of a voxel wide would not be seen.
    smallest = max(SMALLEST_VESSEL_MM, float(np.min(grid.spacing)) / 4)
    for side in (-1, 1):
        for _ in range(int(rng.integers(5, 8))):
            root: Point = np.array(
                [rng.uniform(-0.6, 0.6) * grid.extent[0], rng.uniform(-25, 25), side * rng.uniform(26, 36)]
            )
            towards = np.array([rng.normal(0, 0.6), rng.normal(0, 0.7), side * 1.0])
            vessels += tree(root, towards, rng.uniform(2.5, 4.5), smallest, half, rng)
            if rng.random() < 0.5:
                airways += tree(root + rng.normal(0, 4, 3), towards, rng.uniform(2.0, 3.5), 1.0, half, rng)
        for _ in range(int(SMALL_TREES * grid.extent.prod() / 1e6)):
            at = rng.uniform(-1, 1, 3) * half
            at[2] = side * abs(at[2])
            # Away from the hilum, up or down as it comes.
            outward = at - np.array([rng.uniform(-1, 1) * half[0], 0, side * 25.0]) + rng.normal(0, 8, 3)
            vessels += tree(at, outward, rng.uniform(0.7, 1.9), smallest, half, rng)
    return sorted(vessels, key=lambda one: -one.radius), airways


def _fissures(occupied: Field, grid: MmGrid, rng: np.random.Generator) -> None:
    """One oblique, bent sheet for each lung, fainter than a vessel."""
    z, y, x = grid.lines()
    for side in (-1, 1):
        tilt, at = rng.uniform(0.5, 1.1), rng.uniform(-30, 30)
        bent = 4 * _plane_noise(grid, 70.0, rng)
        away = np.abs((z + tilt * y + at + bent) / np.hypot(1, tilt))
        sheet = np.clip(1 - away / 0.8, 0, 1) * np.where(np.sign(x) == side, 0.22, 0)
        np.maximum(occupied, sheet, out=occupied)


def _airways(image: Field, inside: Field, grid: MmGrid, pieces: list[Piece]) -> None:
    """Walls as dense as vessels, air within."""
    walls, lumen = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    add_tubes(walls, grid, pieces)
    add_tubes(lumen, grid, [Piece(one.start, one.end, one.radius * 0.7) for one in pieces])
    image += walls * inside * (-150 - image)
    image += lumen * inside * (-960 - image)
