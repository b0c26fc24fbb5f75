"""PURE: what is no nodule and looks like one: scars, bands, plugged airways, thick pleura, tiny nodules.

Vessels cut across come with the trees. Calcified granulomas are not here: LIDC's readers outlined them as
nodules. What is smaller than 3 mm is not: they did not outline it.
"""

from __future__ import annotations

import numpy as np

from models.simulation.fields import Field, MmGrid, Point
from models.simulation.tubes import Piece, add_tubes

TINY_MM = (0.7, 1.2)  # radius


def add_mimics(occupied: Field, depth_mm: Field, grid: MmGrid, rng: np.random.Generator) -> None:
    """Put several of each into `occupied`, the share of each lung voxel that is dense."""
    for _ in range(int(rng.integers(2, 6))):
        add_tubes(occupied, grid, _tiny(_point(depth_mm, grid, rng, 3, 60), rng))
    for _ in range(int(rng.integers(1, 4))):
        add_tubes(occupied, grid, _scar(_point(depth_mm, grid, rng, 2, 30), rng))
    for _ in range(int(rng.integers(0, 3))):
        add_tubes(occupied, grid, _plug(_point(depth_mm, grid, rng, 10, 60), rng))
    for _ in range(int(rng.integers(0, 3))):
        _band(occupied, grid, _point(depth_mm, grid, rng, 1, 12), rng)
    for _ in range(int(rng.integers(0, 3))):
        _thick_pleura(occupied, depth_mm, grid, _point(depth_mm, grid, rng, 0, 3), rng)


def _point(depth_mm: Field, grid: MmGrid, rng: np.random.Generator, low: float, high: float) -> Point:
    """A place so deep in the lung; anywhere in the grid where there is none."""
    for _ in range(200):
        voxel = [int(rng.integers(size)) for size in grid.shape]
        if low <= depth_mm[tuple(voxel)] <= high:
            break
    return np.asarray(grid.point_of(voxel))


def _tiny(at: Point, rng: np.random.Generator) -> list[Piece]:
    return [Piece(at, at + 0.01, float(rng.uniform(*TINY_MM)))]


def _scar(at: Point, rng: np.random.Generator) -> list[Piece]:
    """A crooked line, several times longer than thick."""
    pieces, along, radius = [], rng.normal(size=3), rng.uniform(0.8, 1.8)
    for _ in range(int(rng.integers(3, 6))):
        along = along / np.linalg.norm(along) + rng.normal(0, 0.4, 3)
        end = at + along / np.linalg.norm(along) * radius * rng.uniform(3, 5)
        pieces.append(Piece(at, end, float(radius * rng.uniform(0.6, 1.1))))
        at = end
    return pieces


def _plug(at: Point, rng: np.random.Generator) -> list[Piece]:
    """A filled airway: a long, even tube that ends."""
    along = rng.normal(size=3)
    return [Piece(at, at + along / np.linalg.norm(along) * rng.uniform(14, 30), float(rng.uniform(1.3, 2.4)))]


def _band(occupied: Field, grid: MmGrid, at: Point, rng: np.random.Generator) -> None:
    """A flat sheet of a few centimetres, as where lung is not aired."""
    reach = float(rng.uniform(10, 25))
    box = grid.box_around(at - reach, at + reach)
    if box is None:
        return
    z, y, x = (line - np.float32(one) for line, one in zip(grid.lines(box), at, strict=True))
    across = rng.normal(size=3) + np.array([2.0, 0, 0])
    across = across / np.linalg.norm(across)
    away = np.abs(across[0] * z + across[1] * y + across[2] * x)
    far = np.sqrt(z**2 + y**2 + x**2)
    sheet = np.clip(rng.uniform(0.6, 1.5) - away, 0, 1) * np.clip((reach - far) / 3, 0, 1)
    part = occupied[box]
    np.maximum(part, 0.8 * sheet, out=part)


def _thick_pleura(
    occupied: Field, depth_mm: Field, grid: MmGrid, at: Point, rng: np.random.Generator
) -> None:
    """A plaque on the wall, wide and flat."""
    wide, thick = float(rng.uniform(8, 18)), float(rng.uniform(1.5, 3.0))
    box = grid.box_around(at - wide, at + wide)
    if box is None:
        return
    z, y, x = (line - np.float32(one) for line, one in zip(grid.lines(box), at, strict=True))
    far = np.sqrt(z**2 + y**2 + x**2)
    height = thick * np.clip(1 - (far / wide) ** 2, 0, 1)
    part = occupied[box]
    np.maximum(part, np.clip(height - depth_mm[box], 0, 1), out=part)
