"""The words the head phantom is described in: tissues, and what makes one head differ from another."""

from dataclasses import dataclass
from enum import IntEnum

from preread.demo.phantoms.fields import FloatArray

Point = tuple[FloatArray, FloatArray, FloatArray]
"""Coordinates x, y, z in mm (LPS), each (slices, rows, columns)."""


class Tissue(IntEnum):
    """What a voxel consists of."""

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
    """How one head differs from another; ventricles and sulci are factors on the usual width."""

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
