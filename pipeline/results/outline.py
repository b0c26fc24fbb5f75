"""Outlines of masks and their diameters: PURE plane geometry on pixels.

An outline runs through the middles of the pixel edges that separate inside from outside (marching squares at
one half): neither inside border pixels nor around their corners, so diameters have no bias of a pixel, and
the area it encloses is the number of pixels less one half. Points are (row, column), the centre of a pixel at
its index. Pixels that touch at a corner belong together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Point = tuple[float, float]

# Edge middles of the 2 x 2 cell whose upper left pixel centre is (0, 0), doubled so that they are integers.
_TOP, _RIGHT, _BOTTOM, _LEFT = (0, 1), (1, 2), (2, 1), (1, 0)
_STEPS: tuple[tuple[int, tuple[int, int], tuple[int, int]], ...] = (
    # Pixels inside (bits: upper left, upper right, lower right, lower left), from, to; inside on the left.
    (0b1000, _LEFT, _TOP),
    (0b0100, _TOP, _RIGHT),
    (0b0010, _RIGHT, _BOTTOM),
    (0b0001, _BOTTOM, _LEFT),
    (0b1100, _LEFT, _RIGHT),
    (0b0110, _TOP, _BOTTOM),
    (0b0011, _RIGHT, _LEFT),
    (0b1001, _BOTTOM, _TOP),
    (0b1110, _LEFT, _BOTTOM),
    (0b1101, _BOTTOM, _RIGHT),
    (0b1011, _RIGHT, _TOP),
    (0b0111, _TOP, _LEFT),
    (0b1010, _RIGHT, _TOP),
    (0b1010, _LEFT, _BOTTOM),
    (0b0101, _TOP, _LEFT),
    (0b0101, _BOTTOM, _RIGHT),
)


@dataclass(frozen=True)
class Diameters:
    """The longest diameter of an outline and the longest chord across it at a right angle.

    Lengths are in the unit of the spacing given; ends are (row, column) in pixels.
    """

    long: float
    short: float
    long_ends: tuple[Point, Point]
    short_ends: tuple[Point, Point]


def outlines(mask: Mask) -> list[Points]:
    """Closed outlines of `mask`, outer ones first by area, then holes.

    Parameters
    ----------
    mask : (rows, columns)

    Returns
    -------
    list of (n, 2) arrays of (row, column); the last point is not repeated
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    cells = padded[:-1, :-1] * 8 + padded[:-1, 1:] * 4 + padded[1:, 1:] * 2 + padded[1:, :-1]
    following: dict[tuple[int, int], tuple[int, int]] = {}
    for inside, start, end in _STEPS:
        for row, column in np.argwhere(cells == inside).tolist():
            row2, column2 = 2 * row, 2 * column
            following[row2 + start[0], column2 + start[1]] = (row2 + end[0], column2 + end[1])
    loops = []
    while following:
        first, point = following.popitem()
        loop = [first]
        while point != first:
            loop.append(point)
            point = following.pop(point)
        # Halved, and one pixel of padding taken off.
        loops.append(np.array(loop, dtype=np.float64) / 2.0 - 1.0)
    return sorted(loops, key=signed_area, reverse=True)


def signed_area(outline: Points) -> float:
    """Area enclosed, in pixels; negative for the outline of a hole."""
    rows, columns = outline[:, 0], outline[:, 1]
    return float(np.dot(rows, np.roll(columns, -1)) - np.dot(np.roll(rows, -1), columns)) / 2.0


def diameters(outline: Points, spacing: tuple[float, float]) -> Diameters:
    """The longest diameter of a closed outline, and the longest chord perpendicular to it.

    Parameters
    ----------
    outline : (n, 2), (row, column), not collinear
    spacing : distance between rows, between columns
    """
    scaled = outline * np.asarray(spacing)
    hull = ConvexHull(scaled).vertices
    hull.sort()
    apart = np.linalg.norm(scaled[hull][:, None, :] - scaled[hull][None, :, :], axis=2)
    first, second = np.unravel_index(int(np.argmax(apart)), apart.shape)
    one, other = int(hull[first]), int(hull[second])
    long = float(apart[first, second])
    along = (scaled[other] - scaled[one]) / long
    across = np.array([-along[1], along[0]])
    short, low, high = _widest_chord(scaled @ along, scaled @ across)
    ends = (np.outer([low[0], high[0]], along) + np.outer([low[1], high[1]], across)) / np.asarray(spacing)
    return Diameters(
        long=long,
        short=short,
        long_ends=(_point(outline[one]), _point(outline[other])),
        short_ends=(_point(ends[0]), _point(ends[1])),
    )


def _widest_chord(x: Points, y: Points) -> tuple[float, Point, Point]:
    """The longest line of constant x between two places of the closed polygon (x, y)."""
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    # The width is piecewise linear in x with its corners at the vertices, so looking there is enough.
    at = np.unique(x)[:, None]
    crosses = (np.minimum(x, x_next) <= at) & (at <= np.maximum(x, x_next))
    run = np.where(x_next == x, 1.0, x_next - x)
    there = y + (y_next - y) * np.clip((at - x) / run, 0.0, 1.0)
    low = np.where(crosses, there, np.inf).min(axis=1)
    high = np.where(crosses, there, -np.inf).max(axis=1)
    best = int(np.argmax(high - low))
    place = float(at[best, 0])
    return float(high[best] - low[best]), (place, float(low[best])), (place, float(high[best]))


def _point(pair: Points) -> Point:
    return float(pair[0]), float(pair[1])
