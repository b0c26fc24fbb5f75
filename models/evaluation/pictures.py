"""Contact sheets for cards: slices with the model's outline (and the truth's, where there is one) as a small
JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from models.screen_colours import Rgb

FOUND_COLOUR = (255, 96, 64)
TRUTH_COLOUR = (64, 220, 120)
TINT = 0.35  # of a reader's structure over the image
CARD_BYTES_MAX = 100_000


def outlined(
    plane: NDArray[Any], found: NDArray[np.bool_], truth: NDArray[np.bool_] | None, size: int
) -> NDArray[np.uint8]:
    """One slice as (h, w, 3), long side `size`, outlines one pixel wide; grey from the 1st to the 99.5th
    percentile.
    """
    picture = grey_picture(plane, size)
    for mask, colour in ((truth, TRUTH_COLOUR), (found, FOUND_COLOUR)):
        if mask is None:
            continue
        shown = resized(mask, picture)
        picture[shown & ~ndimage.binary_erosion(shown)] = colour
    return picture


def outlined_structures(
    plane: NDArray[Any],
    found: NDArray[Any],
    truth: NDArray[Any] | None,
    colours: Sequence[Rgb],
    size: int,
) -> NDArray[np.uint8]:
    """One slice as `outlined` draws it: the model's structures as lines, the reader's as a tint.

    Parameters
    ----------
    found, truth : (rows, columns) numbers of structures, 0 background
    colours : of the structures by number, from 1
    """
    picture = grey_picture(plane, size)
    if truth is not None:
        for number, colour in enumerate(colours, start=1):
            shown = resized(truth == number, picture)
            picture[shown] = ((1 - TINT) * picture[shown] + TINT * np.array(colour)).astype(np.uint8)
    for number, colour in enumerate(colours, start=1):
        shown = resized(found == number, picture)
        picture[shown & ~ndimage.binary_erosion(shown)] = colour
    return picture


def grey_picture(plane: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """(h, w, 3), long side `size`; grey from the 1st to the 99.5th percentile."""
    scale = size / max(plane.shape)
    shape = (max(1, round(plane.shape[1] * scale)), max(1, round(plane.shape[0] * scale)))
    low, high = np.percentile(plane, (1, 99.5))
    grey = np.clip((plane.astype(np.float32) - low) / max(1e-6, high - low) * 255, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize(shape, Image.Resampling.BILINEAR).convert("RGB")).copy()


def resized(mask: NDArray[np.bool_], picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The mask at the size of the picture."""
    shape = picture.shape[1], picture.shape[0]
    levels = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape, Image.Resampling.BILINEAR)
    return np.asarray(np.asarray(levels) > 127)


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Pictures side by side on black, each cell as large as the largest."""
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = height * (index // columns), width * (index % columns)
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def save_jpeg(sheet: NDArray[np.uint8], path: Path, *, bytes_max: int = CARD_BYTES_MAX) -> None:
    """Write a JPEG of at most `bytes_max`, lowering the quality as needed.

    Raises
    ------
    ValueError
        Even the lowest quality is larger.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in (88, 80, 70, 60, 50, 40):
        Image.fromarray(sheet).save(path, "JPEG", quality=quality, optimize=True)
        if path.stat().st_size <= bytes_max:
            return
    raise ValueError(f"{path} does not fit into {bytes_max} bytes; show fewer or smaller pictures")
