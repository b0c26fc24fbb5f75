"""One slice of a source drawn for a summary picture: grey image, outlines, diameters, scale and orientation.

Pixels are shown with the aspect they have in the patient, as the scanner stored them: never flipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.explanation.attention import heat_over
from pipeline.reading.image_planes import numbers
from pipeline.reading.source_series import SourceSeries
from pipeline.results.canvas import DIM, TEXT, Rgb, font
from pipeline.results.findings import Labels, TrackedLesion
from pipeline.results.outline import Point, outlines

_SUPERSAMPLING: Final = 2  # lines are drawn larger and reduced, which smooths their edges
_HALO: Final[Rgb] = (0, 0, 0)
_SCALE_BARS_MM: Final = (1, 2, 5, 10, 20, 50, 100, 200)
_AXES: Final = (("L", "R"), ("P", "A"), ("H", "F"))
_AIR: Final = 0.12  # of the grey window: below is air and its noise
_NOISE: Final = 0.03  # of a line of pixels
_OBLIQUE: Final = 0.35  # a second letter from about 20 degrees


@dataclass(frozen=True)
class View:
    """A rectangle of an image, in pixels (row and column of its corners), and the size it is drawn at."""

    top: float
    left: float
    bottom: float
    right: float
    width: int
    height: int

    def place(self, point: Point) -> tuple[float, float]:
        """(x, y) in the drawing of a (row, column); the centre of a pixel is at its index."""
        row, column = point[0] + 0.5, point[1] + 0.5
        x = (column - self.left) / (self.right - self.left) * self.width
        y = (row - self.top) / (self.bottom - self.top) * self.height
        return x * _SUPERSAMPLING, y * _SUPERSAMPLING


def whole_view(source: SourceSeries, width: int, height: int) -> View:
    """The whole slice, as large as it fits with its true aspect."""
    _, rows, columns = source.volume.shape
    return _fitted(source, 0.0, 0.0, float(rows), float(columns), width, height)


def body_view(source: SourceSeries, window: tuple[float, float], width: int, height: int) -> View:
    """The part of the slices that holds the patient, the same for all slices of a volume.

    A 2D image is shown whole: what lies beside the tissue there (scale, marks) belongs to it.
    """
    if source.volume.affine is None:
        return whole_view(source, width, height)
    bright = source.volume.array > window[0] + _AIR * (window[1] - window[0])
    rows = _filled(bright.mean(axis=2).max(axis=0))
    columns = _filled(bright.mean(axis=1).max(axis=0))
    return _fitted(source, rows[0], columns[0], rows[1], columns[1], width, height)


def _filled(shares: NDArray[np.float64]) -> tuple[float, float]:
    """First and last place with more than noise, with a margin of a twentieth; all where there is none."""
    there = np.flatnonzero(shares > _NOISE)
    if not there.size:
        return 0.0, float(shares.size)
    margin = shares.size / 20
    return max(0.0, float(there[0]) - margin), min(float(shares.size), float(there[-1]) + 1 + margin)


def close_view(source: SourceSeries, centre: Point, side: float, width: int, height: int) -> View:
    """A square of `side` row distances around `centre`, kept inside the image."""
    _, rows, columns = source.volume.shape
    down, across = _spacing(source)
    high, wide = min(side, rows), min(side * down / across, columns)
    top = min(max(centre[0] + 0.5 - high / 2, 0.0), rows - high)
    left = min(max(centre[1] + 0.5 - wide / 2, 0.0), columns - wide)
    return _fitted(source, top, left, top + high, left + wide, width, height)


def grey_window(source: SourceSeries) -> tuple[float, float]:
    """(dark, bright) values: the header's window for CT, else what nearly all pixels span."""
    header = source.headers[0]
    centre, width = numbers(header, "WindowCenter", 1), numbers(header, "WindowWidth", 1)
    if header.get("Modality") == "CT" and centre and width and width[0] > 1:
        return centre[0] - width[0] / 2, centre[0] + width[0] / 2
    array = source.volume.array
    step = max(1, array.size // 2_000_000)
    low, high = np.percentile(array.ravel()[::step], (0.5, 99.8))
    return float(low), max(float(high), float(low) + 1e-6)


def draw_slice(
    source: SourceSeries,
    index: int,
    view: View,
    window: tuple[float, float],
    *,
    labels: Labels,
    lesions: Sequence[TrackedLesion],
    colours: Mapping[int, Rgb],
    line: int = 2,
    numbered: bool = True,
    axes: bool = False,
) -> Image.Image:
    """The slice in `view` with the outlines of its lesions.

    Parameters
    ----------
    colours : by lesion number
    line : width of outlines, in pixels of the drawing
    numbered : whether the number of each lesion stands beside it
    axes : whether the diameters of lesions whose key slice this is are drawn
    """
    size = (view.width * _SUPERSAMPLING, view.height * _SUPERSAMPLING)
    box = (view.left, view.top, view.right, view.bottom)
    image = (
        Image.fromarray(_grey(source.volume.array[index], window))
        .resize(size, Image.Resampling.BICUBIC, box=box)
        .convert("RGB")
    )
    draw = ImageDraw.Draw(image)
    for tracked in lesions:
        lesion, colour = tracked.lesion, colours[tracked.number]
        mask = labels[index] == lesion.label
        if not mask.any():
            continue
        if axes and lesion.key_slice == index:
            for ends in (lesion.long_ends, lesion.short_ends):
                draw.line([view.place(end) for end in ends], fill=colour, width=_SUPERSAMPLING)
        loops = outlines(mask)
        for loop in loops:
            closed = [view.place((row, column)) for row, column in [*loop.tolist(), loop[0].tolist()]]
            _line(draw, closed, colour, line)
        if numbered:
            right_most = max((tuple(p) for p in loops[0].tolist()), key=lambda p: p[1])
            x, y = view.place((right_most[0], right_most[1]))
            draw.text(
                (x + 8 * _SUPERSAMPLING, y),
                str(tracked.number),
                font=font(20 * _SUPERSAMPLING),
                fill=colour,
                anchor="lm",
                stroke_width=2 * _SUPERSAMPLING,
                stroke_fill=_HALO,
            )
    return image.resize((view.width, view.height), Image.Resampling.LANCZOS)


def draw_heat(
    source: SourceSeries, index: int, view: View, window: tuple[float, float], heat: NDArray[np.float32]
) -> Image.Image:
    """One slice with its heat (slices, rows, columns; 0 to 1) over it, and no outlines."""
    size, box = (view.width, view.height), (view.left, view.top, view.right, view.bottom)
    grey = Image.fromarray(_grey(source.volume.array[index], window))
    warm = Image.fromarray(heat[index]).resize(size, Image.Resampling.BILINEAR, box=box)
    shown = np.asarray(grey.resize(size, Image.Resampling.BICUBIC, box=box))
    return Image.fromarray(heat_over(shown, np.asarray(warm)))


def draw_scale(image: Image.Image, source: SourceSeries, view: View) -> None:
    """A bar of a round number of mm at the lower left; nothing for an uncalibrated image."""
    if source.volume.pixel_spacing_mm is None:
        return
    per_mm = view.width / ((view.right - view.left) * source.volume.pixel_spacing_mm[1])
    fitting = [length for length in _SCALE_BARS_MM if length * per_mm <= view.width / 4]
    if not fitting:
        return
    length = fitting[-1] * per_mm
    draw = ImageDraw.Draw(image)
    x, y = 14, view.height - 16
    draw.line([(x, y), (x + length, y)], fill=_HALO, width=5)
    draw.line([(x, y), (x + length, y)], fill=TEXT, width=2)
    for end in (x, x + length):
        draw.line([(end, y - 5), (end, y + 5)], fill=TEXT, width=2)
    _caption(draw, (x, y - 26), f"{fitting[-1]} mm", "la")


def draw_orientation(image: Image.Image, source: SourceSeries) -> None:
    """Letters of the patient's sides at the edges; nothing without coordinates."""
    if source.volume.affine is None:
        return
    draw = ImageDraw.Draw(image)
    width, height = image.size
    right, down = source.volume.affine[:3, 0], source.volume.affine[:3, 1]
    for direction, place, anchor in (
        (-right, (10, height // 2), "lm"),
        (right, (width - 10, height // 2), "rm"),
        (-down, (width // 2, 10), "ma"),
        (down, (width // 2, height - 10), "md"),
    ):
        _caption(draw, place, patient_side(direction), anchor, size=22)


def patient_side(direction: NDArray[np.float64]) -> str:
    """Letters of the side of the patient a direction (LPS) points to, the nearest first: L, R, A, P, H, F."""
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit))[:2]
    letters = [_AXES[int(axis)][0 if unit[axis] > 0 else 1] for axis in order]
    return "".join(letters) if abs(unit[order[1]]) >= _OBLIQUE else letters[0]


def _caption(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], words: str, anchor: str, *, size: int = 17
) -> None:
    draw.text(place, words, font=font(size), fill=DIM, anchor=anchor, stroke_width=2, stroke_fill=_HALO)


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: Rgb, width: int) -> None:
    """A line with a dark rim, to be seen on bright and dark tissue alike."""
    draw.line(list(points), fill=_HALO, width=(width + 2) * _SUPERSAMPLING, joint="curve")
    draw.line(list(points), fill=colour, width=width * _SUPERSAMPLING, joint="curve")


def _grey(plane: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    dark, bright = window
    scaled = (plane.astype(np.float32) - dark) * (255.0 / (bright - dark))
    grey: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return grey


def _spacing(source: SourceSeries) -> tuple[float, float]:
    return source.volume.pixel_spacing_mm or (1.0, 1.0)


def _fitted(
    source: SourceSeries, top: float, left: float, bottom: float, right: float, width: int, height: int
) -> View:
    down, across = _spacing(source)
    high, wide = (bottom - top) * down, (right - left) * across
    scale = min(width / wide, height / high)
    return View(top, left, bottom, right, max(1, round(wide * scale)), max(1, round(high * scale)))
