"""The tissues of a synthetic head as soft maps on a slice grid, without any contrast.

Coordinates are those of a patient lying on the back, in mm: x to the left, y to the back, z to the top
(LPS); the origin lies between the ears, about where the anterior commissure is.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.fields import BoolArray, FloatArray, ellipsoid, smooth_noise, tube

VERTEX_MM = 92.0
"""Height of the scalp's top above the origin."""

Point = tuple[FloatArray, FloatArray, FloatArray]


class Tissue(IntEnum):
    """What a voxel consists of, by its largest part."""

    AIR = 0
    FAT = 1
    SKIN = 2
    BONE = 3
    MARROW = 4
    FLUID = 5
    WHITE = 6
    GREY = 7
    DEEP_GREY = 8
    MUSCLE = 9
    EYE = 10
    RIM = 11


@dataclass(frozen=True)
class HeadShape:
    """How one head differs from another: half axes in mm, tilts in radians, sulci and ventricles as factors."""

    half_width_mm: float
    half_length_mm: float
    egg: float
    scalp_mm: float
    skull_mm: float
    ventricle_scale: float
    sulcus_width: float
    rotation_rad: float
    pitch_rad: float
    shift_mm: tuple[float, float]


@dataclass(frozen=True)
class HeadTissues:
    """Tissue of each voxel, and the depth below the surface of the brain in mm (negative outside)."""

    tissue: NDArray[np.uint8]
    brain_depth_mm: FloatArray
    cerebrum: BoolArray
    point_mm: Point


def head_tissues(
    rng: np.random.Generator,
    point: Point,
    shape: HeadShape,
    *,
    sample_mm: tuple[float, float, float],
) -> HeadTissues:
    """Fill the grid `point` (x, y, z in mm, each (slices, rows, columns)) with the tissues of one head."""
    grid = point[0].shape
    x, y, z = _posed(point, shape)
    warp_wavelength = [30.0 / s for s in sample_mm]
    x = x + 1.5 * smooth_noise(rng, grid, warp_wavelength)
    y = y + 1.5 * smooth_noise(rng, grid, warp_wavelength)
    lower = np.clip(-z, 0.0, None)
    depth = _outer_depth(rng, (x, y, z), shape, sample_mm)
    tissue = np.zeros(grid, dtype=np.uint8)
    inside = depth > 0
    tissue[inside] = Tissue.FAT
    tissue[inside & (depth < 1.2)] = Tissue.SKIN

    scalp = shape.scalp_mm * (1.0 + 0.25 * smooth_noise(rng, grid, [35.0 / s for s in sample_mm]))
    skull = shape.skull_mm * (1.0 + 0.2 * smooth_noise(rng, grid, [25.0 / s for s in sample_mm]))
    temporal = (np.abs(x) > 45) & (y < 15) & (y > -55) & (z < 18)
    scalp = scalp + np.where(temporal, np.clip((18 - z) * 0.25, 0, 8), 0)
    bone_depth = depth - scalp
    tissue[temporal & (depth > 0.5 * scalp) & inside] = Tissue.MUSCLE
    tissue[inside & (bone_depth > 0)] = Tissue.BONE
    marrow = (bone_depth > 0.38 * skull) & (bone_depth < 0.68 * skull) & (skull > 0.95 * shape.skull_mm)
    tissue[inside & marrow & (z > 0)] = Tissue.MARROW
    brain_depth = bone_depth - skull
    tissue[inside & (brain_depth > 0)] = Tissue.FLUID
    brain_depth = brain_depth - 0.9

    face = _face_side((x, y, z), shape)
    brain_depth = np.minimum(brain_depth, -face)
    cerebrum, cerebellum, stem = _brain_parts((x, y, z), brain_depth, lower)
    _paint_face(rng, tissue, (x, y, z), depth, face, sample_mm)
    _paint_cerebrum(rng, tissue, (x, y, z), brain_depth, cerebrum, shape, sample_mm)
    _paint_cerebellum(rng, tissue, (x, y, z), cerebellum, stem, sample_mm)
    return HeadTissues(tissue, np.asarray(brain_depth, dtype=np.float32), cerebrum, (x, y, z))


def _posed(point: Point, shape: HeadShape) -> Point:
    """The point in the head's own axes: nobody lies perfectly straight."""
    x, y, z = point
    x, y = x - shape.shift_mm[0], y - shape.shift_mm[1]
    cos, sin = np.cos(shape.rotation_rad), np.sin(shape.rotation_rad)
    x, y = cos * x + sin * y, -sin * x + cos * y
    cos, sin = np.cos(shape.pitch_rad), np.sin(shape.pitch_rad)
    return x, cos * y + sin * z, cos * z - sin * y


def _outer_depth(
    rng: np.random.Generator, point: Point, shape: HeadShape, sample_mm: tuple[float, float, float]
) -> FloatArray:
    """Depth below the skin, mm, close to exact near the surface."""
    x, y, z = point
    dome = np.clip(z, 0.0, None) / VERTEX_MM
    narrowing = 1.0 - 0.0022 * np.clip(-z, 0.0, None)
    width = shape.half_width_mm * narrowing * (1.0 + shape.egg * y / shape.half_length_mm)
    # The face is longer than the skull above it, and the nose stands out of it.
    nose = 26.0 * np.exp(-((x / 9.0) ** 2)) * np.clip((-z - 22.0) / 22.0, 0.0, 1.0)
    length = shape.half_length_mm * narrowing + np.where(y < 0, nose, 0.0)
    lumpy = 1.0 + 0.012 * smooth_noise(rng, x.shape, [60.0 / s for s in sample_mm])
    radius = np.sqrt((x / width) ** 2 + (y / length) ** 2 + dome**2.4) * lumpy
    slope = np.sqrt((x / width**2) ** 2 + (y / length**2) ** 2 + (1.2 * dome**1.4 / VERTEX_MM) ** 2)
    depth = (1.0 - radius) * np.clip(radius, 0.05, None) / np.clip(slope, 1e-4, None)
    # Ears: thin shells at the side, seen in the lowest slices only.
    ear = ellipsoid((np.abs(x), y, z), (shape.half_width_mm * 0.99, 12.0, -28.0), (7.0, 14.0, 22.0))
    return np.asarray(np.maximum(depth, np.clip((1.0 - ear) * 4.0, None, 1.1)), dtype=np.float32)


def _face_side(point: Point, shape: HeadShape) -> FloatArray:
    """Positive in front of and below the skull base, mm from it."""
    x, y, z = point
    # The anterior floor lies at z = -12, the middle one lower and further back, the posterior one lowest.
    front = (-y - (30.0 + 1.0 * (z + 22.0))) * 0.7
    middle = (-y - 4.0 - 0.8 * (z + 62.0)) * 0.8
    floor = np.where(np.abs(x) < 16.0, np.maximum(front, (-y - 2.0 - 0.9 * (z + 34.0)) * 0.7), front)
    return np.asarray(np.where(z < -8.0, np.maximum(floor, middle), -60.0), dtype=np.float32)


def _brain_parts(
    point: Point, brain_depth: FloatArray, lower: FloatArray
) -> tuple[BoolArray, FloatArray, FloatArray]:
    x, y, z = point
    tentorium = z + 12.0 + 0.35 * (y - 30.0) * 0.6 - 0.12 * np.abs(x)
    posterior = (y > 2.0) & (tentorium < 0)
    petrous = 1.0 * np.abs(x) - 1.15 * y + 6.0  # In front of the petrous ridge lies the temporal lobe.
    fossa = np.minimum(brain_depth, -tentorium)
    fossa = np.minimum(fossa, -petrous * 0.65)
    fossa = np.minimum(fossa, brain_depth - 1.5 - 0.12 * lower)
    tonsils = (1.0 - ellipsoid(point, (0.0, 36.0, -32.0), (52.0, 32.0, 34.0))) * 30.0
    cerebellum = np.minimum(fossa, tonsils)
    stem_radius = np.clip(15.0 + 0.12 * (z + 20.0), 7.0, 17.0)
    stem_y = 8.0 + 0.12 * lower
    stem = np.where(z < -4.0, stem_radius - np.hypot(x, 1.1 * (y - stem_y)), -20.0)
    temporal = np.minimum(np.minimum(petrous * 0.65 - 5.0, np.abs(x) - 19.0), 46.0 + z)
    below = z < -8.0
    lobes = np.where(below & ~posterior, temporal, np.where(posterior, -1.0, 1.0))
    frontal_floor = below & (y < -12.0) & (np.abs(x) < 40.0) & (z > -22.0) & (brain_depth > 0)
    cerebrum = (brain_depth > 0) & ((lobes > 0) | frontal_floor) & (tentorium > -500.0)
    return cerebrum & ~posterior, np.asarray(cerebellum, np.float32), np.asarray(stem, np.float32)


def _folds(rng: np.random.Generator, point: Point, depth: FloatArray, wavelength_mm: float) -> FloatArray:
    """Noise whose zero set runs inwards from the surface in thin curves, as sulci do."""
    x, y, z = point
    # Drawing the point towards the surface makes the sheets radial; what is left lets them curve.
    stretch = 1.0 + 0.55 * np.clip(depth, 0.0, 30.0) / np.clip(np.sqrt(x**2 + y**2 + z**2), 15.0, None)
    cube = 96
    noise = ndimage.gaussian_filter(
        rng.standard_normal((cube, cube, cube)).astype(np.float32), 1.0, mode="wrap"
    )
    noise /= noise.std()
    cells_per_mm = 4.2 / wavelength_mm
    grid = [np.asarray((c * stretch) * cells_per_mm + cube / 2) for c in (z * 0.8, y, x)]
    return np.asarray(ndimage.map_coordinates(noise, grid, order=1, mode="grid-wrap"), dtype=np.float32)


def _paint_cerebrum(
    rng: np.random.Generator,
    tissue: NDArray[np.uint8],
    point: Point,
    depth: FloatArray,
    cerebrum: BoolArray,
    shape: HeadShape,
    sample_mm: tuple[float, float, float],
) -> None:
    x, y, z = point
    grid = tissue.shape
    tissue[cerebrum] = Tissue.WHITE
    sheet = np.abs(_folds(rng, point, depth, wavelength_mm=15.0))
    reach = 15.0 + 5.0 * smooth_noise(rng, grid, [25.0 / s for s in sample_mm])
    fade = np.clip(1.0 - depth / np.clip(reach, 6.0, 24.0), 0.0, 1.0)
    grey = (sheet < 0.42 * fade + 0.08 * (fade > 0.1)) | (depth < 2.6)
    tissue[cerebrum & grey & (fade > 0.05)] = Tissue.GREY
    fluid = sheet < shape.sulcus_width * 0.16 * fade * (
        0.8 + 0.4 * smooth_noise(rng, grid, [18.0 / s for s in sample_mm])
    )
    tissue[cerebrum & fluid] = Tissue.FLUID

    wiggle = 1.4 * smooth_noise(rng, grid, [22.0 / s for s in sample_mm])
    midline = np.abs(x + wiggle)
    callosum = ellipsoid((x, y, z), (0.0, 4.0, 10.0), (40.0, 44.0, 24.0)) < 1.0
    parted = cerebrum & ~callosum & (z > -24.0)
    tissue[parted & (midline < 3.6)] = Tissue.GREY
    tissue[parted & (midline < 0.75 * shape.sulcus_width + 0.35)] = Tissue.FLUID

    insula = ellipsoid((np.abs(x), y, z), (22.0, -4.0, 2.0), (17.0, 24.0, 21.0))
    lateral = (np.abs(x) > 30.0) & cerebrum
    tissue[lateral & (np.abs(insula - 1.0) < 0.16)] = Tissue.GREY
    tissue[lateral & (np.abs(insula - 1.0) < 0.055 * shape.sulcus_width)] = Tissue.FLUID
    operculum = np.abs(y + 8.0 - 0.7 * (z - 4.0) + 2.0 * wiggle)
    gap = lateral & (np.abs(z - 2.0) < 16.0) & (insula > 1.0)
    tissue[gap & (operculum < 4.0)] = Tissue.GREY
    tissue[gap & (operculum < 1.2 * shape.sulcus_width)] = Tissue.FLUID
    _paint_deep(tissue, point, cerebrum, shape)


def _paint_deep(tissue: NDArray[np.uint8], point: Point, cerebrum: BoolArray, shape: HeadShape) -> None:
    """Basal ganglia, ventricles with their bright rim, and the cisterns around the brain stem."""
    x, y, z = point
    side = np.abs(x), y, z
    for centre, radii in (
        ((10.0, 12.0, 8.0), (9.0, 15.0, 10.0)),  # thalamus
        ((25.0, -4.0, 6.0), (6.0, 16.0, 11.0)),  # putamen
        ((13.0, -20.0, 13.0), (5.0, 8.0, 9.0)),  # head of the caudate
    ):
        tissue[cerebrum & (ellipsoid(side, centre, radii) < 1.0)] = Tissue.DEEP_GREY
    scale = shape.ventricle_scale
    body = tube(
        side,
        [(11, -36, 10), (6, -18, 20), (8, 4, 27), (15, 26, 22), (21, 40, 12), (20, 54, 8)],
        [2.0 * scale, 4.2 * scale, 4.6 * scale, 5.6 * scale, 4.2 * scale, 1.0 * scale],
    )
    horn = tube(
        side, [(17, 28, 18), (28, 24, 0), (30, 8, -14), (29, -4, -17)], [4.4 * scale, 3.0 * scale, 2.4, 1.5]
    )
    third = tube((x * 1.6, y, z), [(0, -10, 0), (0, 10, 6)], [3.4 * scale, 3.0 * scale])
    lateral = np.maximum(body, horn)
    tissue[cerebrum & (lateral > -1.5)] = Tissue.RIM
    tissue[cerebrum & (np.maximum(lateral, third) > 0)] = Tissue.FLUID
    basal = (np.abs(z + 20.0) < 9.0) & (np.hypot(x / 1.2, y + 12.0) < 13.0)
    tissue[basal & cerebrum] = Tissue.FLUID


def _paint_cerebellum(
    rng: np.random.Generator,
    tissue: NDArray[np.uint8],
    point: Point,
    cerebellum: FloatArray,
    stem: FloatArray,
    sample_mm: tuple[float, float, float],
) -> None:
    x, y, z = point
    cistern = (np.maximum(cerebellum, stem) > -3.0) & (tissue != Tissue.BONE) & (tissue != Tissue.WHITE)
    tissue[cistern & (tissue != Tissue.GREY) & (tissue != Tissue.FAT)] = Tissue.FLUID
    inside = cerebellum > 0
    tissue[inside] = Tissue.GREY
    folia = np.sin(
        1.25 * (np.hypot(x * 0.75, y - 12.0))
        + 2.0 * smooth_noise(rng, tissue.shape, [14.0 / s for s in sample_mm])
    )
    tissue[inside & (folia > 0.72) & (cerebellum < 16.0)] = Tissue.WHITE
    core = (ellipsoid((np.abs(x), y, z), (17.0, 32.0, -30.0), (15.0, 13.0, 12.0)) < 1.0) & inside
    tissue[core] = Tissue.WHITE
    tissue[inside & (folia < -0.93) & (cerebellum < 9.0)] = Tissue.FLUID
    tissue[stem > 0] = Tissue.WHITE
    fourth = ellipsoid((x, y, z), (0.0, 25.0, -28.0), (7.0, 5.0, 14.0)) < 1.0
    tissue[fourth & ((stem > -8.0) | inside)] = Tissue.FLUID


def _paint_face(
    rng: np.random.Generator,
    tissue: NDArray[np.uint8],
    point: Point,
    depth: FloatArray,
    face: FloatArray,
    sample_mm: tuple[float, float, float],
) -> None:
    """Orbits, nose and its sinuses, mastoids, muscles: what a brain model must learn to leave alone."""
    x, y, z = point
    grid = tissue.shape
    fine = smooth_noise(rng, grid, [9.0 / s for s in sample_mm])
    coarse = smooth_noise(rng, grid, [24.0 / s for s in sample_mm])
    here = (face > 0) & (depth > 4.0)
    tissue[here] = Tissue.BONE
    tissue[here & (coarse > 0.1)] = Tissue.MUSCLE
    tissue[here & (fine > 0.9)] = Tissue.FAT
    tissue[here & (face < 3.0)] = Tissue.BONE
    cheek = here & (depth < 17.0) & (coarse + 0.4 * fine > -0.6)
    tissue[cheek] = Tissue.FAT
    tissue[cheek & (coarse > 0.9)] = Tissue.MUSCLE
    orbit_side = (np.abs(x), y, z)
    cone = ellipsoid(orbit_side, (31.0, -58.0, -28.0), (19.0, 30.0, 17.0)) < 1.0
    tissue[cone & (depth > 3.0)] = Tissue.FAT
    nerve = tube(orbit_side, [(30, -66, -28), (14, -30, -24)], [2.0, 2.0]) > 0
    muscles = cone & (np.abs(ellipsoid(orbit_side, (30.0, -56.0, -28.0), (15.0, 26.0, 14.0)) - 0.9) < 0.1)
    tissue[(nerve | muscles) & cone & (depth > 3.0)] = Tissue.MUSCLE
    globe = ellipsoid(orbit_side, (32.0, -71.0, -28.0), (12.0, 12.0, 12.0))
    tissue[(globe < 1.12) & (depth > 1.0)] = Tissue.MUSCLE
    tissue[(globe < 1.0) & (depth > 1.0)] = Tissue.EYE
    nasal = (np.abs(x) < 14.0) & (y < -28.0) & (z < -22.0) & (depth > 5.0)
    tissue[nasal] = Tissue.AIR
    walls = np.abs(np.abs(x) - 6.5 + 1.5 * fine) < 1.4
    tissue[nasal & (walls | (np.abs(x) < 1.0))] = Tissue.SKIN
    mastoid = ellipsoid(orbit_side, (52.0, 18.0, -32.0), (20.0, 17.0, 17.0)) < 1.0
    tissue[mastoid & (depth > 6.0)] = Tissue.BONE
    tissue[mastoid & (depth > 6.0) & (fine > 1.3)] = Tissue.MARROW
    neck = (z < -48.0) & (y > 5.0) & (depth > 7.0)
    tissue[neck] = Tissue.MUSCLE
    tissue[neck & (np.abs(coarse) < 0.22)] = Tissue.FAT
