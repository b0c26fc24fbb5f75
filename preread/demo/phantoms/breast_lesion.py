"""A lesion in a breast picture: its outline, its inside, and what the sound does behind it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import ndimage

from preread.demo.phantoms.fields import BoolArray, FloatArray, smooth_noise, soft_step


@dataclass(frozen=True)
class LesionShape:
    """One lesion: place and half axes in pixels, outline as radius over angle, contrasts in dB."""

    centre_row: float
    centre_column: float
    half_height: float
    half_width: float
    angle_rad: float
    outline: FloatArray
    contrast_db: float
    texture_db: float
    edge_px: float
    rim_db: float
    halo_db: float
    behind_db: float

    @classmethod
    def drawn(
        cls,
        rng: np.random.Generator,
        *,
        malignant: bool,
        rows: int,
        columns: int,
        width_fraction: tuple[float, float],
        contrast_db: float | None,
    ) -> Self:
        """A random lesion that fits into (rows, columns) with all of its outline."""
        half_width = 0.5 * columns * rng.uniform(*width_fraction)
        # Wider than tall speaks for benign, taller than wide for malignant; many cancers are about round.
        tallness = rng.uniform(0.75, 1.35) if malignant else rng.uniform(0.42, 0.78)
        half_height = half_width * tallness
        limit = 0.27 * rows
        if half_height > limit:
            half_width, half_height = half_width * limit / half_height, limit
        outline = _outline(rng, malignant)
        reach = float(outline.max())
        tilt = rng.normal(0.0, 0.25) if malignant else rng.normal(0.0, 0.12)
        # A tilted ellipse stays inside the circle of its larger half axis sideways.
        reach_rows = reach * float(np.hypot(half_height * np.cos(tilt), half_width * np.sin(tilt)))
        reach_columns = reach * max(half_width, half_height)
        low, high = max(0.1 * rows, 3.0) + reach_rows, 0.8 * rows - reach_rows
        left, right = 4.0 + reach_columns, columns - 5.0 - reach_columns
        return cls(
            centre_row=rng.uniform(low, max(high, low + 1.0)),
            centre_column=rng.uniform(left, right) if right > left else columns / 2.0,
            half_height=half_height,
            half_width=half_width,
            angle_rad=tilt,
            outline=outline,
            contrast_db=contrast_db if contrast_db is not None else -rng.uniform(11.0, 20.0),
            texture_db=rng.uniform(2.5, 5.0) if malignant else rng.uniform(0.5, 2.0),
            edge_px=rng.uniform(3.0, 11.0) if malignant else rng.uniform(1.2, 3.5),
            rim_db=0.0 if malignant else rng.uniform(3.0, 8.0),
            halo_db=rng.uniform(3.0, 9.0) if malignant else 0.0,
            behind_db=-rng.uniform(5.0, 24.0) if malignant else rng.uniform(1.0, 7.0),
        )


def _outline(rng: np.random.Generator, malignant: bool) -> FloatArray:
    """Relative radius over 720 angles: smooth for benign, lobed and spiculated for malignant lesions."""
    angle = np.linspace(0.0, 2.0 * np.pi, 720, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 12 if malignant else 5):
        size = (0.24 if malignant else 0.14) / order ** (0.9 if malignant else 1.4)
        radius += rng.normal(0.0, size) * np.cos(order * angle + rng.uniform(0.0, 2.0 * np.pi))
    if malignant:
        for _ in range(int(rng.integers(4, 11))):
            turn = np.angle(np.exp(1j * (angle - rng.uniform(0.0, 2.0 * np.pi))))
            radius += rng.uniform(0.08, 0.3) * np.exp(-np.abs(turn) / rng.uniform(0.05, 0.12))
    return np.asarray(np.clip(radius / radius.mean(), 0.45, 1.7), dtype=np.float32)


def draw_lesion(
    rng: np.random.Generator, echo_db: FloatArray, shape: LesionShape
) -> tuple[FloatArray, BoolArray]:
    """Echo strength with the lesion in it, and the lesion's mask; both (rows, columns)."""
    columns = echo_db.shape[1]
    row = np.arange(echo_db.shape[0], dtype=np.float32)[:, None]
    column = np.arange(columns, dtype=np.float32)[None, :]
    dy, dx = row - shape.centre_row, column - shape.centre_column
    cos, sin = np.cos(shape.angle_rad), np.sin(shape.angle_rad)
    v, u = (cos * dy - sin * dx) / shape.half_height, (cos * dx + sin * dy) / shape.half_width
    angle = np.arctan2(v, u) % (2.0 * np.pi)
    bins = np.minimum((angle * (720 / (2.0 * np.pi))).astype(int), 719)
    limit = shape.outline[bins]
    mean_half = np.sqrt(shape.half_height * shape.half_width)
    # Approximate depth in pixels below the outline; exact for a circle.
    inside_px = np.asarray((limit - np.hypot(u, v)) * mean_half, dtype=np.float32)
    mask = inside_px > 0

    around = ndimage.gaussian_filter(echo_db, 0.35 * mean_half)
    scale = columns / 560.0
    blotch = smooth_noise(rng, echo_db.shape, (16 * scale, 22 * scale))
    inner = np.minimum(around, 2.0) + shape.contrast_db + shape.texture_db * blotch
    weight = soft_step(inside_px, shape.edge_px)
    result = echo_db + shape.halo_db * np.exp(-((np.clip(-inside_px, 0, None) / (0.22 * mean_half)) ** 2)) * (
        ~mask & (dy < 0.6 * shape.half_height)
    )
    # Sound meets the front and back wall of a smooth capsule squarely: there it shines, not at the sides.
    facing = np.abs(np.sin(angle)) ** 2
    result = result + shape.rim_db * np.exp(-((inside_px / 2.5 + 0.6) ** 2)) * facing
    result = result + _behind(mask, row, shape)
    result = result * (1.0 - weight) + inner * weight
    return np.asarray(result, dtype=np.float32), np.asarray(mask, dtype=np.bool_)


def _behind(mask: BoolArray, row: FloatArray, shape: LesionShape) -> FloatArray:
    """Shadow or enhancement below the lesion, dB: proportional to the path of the sound through it."""
    path = mask.sum(axis=0).astype(np.float32)
    path /= max(float(path.max()), 1.0)
    path = ndimage.gaussian_filter1d(path, 3.0)
    last = mask.shape[0] - 1 - np.argmax(mask[::-1], axis=0)
    below = row - np.where(mask.any(axis=0), last, mask.shape[0])[None, :]
    fade = np.exp(-np.clip(below, 0, None) / (2.2 * shape.half_height + 40.0))
    effect = shape.behind_db * path[None, :] * soft_step(np.asarray(below, np.float32), 4.0) * fade
    return np.asarray(ndimage.gaussian_filter(effect, (2.0, 3.0)), dtype=np.float32)
