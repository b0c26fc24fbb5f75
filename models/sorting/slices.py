"""PURE: from the slices of a series to what the sorter's network sees: a few of them, on one small canvas.

The grey scale of each image is that of its own percentiles. Units, windows and gains are gone: Hounsfield
units would name a CT at once here, and not where a CT comes as a windowed picture. Spacings and sizes are not
shown either: within a data set they are all alike and would answer for the anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.sorting.manifest import SorterInput

Plane = NDArray[Any]  # (rows, columns)
Canvas = NDArray[np.float32]  # (side, side), 0 to 1


def chosen_slices(count: int, positions: Sequence[float]) -> list[int]:
    """Indices of the slices of a series of `count` that are looked at, each once, in order."""
    return sorted({min(count - 1, int(position * (count - 1) + 0.5)) for position in positions})


def canvas_of(plane: Plane, reading: SorterInput) -> Canvas | None:
    """One image on the canvas; None where it shows nothing, as its percentiles are one value.

    Values run from 0 (the low percentile, and what is padded) to 1; the aspect stays.
    """
    values = np.asarray(plane, dtype=np.float32)
    low, high = np.percentile(values, (reading.low, reading.high))
    if not high > low:
        return None
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return on_square(scaled, reading.side)


def on_square(image: NDArray[np.float32], side: int) -> Canvas:
    """The image with its longer side brought to `side`, in the middle of a black square."""
    scale = side / max(image.shape)
    rows, columns = (max(1, round(size * scale)) for size in image.shape)
    # Pillow widens its filter when it makes an image smaller: nothing is skipped.
    resized = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    square = np.zeros((side, side), np.float32)
    top, left = (side - rows) // 2, (side - columns) // 2
    square[top : top + rows, left : left + columns] = resized
    return square


def canvases_of(planes: Sequence[Plane], reading: SorterInput) -> NDArray[np.float32]:
    """(k, side, side) of the images that show something; k may be 0."""
    found = [canvas for plane in planes if (canvas := canvas_of(plane, reading)) is not None]
    return np.stack(found) if found else np.zeros((0, reading.side, reading.side), np.float32)


def network_input(canvases: NDArray[np.float32]) -> NDArray[np.float32]:
    """(k, side, side) from 0 to 1 -> (k, 1, side, side) from -1 to 1."""
    return np.asarray(canvases[:, None] * 2 - 1, dtype=np.float32)
