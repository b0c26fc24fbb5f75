"""PURE: vessels and airways: trees of straight pieces that split, and their share of each voxel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.simulation.fields import Field, MmGrid, Point

BRANCH_SHARE = 0.5 ** (1 / 3)  # Murray's law: flow goes with the cube of the radius
SPLIT_RADIANS = (0.35, 0.85)  # between a branch and its mother
LENGTH_RADII = (3.0, 7.0)  # of a piece
SIDE_SHARE = (0.4, 0.8)  # of a side branch, where a vessel does not split evenly
PIECES_MAX = 600  # of a tree


@dataclass(frozen=True, eq=False)
class Piece:
    """A straight part of a tube."""

    start: Point
    end: Point
    radius: float  # mm


def tree(
    root: Point, direction: Point, radius: float, smallest: float, half: Point, rng: np.random.Generator
) -> list[Piece]:
    """The pieces of a tree, the mother first, down to the smallest radius; `half` an extent it stays in."""
    pieces: list[Piece] = []
    waiting = [(root, direction / np.linalg.norm(direction), radius)]
    while waiting and len(pieces) < PIECES_MAX:
        start, along, size = waiting.pop(0)
        bend = rng.normal(0, 0.12, 3)
        along = along + bend
        along = along / np.linalg.norm(along)
        end = start + along * size * rng.uniform(*LENGTH_RADII)
        pieces.append(Piece(start, end, size))
        if (np.abs(end) > half).any():
            continue
        if rng.random() < 0.55:
            branches = [size * BRANCH_SHARE * rng.uniform(0.9, 1.05) for _ in range(2)]
        else:
            branches = [size * 0.95, size * rng.uniform(*SIDE_SHARE)]
        across = _across(along, rng)
        for sign, branch in zip((1, -1), branches, strict=True):
            if branch >= smallest:
                angle = rng.uniform(*SPLIT_RADIANS) * (size - 0.5 * branch) / size
                waiting.append((end, np.cos(angle) * along + sign * np.sin(angle) * across, branch))
    return pieces


def add_tubes(occupied: Field, grid: MmGrid, pieces: Iterable[Piece]) -> None:
    """Put the share of each voxel that lies in a tube into `occupied`, where it is more than there was.

    A tube thinner than a voxel fills the share of its section.
    """
    voxel = float(np.min(grid.spacing))
    for piece in pieces:
        margin = piece.radius + voxel
        low, high = np.minimum(piece.start, piece.end) - margin, np.maximum(piece.start, piece.end) + margin
        box = grid.box_around(low, high)
        if box is None:
            continue
        inside = piece.radius - distance_to(piece, grid, box)
        share = np.clip(inside / voxel + 0.5, 0, 1)
        if 2 * piece.radius < voxel:
            share = share * (2 * piece.radius / voxel) ** 2
        part = occupied[box]
        np.maximum(part, share, out=part)


def distance_to(piece: Piece, grid: MmGrid, box: tuple[slice, slice, slice]) -> Field:
    """Distance of voxel centres in a box to the middle line of a piece, mm."""
    z, y, x = grid.lines(box)
    along = piece.end - piece.start
    length = max(float(np.linalg.norm(along)), 1e-6)
    unit = (along / length).astype(np.float32)
    dz, dy, dx = (line - np.float32(at) for line, at in zip((z, y, x), piece.start, strict=True))
    t = np.clip(dz * unit[0] + dy * unit[1] + dx * unit[2], 0, length)
    away = (dz - t * unit[0]) ** 2 + (dy - t * unit[1]) ** 2 + (dx - t * unit[2]) ** 2
    return np.asarray(np.sqrt(away), dtype=np.float32)


def _across(along: Point, rng: np.random.Generator) -> Point:
    """A random direction at a right angle."""
    other = rng.normal(size=3)
    across = other - along * float(other @ along)
    return np.asarray(across / np.linalg.norm(across))
