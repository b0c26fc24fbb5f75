"""PURE natural corruptions of a volume, each at severity 1 to 5; the mask goes along where geometry changes.

Strengths are relative to the range of the image itself (0.5th to 99.5th percentile) and to its longer side:
an 8-bit ultrasound image and a 16-bit MR are treated alike. Values stay within the image's number type.
Source of the idea and of most kinds: Hendrycks and Dietterich, arXiv 1903.12261.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from models.volume import Volume

Severity = Literal[1, 2, 3, 4, 5]
SEVERITIES: Final[tuple[Severity, ...]] = (1, 2, 3, 4, 5)
Mask = NDArray[np.bool_]
Pixels = NDArray[Any]
Rng = np.random.Generator

_NOISE = (0.02, 0.05, 0.10, 0.15, 0.25)  # standard deviation, of the range
_BLUR = (0.003, 0.006, 0.010, 0.016, 0.025)  # sigma, of the longer side
_COARSER = (1.5, 2.0, 3.0, 4.0, 6.0)  # times fewer pixels along each side
_GAMMA = (1.15, 1.3, 1.6, 2.0, 2.6)  # exponent, or its inverse
_BIAS = (0.10, 0.20, 0.35, 0.50, 0.70)  # highest change of brightness, up and down
_ROTATION = (3.0, 6.0, 12.0, 20.0, 30.0)  # degrees, in plane
_CROP = (0.04, 0.08, 0.14, 0.20, 0.28)  # of a side, cut away
_MISSING = (0.05, 0.10, 0.20, 0.30, 0.40)  # of the inner slices
_BITS = (8, 6, 5, 4, 3)
_TEXT_LINES = (1, 2, 4, 6, 9)
_WORDS = ("B 2-9 L", "12.4 cm", "MI 0.9", "FR 31 Hz", "D1 14.2 mm", "LT 10:00", "A/B", "GAIN 62")


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    Parameters
    ----------
    apply : (volume, mask, severity, random source) to volume and mask, both of one shape
    fits : whether a volume can suffer it
    """

    name: str
    words: str
    apply: Callable[[Volume, Mask, Severity, Rng], tuple[Volume, Mask]]
    fits: Callable[[Volume], bool] = lambda volume: True


def noise(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Gaussian noise on every voxel."""
    low, high = value_range(volume.array)
    grain = rng.standard_normal(volume.shape, np.float32) * (_NOISE[severity - 1] * (high - low))
    return _with(volume, volume.array + grain), mask


def blur(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """A Gaussian in plane, as of motion or a bad focus."""
    sigma = _BLUR[severity - 1] * max(volume.shape[1:])
    return _with(volume, ndimage.gaussian_filter(_floats(volume), (0, sigma, sigma))), mask


def down_sampling(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Fewer pixels in plane, brought back to the old grid: what a small matrix would have seen."""
    factor = _COARSER[severity - 1]
    planes = []
    for plane in _floats(volume):
        picture = Image.fromarray(plane)
        size = (max(1, round(picture.width / factor)), max(1, round(picture.height / factor)))
        small = picture.resize(size, Image.Resampling.BOX)
        planes.append(np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR)))
    return _with(volume, np.stack(planes)), mask


def gamma(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Darker or brighter middle greys; black and white stay."""
    exponent = _GAMMA[severity - 1] ** (1 if rng.random() < 0.5 else -1)
    low, high = value_range(volume.array)
    unit = np.clip((_floats(volume) - low) / (high - low), 0, 1)
    bent = unit**exponent * (high - low) + low
    outside = (volume.array < low) | (volume.array > high)
    return _with(volume, np.where(outside, volume.array, bent)), mask


def bias_field(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Brightness that drifts smoothly across the volume, as near a coil or under a probe."""
    coarse = rng.standard_normal((1 if volume.shape[0] == 1 else 3, 3, 3))
    zooms = [new / old for new, old in zip(volume.shape, coarse.shape, strict=True)]
    field = ndimage.zoom(coarse, zooms, order=1, mode="nearest", grid_mode=True)
    field = field / max(float(np.abs(field).max()), 1e-6) * _BIAS[severity - 1]
    low, _ = value_range(volume.array)
    return _with(volume, (_floats(volume) - low) * (1 + field) + low), mask


def rotation(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """The patient, or the probe, turned in plane; what comes in is as dark as the darkest voxel."""
    angle = _ROTATION[severity - 1] * (1 if rng.random() < 0.5 else -1)
    across = volume.pixel_spacing_mm or (1.0, 1.0)
    matrix, offset = _turn(angle, volume.shape[1:], across)
    planes = [
        ndimage.affine_transform(plane, matrix, offset, order=1, cval=float(volume.array.min()))
        for plane in _floats(volume)
    ]
    turned = [
        ndimage.affine_transform(plane.astype(np.float32), matrix, offset, order=1) >= 0.5 for plane in mask
    ]
    return _with(volume, np.stack(planes)), np.stack(turned)


def crop(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """A strip cut off one end of the rows and one of the columns; coordinates follow."""
    starts, sizes = [], []
    for size in volume.shape[1:]:
        lost = min(ceil(_CROP[severity - 1] * size), size - 1)
        starts.append(lost if rng.random() < 0.5 else 0)
        sizes.append(size - lost)
    (row, column), (rows, columns) = starts, sizes
    inside = (slice(None), slice(row, row + rows), slice(column, column + columns))
    affine = None
    if volume.affine is not None:
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, 0] * column + affine[:3, 1] * row
    kept = np.ascontiguousarray(volume.array[inside])
    cut = Volume(kept, affine, volume.pixel_spacing_mm, volume.slice_spacing_mm)
    return cut, np.ascontiguousarray(mask[inside])


def missing_slices(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Some inner slices are not there and the rest closes up, as when a reader trusts the image numbers.

    The pipeline refuses such a series (MISSING-SLICE); this says what the model would make of it.
    """
    slices = volume.shape[0]
    lost = min(max(1, round(_MISSING[severity - 1] * (slices - 2))), slices - 2)
    gone = rng.choice(np.arange(1, slices - 1), lost, replace=False)
    kept = np.setdiff1d(np.arange(slices), gone)
    array = np.ascontiguousarray(volume.array[kept])
    closed = Volume(array, volume.affine, volume.pixel_spacing_mm, volume.slice_spacing_mm)
    return closed, np.ascontiguousarray(mask[kept])


def few_grey_levels(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Values rounded to 8 bits of the whole range at severity 1, to 3 bits at severity 5."""
    low, high = float(volume.array.min()), float(volume.array.max())
    steps = 2 ** _BITS[severity - 1] - 1
    level = np.round((_floats(volume) - low) / max(high - low, 1e-6) * steps)
    return _with(volume, level / steps * (high - low) + low), mask


def burned_in_text(volume: Volume, mask: Mask, severity: Severity, rng: Rng) -> tuple[Volume, Mask]:
    """Lines of white text at random places of every slice, as scanners and screen captures write them."""
    rows, columns = volume.shape[1:]
    page = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(max(8, round(0.045 * max(rows, columns))))
    for _ in range(_TEXT_LINES[severity - 1]):
        words = _WORDS[int(rng.integers(len(_WORDS)))]
        width, height = draw.textbbox((0, 0), words, font=font)[2:]
        place = (rng.uniform(0, max(1, columns - width)), rng.uniform(0, max(1, rows - height)))
        draw.text(place, words, fill=255, font=font)
    ink = np.asarray(page, np.float32)[None] / 255
    white = float(volume.array.max())
    return _with(volume, _floats(volume) * (1 - ink) + white * ink), mask


def _is_contrasted(volume: Volume) -> bool:
    low, high = value_range(volume.array)
    return high > low


CORRUPTIONS: Final[tuple[Corruption, ...]] = (
    Corruption("noise", "noise", noise, _is_contrasted),
    Corruption("blur", "blur", blur),
    Corruption("down_sampling", "coarser pixels", down_sampling),
    Corruption("gamma", "contrast curve", gamma, _is_contrasted),
    Corruption("bias_field", "uneven brightness", bias_field),
    Corruption("rotation", "rotation", rotation),
    Corruption("crop", "cut borders", crop, lambda volume: min(volume.shape[1:]) >= 8),
    Corruption("missing_slices", "missing slices", missing_slices, lambda volume: volume.shape[0] >= 4),
    Corruption("few_grey_levels", "8 bits and fewer", few_grey_levels),
    Corruption("burned_in_text", "burned-in text", burned_in_text),
)


def value_range(array: Pixels) -> tuple[float, float]:
    """0.5th and 99.5th percentile: the range without a few odd voxels."""
    low, high = np.percentile(array, (0.5, 99.5))
    return float(low), float(high)


def _floats(volume: Volume) -> NDArray[np.float32]:
    return volume.array.astype(np.float32)


def _with(volume: Volume, array: Pixels) -> Volume:
    """The volume with other values, in its own number type: whole and within bounds where that is whole."""
    kind = volume.array.dtype
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        array = np.clip(np.round(array), limits.min, limits.max)
    return Volume(
        np.ascontiguousarray(array.astype(kind)),
        volume.affine,
        volume.pixel_spacing_mm,
        volume.slice_spacing_mm,
    )


def _turn(
    degrees: float, shape: tuple[int, int] | tuple[int, ...], spacing: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and offset (output to input pixel) of a rotation about the middle that keeps shapes in mm."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.diag(spacing)
    matrix = np.linalg.inv(scale) @ turn @ scale
    middle = (np.array(shape) - 1) / 2
    return matrix, middle - matrix @ middle
