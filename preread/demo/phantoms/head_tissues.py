"""The tissues of a synthetic head on a slice grid, without any contrast.

Coordinates are those of a patient lying on the back, in mm: x to the left, y to the back, z to the top
(LPS); the origin lies between the ears, about where the anterior commissure is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preread.demo.phantoms.fields import BoolArray, FloatArray, ellipsoid, smooth_noise, soft_step
from preread.demo.phantoms.head_brain import paint_cerebellum, paint_cerebrum
from preread.demo.phantoms.head_face import paint_face
from preread.demo.phantoms.tissue import HeadShape, Point, Tissue

VERTEX_MM = 92.0
"""Height of the scalp's top above the origin."""


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

    def noise(wavelength_mm: float) -> FloatArray:
        return smooth_noise(rng, point[0].shape, [wavelength_mm / s for s in sample_mm])

    x, y, z = _posed(point, shape)
    x, y = x + 1.5 * noise(45.0), y + 1.5 * noise(45.0)
    point = (x, y, z)
    depth = _outer_depth(point, shape, noise(90.0))
    inside = depth > 0
    tissue = np.zeros(x.shape, dtype=np.uint8)
    tissue[inside] = Tissue.FAT
    tissue[inside & (depth < 1.2)] = Tissue.SKIN

    scalp = shape.scalp_mm * (1.0 + 0.2 * noise(40.0)) + 1.5 * soft_step(y - 60.0, 15.0)
    skull = shape.skull_mm * (1.0 + 0.2 * noise(25.0))
    temporal = (np.abs(x) > 45.0) & (y < 15.0) & (y > -55.0) & (z < 22.0)
    scalp = scalp + np.where(temporal, np.clip((22.0 - z) * 0.28, 0.0, 10.0), 0.0)
    tissue[inside & temporal & (depth > 0.45 * scalp)] = Tissue.MUSCLE
    bone_depth = depth - scalp
    tissue[inside & (bone_depth > 0)] = Tissue.BONE
    marrow = (bone_depth > 0.35 * skull) & (bone_depth < 0.7 * skull) & (skull > 0.9 * shape.skull_mm)
    tissue[inside & marrow & (z > 0)] = Tissue.MARROW

    lateral_depth = bone_depth - skull
    floor = _floor_height(point, noise(16.0))
    cavity = np.minimum(lateral_depth, 0.8 * (z - floor))
    cavity = np.where(z < -18.0, np.minimum(cavity, _posterior_depth(point, floor)), cavity)
    tissue[inside & (cavity > 0)] = Tissue.FLUID
    paint_face(tissue, point, depth, (z < floor) & (lateral_depth > -skull * 0.6), noise)

    brain_depth = np.asarray(cavity - 0.9, dtype=np.float32)
    behind = y > 6.0 + 0.55 * np.abs(x)  # Behind the petrous ridges.
    tent = _tentorium_height(point) + 1.5 * noise(20.0)
    cerebrum = (brain_depth > 0) & (~behind | (z > tent))
    cerebellum = np.where(behind, np.minimum(brain_depth - 0.8, 0.8 * (tent - 0.4 - z)), -10.0)
    paint_cerebrum(rng, tissue, point, brain_depth, cerebrum, shape, noise)
    paint_cerebellum(tissue, point, np.asarray(cerebellum, dtype=np.float32), cavity, noise)
    return HeadTissues(tissue, brain_depth, np.asarray(cerebrum, dtype=np.bool_), point)


def _posed(point: Point, shape: HeadShape) -> Point:
    """The point in the head's own axes: nobody lies perfectly straight."""
    x, y, z = point
    x, y = x - shape.shift_mm[0], y - shape.shift_mm[1]
    cos, sin = np.cos(shape.rotation_rad), np.sin(shape.rotation_rad)
    x, y = cos * x + sin * y, -sin * x + cos * y
    cos, sin = np.cos(shape.pitch_rad), np.sin(shape.pitch_rad)
    return x, cos * y + sin * z, cos * z - sin * y


def _outer_depth(point: Point, shape: HeadShape, lumps: FloatArray) -> FloatArray:
    """Depth below the skin, mm, close to exact near the surface."""
    x, y, z = point
    dome = np.clip(z, 0.0, None) / VERTEX_MM
    below = np.clip(-z, 0.0, None)
    narrowing = 1.0 - 0.0022 * below
    width = shape.half_width_mm * narrowing * (1.0 + shape.egg * y / shape.half_length_mm)
    # The nose stands out of the face; cheeks are flat, so the face is narrower than an ellipse is long.
    nose = 24.0 * np.exp(-((x / 11.0) ** 2)) * np.clip((below - 20.0) / 25.0, 0.0, 1.0)
    length = shape.half_length_mm * narrowing + np.where(y < 0, nose, -0.12 * below)
    radius = np.sqrt((x / width) ** 2 + (y / length) ** 2 + dome**2.4) * (1.0 + 0.008 * lumps)
    slope = np.sqrt((x / width**2) ** 2 + (y / length**2) ** 2 + (1.2 * dome**1.4 / VERTEX_MM) ** 2)
    depth = (1.0 - radius) * np.clip(radius, 0.05, None) / np.clip(slope, 1e-4, None)
    # Ears: thin shells at the side, seen in the lowest slices only.
    ear = ellipsoid((np.abs(x), y, z), (0.99 * shape.half_width_mm, 12.0, -30.0), (7.0, 13.0, 20.0))
    return np.asarray(np.maximum(depth, np.clip((1.0 - ear) * 4.0, None, 1.1)), dtype=np.float32)


def _floor_height(point: Point, bumps: FloatArray) -> FloatArray:
    """Height of the skull base: anterior, middle and posterior fossa, with the petrous ridge between."""
    x, y, _ = point
    side = np.abs(x)
    orbit_roof = -17.0 + 7.0 * np.exp(-(((side - 28.0) / 16.0) ** 2))
    middle = -17.0 - 25.0 * soft_step(side - 19.0, 6.0) * soft_step(62.0 - side, 6.0)
    front = soft_step(-y - (34.0 - 0.16 * side), 6.0)
    floor = middle + (orbit_roof - middle) * front
    ridge = y - (2.0 + 0.62 * side)
    floor = floor + (-60.0 - floor) * soft_step(ridge - 4.0, 5.0)
    # The ridge itself rises between middle and posterior fossa, to the side of the stem only.
    rise = np.exp(-((ridge / 7.0) ** 2)) * soft_step(side - 17.0, 4.0)
    floor = floor + (-21.0 - floor) * np.clip(rise, 0.0, 1.0) * (floor < -21.0)
    # The clivus: in front of the stem the floor falls along a slope.
    slope = -20.0 - 1.7 * (y + 10.0)
    floor = np.where((side < 17.0) & (y > -10.0), np.clip(slope, -60.0, floor), floor)
    return np.asarray(floor + 1.5 * bumps, dtype=np.float32)


def _posterior_depth(point: Point, floor: FloatArray) -> FloatArray:
    """Depth below the wall of the posterior fossa, which narrows to the foramen magnum; large elsewhere."""
    x, y, z = point
    radius = ellipsoid(point, (0.0, 32.0, -16.0), (60.0, 52.0, 46.0))
    bowl = (1.0 - radius) * 46.0
    posterior = y > 2.0 + 0.62 * np.abs(x)
    canal = 13.0 - np.hypot(x, y - 16.0)
    bowl = np.maximum(bowl, np.where(z < -40.0, canal, -50.0))
    return np.asarray(np.where(posterior, bowl, 60.0 + 0.0 * floor), dtype=np.float32)


def _tentorium_height(point: Point) -> FloatArray:
    """Height of the tent between cerebrum and cerebellum: high at its notch, low at its rim."""
    x, y, _ = point
    return np.asarray(6.0 - 0.3 * np.clip(y - 18.0, 0.0, None) - 0.22 * np.abs(x), dtype=np.float32)
