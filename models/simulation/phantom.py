"""PURE: a whole phantom: a slab of chest, nodules after LIDC in it, scanned. The same seed gives the same.

More nodules are drawn than LIDC has (two more in each scan), so that few phantoms teach much; how sizes,
shapes and ratings are spread is LIDC's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.simulation.chest import Chest, draw_chest
from models.simulation.fields import MmGrid, Point
from models.simulation.lidc import NoduleTraits, draw_count, draw_thickness_mm, draw_traits
from models.simulation.nodules import DrawnNodule, draw_nodule, half_axes, put_in
from models.simulation.scanner import ct_noise, draw_protocol, scanned, slice_indices
from models.volume import Volume

SLAB_MM = (80.0, 220.0, 300.0)  # slices, rows, columns
FINE_MM = (0.9, 1.1)
MORE_NODULES = 2
ON_PLEURA, ON_VESSEL = 0.25, 0.25  # shares of nodules that touch the one or the other
APART_MM = 4.0
TRIES = 300


@dataclass(frozen=True, eq=False)
class Phantom:
    """A scan and what is in it.

    Parameters
    ----------
    labels : (slices, rows, columns), nodule 1, 2, ...
    traits : of each nodule
    """

    volume: Volume
    labels: NDArray[np.uint8]
    traits: tuple[NoduleTraits, ...]


def draw_phantom(
    rng: np.random.Generator, *, slab_mm: tuple[float, float, float] = SLAB_MM, fine_mm: float | None = None
) -> Phantom:
    """A phantom of this size; `fine_mm` is the size of its pixels, drawn where it is None."""
    step = float(rng.uniform(*FINE_MM)) if fine_mm is None else fine_mm
    shape = tuple(round(size / step) for size in slab_mm)
    grid = MmGrid((shape[0], shape[1], shape[2]), (step, step, step))
    chest = draw_chest(grid, rng)
    nodules = draw_nodules(chest, draw_count(rng) + MORE_NODULES, rng)
    fine = chest.image.copy()
    for nodule in nodules:
        put_in(fine, nodule)
    protocol = draw_protocol(draw_thickness_mm(rng), rng)
    image = scanned(fine, grid.spacing, protocol)
    image += ct_noise(image.shape, step, protocol, rng)
    labels = sliced_labels(nodules, grid, slice_indices(grid.shape[0], step, protocol))
    return Phantom(
        Volume(
            np.clip(np.round(image), -1024, 3071).astype(np.int16),
            affine_of(labels.shape, (protocol.slice_spacing_mm, step, step)),
            (step, step),
            protocol.slice_spacing_mm,
        ),
        labels,
        tuple(one.traits for one in nodules),
    )


def affine_of(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """(column, row, slice) to LPS mm: columns to the left, rows to the back, slices to the head."""
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    affine[:3, 3] = [-(size - 1) / 2 * step for size, step in zip(shape[::-1], spacing[::-1], strict=True)]
    return affine


def draw_nodules(chest: Chest, count: int, rng: np.random.Generator) -> list[DrawnNodule]:
    """Nodules that lie apart, each within the lung; one that finds no place is left out."""
    placed: list[tuple[Point, float]] = []
    nodules: list[DrawnNodule] = []
    for _ in range(count):
        traits = draw_traits(rng)
        reach = float(half_axes(traits).max())
        centre = _place(chest, reach, placed, rng)
        nodule = None if centre is None else draw_nodule(traits, centre, chest.grid, rng)
        if centre is None or nodule is None:
            continue
        # A nodule at the pleura ends there.
        inside = nodule.inside & (chest.depth_mm[nodule.box] > -1)
        if not inside.any():
            continue
        placed.append((centre, reach))
        nodules.append(DrawnNodule(nodule.box, nodule.share, nodule.attenuation, np.asarray(inside), traits))
    return nodules


def sliced_labels(nodules: list[DrawnNodule], grid: MmGrid, slices: list[int]) -> NDArray[np.uint8]:
    """Labels on the slices of the scan; a nodule between two slices is on the one where it is largest."""
    labels = np.zeros((len(slices), *grid.shape[1:]), np.uint8)
    for number, nodule in enumerate(nodules, start=1):
        zs, rows, columns = nodule.box
        areas = nodule.inside.sum((1, 2))
        for index, fine in enumerate(slices):
            if zs.start <= fine < zs.stop and areas[fine - zs.start]:
                labels[index, rows, columns][nodule.inside[fine - zs.start]] = number
        if not (labels == number).any():
            middle = zs.start + int(areas.argmax())
            nearest = int(np.argmin(np.abs(np.array(slices) - middle)))
            labels[nearest, rows, columns][nodule.inside[middle - zs.start]] = number
    return labels


def _place(
    chest: Chest, reach: float, placed: list[tuple[Point, float]], rng: np.random.Generator
) -> Point | None:
    kind = rng.random()
    large = [one for one in chest.vessels if 0.8 <= one.radius <= 3.0]
    for _ in range(TRIES):
        if kind >= ON_PLEURA and kind < ON_PLEURA + ON_VESSEL and large:
            piece = large[int(rng.integers(len(large)))]
            away = rng.normal(size=3)
            centre = piece.end + away / np.linalg.norm(away) * (piece.radius + 0.7 * reach)
        else:
            centre = chest.grid.point_of([int(rng.integers(size)) for size in chest.grid.shape])
        half = chest.grid.extent / 2 - reach - 2
        if (np.abs(centre) > half).any():
            continue
        depth = float(chest.depth_mm[chest.grid.voxel_of(centre)])
        fits = 0.3 * reach <= depth <= 0.9 * reach if kind < ON_PLEURA else depth > 1.1 * reach
        if fits and all(
            float(np.linalg.norm(centre - other)) > reach + size + APART_MM for other, size in placed
        ):
            return np.asarray(centre)
    return None
