"""PURE: a nodule of given traits as a share of each voxel and an attenuation; true to LIDC's descriptions.

An ellipsoid with waves on it (lobulation), thin spikes (spiculation) and a soft edge (margin); ground glass
shines through, part solid has a solid core, calcified is bright. The truth is the ellipsoid with its waves,
not the spikes, as readers outline it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.simulation.fields import Box, Field, MmGrid, Point
from models.simulation.lidc import NoduleTraits
from models.simulation.tubes import Piece, add_tubes

SOLID_HU, GLASS_HU, CALCIUM_HU = (-20.0, 60.0), (-680.0, -480.0), (250.0, 800.0)
SOLID_TEXTURE, GLASS_TEXTURE = 5, 2  # ratings: solid from the one, ground glass up to the other
CORE_SHARE = (0.35, 0.65)  # of the diameter, of a part-solid nodule
EDGE_MM = 0.35  # softness of the edge for each step of margin below sharp
WAVE_SHARE = 0.05  # of the radius, for each step of lobulation
SPIKED = 3  # ratings of spiculation from which spikes are drawn


@dataclass(frozen=True, eq=False)
class DrawnNodule:
    """A nodule on a grid.

    Parameters
    ----------
    box : of the grid
    share : of each voxel of the box that is nodule, 0 to 1
    attenuation : HU of the nodule there
    inside : what a reader would outline
    """

    box: Box
    share: Field
    attenuation: Field
    inside: NDArray[np.bool_]
    traits: NoduleTraits


def draw_nodule(
    traits: NoduleTraits, centre: Point, grid: MmGrid, rng: np.random.Generator
) -> DrawnNodule | None:
    """The nodule with random turns, waves and spikes; None where no voxel of the grid is in it."""
    half = half_axes(traits)
    reach = 2.2 * float(half.max()) + 3
    box = grid.box_around(centre - reach, centre + reach)
    if box is None:
        return None
    z, y, x = (line - np.float32(at) for line, at in zip(grid.lines(box), centre, strict=True))
    turn = _turn(rng).astype(np.float32)
    # How far out a voxel lies, in radii of the ellipsoid along its own direction.
    parts = [turn[i, 0] * z + turn[i, 1] * y + turn[i, 2] * x for i in range(3)]
    out = np.sqrt(sum((part / np.float32(h)) ** 2 for part, h in zip(parts, half, strict=True)))
    mean = float(np.cbrt(half.prod()))
    out = out / (1 + _waves(parts, traits, rng))
    depth = (1 - out) * mean  # mm below the surface, about
    soft = float(np.min(grid.spacing)) + EDGE_MM * 2 * (5 - traits.margin)
    share = np.clip(depth / soft + 0.5, 0, 1).astype(np.float32)
    attenuation = _attenuation(traits, out, rng)
    if traits.spiculation >= SPIKED:
        _add_spikes(share, traits, centre, mean, grid, box, rng)
    inside = depth > 0
    if not inside.any():
        inside = share >= max(float(share.max()), 1e-3)
    return DrawnNodule(box, share, attenuation, np.asarray(inside), traits)


def half_axes(traits: NoduleTraits) -> Point:
    """(3,) half axes in mm along height, short and long axis, with the ball's volume."""
    ratios = np.array([traits.height_ratio, traits.axis_ratio, 1.0])
    return np.asarray(ratios * (traits.diameter_mm / 2) / np.cbrt(ratios.prod()))


def put_in(
    image: Field, nodule: DrawnNodule, *, keep_noise_mm: float = 0.0, spacing: Point | None = None
) -> None:
    """Mix a nodule into an image, in place.

    Parameters
    ----------
    keep_noise_mm : of a real image, whose grain stays: only what is smoother than this is replaced
    """
    part = image[nodule.box]
    there = part
    if keep_noise_mm and spacing is not None:
        there = ndimage.gaussian_filter(part, [keep_noise_mm / step for step in spacing])
    part += nodule.share * (np.maximum(nodule.attenuation, there) - there)


def _attenuation(traits: NoduleTraits, out: Field, rng: np.random.Generator) -> Field:
    solid = rng.uniform(*(CALCIUM_HU if traits.is_calcified else SOLID_HU))
    if traits.texture >= SOLID_TEXTURE or traits.is_calcified:
        return np.full(out.shape, solid, np.float32)
    # The subtler, the nearer to lung.
    glass = rng.uniform(*GLASS_HU) - 25 * (3 - traits.subtlety)
    grain = ndimage.gaussian_filter(rng.normal(0, 60, out.shape), 1.0)
    field = np.full(out.shape, glass, np.float32) + grain.astype(np.float32)
    if traits.texture > GLASS_TEXTURE:
        core = rng.uniform(*CORE_SHARE) + 0.15 * (traits.texture - 3)
        field = np.where(out < core, np.float32(solid), field)
    return field.astype(np.float32)


def _waves(parts: list[Field], traits: NoduleTraits, rng: np.random.Generator) -> Field:
    """Bumps over directions, as shares of the radius."""
    length = np.sqrt(sum(part**2 for part in parts)) + np.float32(1e-6)
    total = np.zeros(length.shape, np.float32)
    for _ in range(5):
        towards = rng.normal(size=3)
        towards = (towards / np.linalg.norm(towards)).astype(np.float32)
        cosine = sum(part * one for part, one in zip(parts, towards, strict=True)) / length
        total += np.float32(rng.choice([-1, 1])) * np.exp((cosine - 1) / np.float32(0.15))
    height = WAVE_SHARE * (traits.lobulation + (5 - traits.sphericity) / 2)
    return np.asarray(np.clip(total * height, -0.5, 0.5), dtype=np.float32)


def _add_spikes(
    share: Field,
    traits: NoduleTraits,
    centre: Point,
    radius: float,
    grid: MmGrid,
    box: Box,
    rng: np.random.Generator,
) -> None:
    whole = MmGrid(
        (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start), grid.spacing
    )
    # The box as a grid of its own: its middle is not that of the grid.
    corner = (
        grid.point_of([part.start for part in box]) + grid.point_of([part.stop - 1 for part in box])
    ) / 2
    for _ in range(int(rng.integers(3, 5 + 3 * (traits.spiculation - 2)))):
        towards = rng.normal(size=3)
        towards = towards / np.linalg.norm(towards)
        start = centre - corner
        end = start + towards * radius * rng.uniform(1.4, 2.0)
        add_tubes(share, whole, [Piece(start, end, float(rng.uniform(0.3, 0.6)))])


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3) a random rotation, mostly in plane: heights were measured along the patient."""
    angle, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.3)
    plane = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    lean = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    return np.asarray(plane @ lean)
