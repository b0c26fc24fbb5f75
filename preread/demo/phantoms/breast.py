"""A synthetic B-mode picture of a breast with known lesion: skin, fat, gland, muscle, speckle, shadows.

The tissue is a map of echo strength in dB; speckle is made as a scanner makes it (random scatterers seen
through a point spread that widens with depth, envelope, log compression), so its grain grows downwards.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.breast_lesion import LesionShape, draw_lesion
from preread.demo.phantoms.fields import BoolArray, FloatArray, smooth_noise, soft_step

BreastKind = Literal["benign", "malignant", "normal"]
ProbeField = Literal["linear", "trapezoid"]


@dataclass(frozen=True)
class BreastImage:
    """One picture: `array` (rows, columns), row 0 at the skin; `mask` is empty for a normal breast."""

    array: NDArray[np.uint8]
    mask: BoolArray
    kind: BreastKind


def breast_ultrasound(
    rng: np.random.Generator,
    *,
    kind: BreastKind = "benign",
    rows: int = 470,
    columns: int = 560,
    lesion_width_fraction: tuple[float, float] = (0.12, 0.4),
    lesion_db: float | None = None,
    dynamic_range_db: float | None = None,
    gain_db: float | None = None,
    attenuation_db: float | None = None,
    density: float | None = None,
    probe: ProbeField | None = None,
    speckle_px: float | None = None,
) -> BreastImage:
    """One breast picture of a class; what is None is drawn from the range seen in clinical pictures.

    Parameters
    ----------
    kind : benign is oval, smooth, wider than tall, with enhancement behind it; malignant is spiculated,
        often taller than wide, with a halo and a shadow; normal has no lesion
    lesion_width_fraction : width of the lesion as part of the picture's width
    lesion_db : echo strength of the lesion against the tissue around it
    attenuation_db : loss from top to bottom that the operator's gain did not make up
    density : 0 a fatty breast, 1 a dense one
    speckle_px : grain at the skin, pixels; it doubles towards the bottom
    """
    dense = density if density is not None else rng.uniform(0.2, 1.0)
    loss = attenuation_db if attenuation_db is not None else rng.uniform(4.0, 20.0)
    span = dynamic_range_db if dynamic_range_db is not None else rng.uniform(50.0, 62.0)
    grain = speckle_px if speckle_px is not None else rng.uniform(0.7, 1.1) * columns / 560.0
    depth = np.linspace(0.0, 1.0, rows, dtype=np.float32)[:, None]
    echo = _layers(rng, rows, columns, dense)

    mask = np.zeros((rows, columns), dtype=bool)
    if kind != "normal":
        shape = LesionShape.drawn(
            rng,
            malignant=kind == "malignant",
            rows=rows,
            columns=columns,
            width_fraction=lesion_width_fraction,
            contrast_db=lesion_db,
        )
        echo, mask = draw_lesion(rng, echo, shape)
    echo = echo + _shadows(rng, rows, columns, count=int(rng.poisson(0.7)))
    echo = echo - loss * np.clip(depth - 0.25, 0.0, None) ** 1.3 / 0.75**1.3

    speckle_db = _speckle_db(rng, rows, columns, grain)
    level = gain_db if gain_db is not None else rng.normal(0.0, 2.0)
    gray = (echo + speckle_db + level + 0.62 * span) / span
    shown = np.clip(gray, 0.0, 1.0) ** 1.25 * 255.0
    field_of_view = _field(rng, rows, columns, probe)
    shown = np.where(field_of_view, shown, 0.0)
    return BreastImage(np.asarray(np.round(shown), dtype=np.uint8), mask & field_of_view, kind)


def _layers(rng: np.random.Generator, rows: int, columns: int, dense: float) -> FloatArray:
    """Echo strength in dB of a breast without lesion."""
    depth = np.linspace(0.0, 1.0, rows, dtype=np.float32)[:, None]
    scale = columns / 560.0
    wave = 0.02 * smooth_noise(rng, (columns,), 160 * scale)[None, :]
    ripple = 0.012 * smooth_noise(rng, (columns,), 60 * scale)[None, :]
    skin = rng.uniform(0.02, 0.05) + 0.15 * wave
    gland_top = rng.uniform(0.1, 0.18) + (1.0 - dense) * rng.uniform(0.05, 0.2) + wave + ripple
    muscle_top = np.clip(rng.uniform(0.62, 0.85) - 0.8 * wave + ripple, 0.55, 0.95)
    rib_line = muscle_top + rng.uniform(0.08, 0.16) + 0.5 * wave

    # The fibres follow the layers: they are noise long to the side and short in depth, on bent coordinates.
    bend = 13.0 * scale * smooth_noise(rng, (rows, columns), (160 * scale, 300 * scale))
    bend = bend + 3.5 * scale * smooth_noise(rng, (rows, columns), (60 * scale, 90 * scale))
    fibre = _bent(smooth_noise(rng, (rows, columns), (8 * scale, 55 * scale)), bend)
    strand = _bent(smooth_noise(rng, (rows, columns), (20 * scale, 150 * scale)), bend)
    lobule = _bent(smooth_noise(rng, (rows, columns), (50 * scale, 85 * scale)), bend)
    fine = _bent(smooth_noise(rng, (rows, columns), (5 * scale, 18 * scale)), bend)

    septum = np.exp(-((strand / 0.13) ** 2)) * (0.5 + 0.5 * soft_step(lobule, 0.5))
    # Patches of more and less echo, and specks where a fibre meets the sound squarely.
    patch = smooth_noise(rng, (rows, columns), (120 * scale, 150 * scale))
    speck = np.clip(_bent(smooth_noise(rng, (rows, columns), (6 * scale, 26 * scale)), bend) - 1.3, 0.0, 2.0)
    fat = -7.0 + 1.5 * fine + 11.0 * septum
    gland = (
        1.5
        + 3.0 * fibre
        + 2.0 * fine
        + 4.0 * septum
        + 3.0 * patch
        + 6.0 * speck
        - (7.0 - 4.0 * dense) * soft_step(lobule - 0.7, 0.25)
    )
    muscle = -10.0 + 3.5 * fibre + 2.0 * fine + 8.0 * speck
    behind = -17.0 + 3.0 * fibre

    width = 0.012
    echo = fat + (gland - fat) * soft_step(depth - gland_top + 0.02 * lobule, 0.02)
    echo = echo + (muscle - echo) * soft_step(depth - muscle_top, width)
    echo = echo + (behind - echo) * soft_step(depth - rib_line, 0.04)
    fascia = np.exp(-(((depth - muscle_top) / 0.007) ** 2)) * rng.uniform(6.0, 20.0)
    echo = echo + fascia * soft_step(smooth_noise(rng, (columns,), 100 * scale)[None, :] + 0.3, 0.5)
    echo = np.where(depth < skin, 7.0 + 1.5 * fine, echo)
    echo = echo + 11.0 * np.exp(-((depth / 0.008) ** 2)) + 6.0 * np.exp(-(((depth - skin) / 0.006) ** 2))
    return np.asarray(echo, dtype=np.float32)


def _bent(noise: FloatArray, bend_px: FloatArray) -> FloatArray:
    """Noise moved up and down by `bend_px`."""
    row, column = np.indices(noise.shape, dtype=np.float32)
    return np.asarray(
        ndimage.map_coordinates(noise, [row + bend_px, column], order=1, mode="reflect"), dtype=np.float32
    )


def _shadows(rng: np.random.Generator, rows: int, columns: int, *, count: int) -> FloatArray:
    """Dark stripes under poor contact and ligaments, and the dimmer sides of the probe, in dB."""
    depth = np.linspace(0.0, 1.0, rows, dtype=np.float32)[:, None]
    across = np.linspace(-1.0, 1.0, columns, dtype=np.float32)[None, :]
    dark = -rng.uniform(2.0, 9.0) * np.clip(np.abs(across) - 0.7, 0.0, None) / 0.3 * np.ones_like(depth)
    for _ in range(count):
        place, half, start = rng.uniform(-1, 1), rng.uniform(0.06, 0.2), rng.uniform(0.05, 0.5)
        stripe = np.exp(-(((across - place) / half) ** 2)) * soft_step(depth - start, 0.1)
        dark = dark - rng.uniform(3.0, 9.0) * stripe
    return np.asarray(dark, dtype=np.float32)


def _speckle_db(rng: np.random.Generator, rows: int, columns: int, grain_px: float) -> FloatArray:
    """Log envelope of scatterers seen through a point spread twice as wide at the bottom as at the top."""
    bands = []
    for widening in (1.0, 1.5, 2.0):
        sigma = (0.8 * grain_px * widening**0.5, 1.5 * grain_px * widening)
        wave = [
            ndimage.gaussian_filter(rng.standard_normal((rows, columns)), sigma, mode="reflect")
            for _ in range(2)
        ]
        envelope = np.hypot(wave[0] / wave[0].std(), wave[1] / wave[1].std())
        bands.append(20.0 * np.log10(np.clip(envelope / np.sqrt(2.0), 0.02, None)))
    depth = np.linspace(0.0, 2.0, rows)[:, None]
    weight = [np.clip(1.0 - np.abs(depth - i), 0.0, 1.0) for i in range(3)]
    total = sum(w * band for w, band in zip(weight, bands, strict=True))
    # Scanners smooth after the logarithm (compounding, persistence): the black dots of raw speckle vanish.
    return np.asarray(ndimage.gaussian_filter(total, (0.6, 0.9)) * 0.85, dtype=np.float32)


def _field(rng: np.random.Generator, rows: int, columns: int, probe: ProbeField | None) -> BoolArray:
    """Where the probe looks: everything (linear), or a trapezoid with black upper corners."""
    chosen = probe if probe is not None else ("trapezoid" if rng.random() < 0.12 else "linear")
    view = np.ones((rows, columns), dtype=bool)
    if chosen == "trapezoid":
        row, column = np.indices((rows, columns))
        cut = rng.uniform(0.06, 0.16) * columns
        reach = rng.uniform(0.35, 0.7) * rows
        edge = np.clip(cut * (1.0 - row / reach), 0.0, None)
        view = (column >= edge) & (column < columns - edge)
    return np.asarray(view, dtype=np.bool_)
