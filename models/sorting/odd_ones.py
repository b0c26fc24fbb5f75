"""Pictures that show nothing the sorter knows, made up: what teaches it to say "unknown".

A network that has only ever seen heads and breasts calls everything one of them. These are test patterns,
text, noise, spots, plots and pieces of two photographs that come with scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from models.sorting.cases import FOLDS, OTHER, SortingCase
from models.sorting.real_cases import BODY, MODALITY

Picture = NDArray[np.float32]
Rng = np.random.Generator
WORDS: Final = ("REPORT", "SERIES", "DOSE", "mGy cm", "DLP", "TOTAL", "kVp", "mAs", "120", "64", "R", "L")


def odd_cases(count: int, *, seed: int) -> Iterator[SortingCase]:
    """`count` pictures, each kind as often as any other; nothing of the list is right about them."""
    kinds = list(MAKERS)
    for index in range(count):
        rng = np.random.default_rng([seed, 7, index])
        shape = (int(rng.integers(64, 400)), int(rng.integers(64, 400)))
        kind = kinds[index % len(kinds)]
        picture = MAKERS[kind](rng, shape)
        truth = {BODY: OTHER, MODALITY: OTHER}
        name = f"odd-{kind}-{index:04d}"
        yield SortingCase(name, name, "odd", (index // len(kinds)) % FOLDS, True, picture[None], truth)


def grain(rng: Rng, shape: tuple[int, int]) -> Picture:
    """Noise, coarse or fine."""
    values = rng.standard_normal(shape)
    return np.asarray(ndimage.gaussian_filter(values, rng.choice([0.0, 0.7, 2.0, 6.0])), np.float32)


def clouds(rng: Rng, shape: tuple[int, int]) -> Picture:
    """Noise of all sizes, sometimes within an oval, as a body that shows no anatomy."""
    values = sum(
        ndimage.gaussian_filter(rng.standard_normal(shape), width) * width for width in (2.0, 6.0, 18.0, 40.0)
    )
    picture = np.asarray(values, np.float32)
    if rng.random() < 0.6:
        picture = np.where(_oval(rng, shape), picture - picture.min() + 0.2, 0)
    return np.asarray(picture, np.float32)


def spots(rng: Rng, shape: tuple[int, int]) -> Picture:
    """A few bright spots, blurred, in grain: what a gamma camera shows."""
    points = (rng.random(shape) < rng.uniform(3, 60) / np.prod(shape)) * rng.uniform(0.2, 1, shape)
    blurred = ndimage.gaussian_filter(points, rng.uniform(2, 12))
    counts = rng.poisson(blurred / max(blurred.max(), 1e-9) * rng.uniform(8, 90) + rng.uniform(0, 2))
    return np.asarray(counts, np.float32)


def pattern(rng: Rng, shape: tuple[int, int]) -> Picture:
    """Bars, a chess board, a wedge or rings."""
    rows, columns = np.indices(shape).astype(np.float32)
    step = float(rng.uniform(6, 40))
    kind = int(rng.integers(4))
    if kind == 0:
        return np.asarray((rows if rng.random() < 0.5 else columns) // step % 2, np.float32)
    if kind == 1:
        return np.asarray((rows // step + columns // step) % 2, np.float32)
    if kind == 2:
        return np.asarray(np.cos(rng.uniform(0, 6.3)) * rows + columns, np.float32)
    return np.asarray(np.sin(np.hypot(rows - shape[0] / 2, columns - shape[1] / 2) / step * 3), np.float32)


def phantom(rng: Rng, shape: tuple[int, int]) -> Picture:
    """A disc with inserts, as for quality assurance."""
    disc = _disc(shape, (0.5, 0.5), float(rng.uniform(0.3, 0.48)))
    picture = disc * float(rng.uniform(0.3, 0.8))
    for _ in range(int(rng.integers(3, 14))):
        hole = _disc(shape, tuple(rng.uniform(0.25, 0.75, 2)), float(rng.uniform(0.01, 0.1)))
        picture = np.where(hole & disc, rng.uniform(0, 1), picture)
    return np.asarray(picture + rng.normal(0, rng.uniform(0.005, 0.05), shape), np.float32)


def page(rng: Rng, shape: tuple[int, int]) -> Picture:
    """Lines of words, black on white or white on black."""
    picture = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(picture)
    size = int(rng.integers(8, 28))
    font = ImageFont.load_default(size)
    for top in range(4, shape[0] - size, round(size * float(rng.uniform(1.2, 2.2)))):
        words = " ".join(rng.choice(WORDS, int(rng.integers(1, 7))))
        draw.text((float(rng.uniform(2, 30)), top), words, fill=255, font=font)
    values = np.asarray(picture, np.float32)
    return 255 - values if rng.random() < 0.5 else values


def plot(rng: Rng, shape: tuple[int, int]) -> Picture:
    """Curves and axes."""
    picture = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 6))):
        walk = np.cumsum(rng.standard_normal(shape[1])) * rng.uniform(0.3, 4) + rng.uniform(0, shape[0])
        draw.line(
            [(float(x), float(y)) for x, y in enumerate(walk)], fill=int(rng.integers(90, 256)), width=2
        )
    draw.line([(8, 0), (8, shape[0] - 8), (shape[1], shape[0] - 8)], fill=255)
    return np.asarray(picture, np.float32)


def photograph(rng: Rng, shape: tuple[int, int]) -> Picture:
    """A piece of a photograph."""
    whole = _photographs()[int(rng.integers(2))]
    height, width = (min(size, limit) for size, limit in zip(shape, whole.shape, strict=True))
    top = int(rng.integers(0, whole.shape[0] - height + 1))
    left = int(rng.integers(0, whole.shape[1] - width + 1))
    piece = whole[top : top + height, left : left + width]
    return np.asarray(piece[:, ::-1] if rng.random() < 0.5 else piece, np.float32)


def bones(rng: Rng, shape: tuple[int, int]) -> Picture:
    """Long bright shafts in grey flesh: limbs, and projections in general."""
    rows, columns = np.indices(shape).astype(np.float32)
    picture = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        turn, middle = rng.uniform(-0.5, 0.5), rng.uniform(0.25, 0.75) * shape[1]
        wide = rng.uniform(0.04, 0.12) * shape[1]
        off = np.abs((columns - middle) * np.cos(turn) + (rows - shape[0] / 2) * np.sin(turn))
        picture += np.sqrt(np.clip(1 - (off / (wide * 3)) ** 2, 0, 1)) * 0.4
        picture += np.sqrt(np.clip(1 - (off / wide) ** 2, 0, 1)) * rng.uniform(0.3, 0.8)
    grains = rng.normal(0, rng.uniform(0.005, 0.04), shape)
    return np.asarray(ndimage.gaussian_filter(picture, 1.5) + grains, np.float32)


MAKERS: Final[dict[str, Callable[[Rng, tuple[int, int]], Picture]]] = {
    "grain": grain,
    "clouds": clouds,
    "spots": spots,
    "pattern": pattern,
    "phantom": phantom,
    "page": page,
    "plot": plot,
    "photograph": photograph,
    "bones": bones,
}


def _photographs() -> tuple[Picture, Picture]:
    from sklearn.datasets import load_sample_image

    first, second = (
        np.asarray(load_sample_image(name).mean(2), np.float32) for name in ("china.jpg", "flower.jpg")
    )
    return first, second


def _disc(shape: tuple[int, int], centre: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    side = min(shape)
    away = np.hypot(rows - centre[0] * shape[0], columns - centre[1] * shape[1])
    return np.asarray(away < radius * side)


def _oval(rng: Rng, shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    radii = rng.uniform(0.25, 0.48, 2)
    away = ((rows / shape[0] - 0.5) / radii[0]) ** 2 + ((columns / shape[1] - 0.5) / radii[1]) ** 2
    return np.asarray(away < 1)
