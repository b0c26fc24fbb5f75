"""The summary picture: what was found, where, how large, by which model, and that nobody verified it.

It is the result that every PACS can show, so everything essential stands in it and no identity does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.identity import RESEARCH_SENTENCE
from models.explanation.attention import CAPTION
from models.screen_colours import to_rgb
from pipeline.reading.source_series import SourceSeries
from pipeline.results.canvas import (
    CALM,
    CAUTION,
    DIM,
    LINE,
    PANEL,
    TEXT,
    URGENT,
    Canvas,
    Rgb,
)
from pipeline.results.findings import Box, Findings, TrackedLesion
from pipeline.results.slice_panel import (
    body_view,
    close_view,
    draw_heat,
    draw_orientation,
    draw_scale,
    draw_slice,
    grey_window,
)
from pipeline.results.structure_legend import draw_legend
from pipeline.results.words import axes_words, headline, is_urgent, size_words

WIDTH: Final = 1280
HEIGHT: Final = 960
_MARGIN: Final = 28
_TOP: Final = 128
_FOOTER: Final = 868
_COLUMN: Final = 868
_STRIP_SLICES: Final = 6
_STRIP_HEIGHT: Final = 150
_STRIP_NUMBERS: Final = 4
_GAP: Final = 10
_CAPTION: Final = 36
_INSET_LEAST: Final = 170
_ENLARGED_BELOW: Final = 0.3  # of the image: a larger lesion is seen well without
_TABLE_ROWS: Final = 8
_ATTENTION_LEAST: Final = 110
_ATTENTION_MOST: Final = 240


def draw_picture(source: SourceSeries, findings: Findings) -> NDArray[np.uint8]:
    """The picture of the source that decides (`findings.deciding_source`).

    Returns
    -------
    (960, 1280, 3), RGB
    """
    canvas = Canvas(WIDTH, HEIGHT)
    lesions = findings.lesions_of(findings.deciding_source)
    colours = {
        tracked.number: to_rgb(findings.model.colour_of(tracked.number)) for tracked in findings.lesions
    }
    _head(canvas, findings)
    has_strip = source.volume.shape[0] > 1
    bottom = _FOOTER - 20 - (_STRIP_HEIGHT + 24 if has_strip else 0)
    key = shown_slice(source, findings)
    _main_image(canvas, source, findings, lesions, colours, key, bottom)
    if has_strip:
        _strip(canvas, source, findings, lesions, colours, key, bottom + 24)
    below = _column(canvas, findings, colours)
    below = _attention(canvas, source, findings, below)
    _enlarged(canvas, source, findings, lesions, colours, key, below)
    _foot(canvas, findings)
    return np.asarray(canvas.image)


def strip_slices(slices: int, key: int, wanted: tuple[int, ...], span: tuple[int, int]) -> list[int]:
    """Which slices the strip shows, rising: the key slices wanted, then even steps over the span.

    Parameters
    ----------
    key : the slice of the main image, always among them
    wanted : key slices of the lesions, the most important first
    span : first and last slice with a finding; the whole volume without one
    """
    count = min(_STRIP_SLICES, slices)
    pinned = list(dict.fromkeys([key, *wanted]))[:count]
    places = dict.fromkeys(np.rint(np.linspace(span[0], span[1], count)).astype(int).tolist())
    even = [index for index in places if index not in pinned]
    missing = count - len(pinned)
    # Each pinned slice takes the place of the even step nearest to it.
    for index in pinned:
        if len(even) > missing:
            even.remove(min(even, key=lambda step: abs(step - index)))
    chosen = [*pinned, *even[:missing]]
    # A short span: its neighbours, nearest to the key slice first.
    around = sorted(set(range(slices)) - set(chosen), key=lambda index: (abs(index - key), index))
    return sorted([*chosen, *around[: count - len(chosen)]])


def key_slice(source: SourceSeries, lesions: tuple[TrackedLesion, ...]) -> int:
    """The slice shown largest: where the largest lesion has its long axis, else the middle one."""
    if not lesions:
        return source.volume.shape[0] // 2
    return max(lesions, key=lambda tracked: tracked.lesion.voxels).lesion.key_slice


def shown_slice(source: SourceSeries, findings: Findings) -> int:
    """The slice shown largest: see `key_slice`; of structures the one that shows most of them, then most."""
    lesions = findings.lesions_of(findings.deciding_source)
    if not (findings.model.outlines_structures and lesions):
        return key_slice(source, lesions)
    labels = findings.sources[findings.deciding_source].labels
    there = [(len(np.unique(plane[plane > 0])), int((plane > 0).sum())) for plane in labels]
    return max(range(len(there)), key=lambda index: there[index])


def _head(canvas: Canvas, findings: Findings) -> None:
    canvas.text((_MARGIN, 24), findings.model.title, 22, DIM)
    canvas.text(
        (WIDTH - _MARGIN, 24),
        f"AI result · {findings.model.id} {findings.model.version}",
        22,
        DIM,
        right=True,
    )
    words, urgent = headline(findings), is_urgent(findings)
    canvas.text((_MARGIN, 62), words[0].upper() + words[1:], 40, URGENT if urgent else TEXT)
    if urgent:
        # Colour is never the only carrier.
        canvas.text((WIDTH - _MARGIN, 76), "flagged urgent", 24, URGENT, right=True)


def _main_image(
    canvas: Canvas,
    source: SourceSeries,
    findings: Findings,
    lesions: tuple[TrackedLesion, ...],
    colours: dict[int, Rgb],
    key: int,
    bottom: int,
) -> None:
    width, height = _COLUMN - 2 * _MARGIN, bottom - _TOP
    window = grey_window(source)
    view = body_view(source, window, width, height - _CAPTION)
    labels = findings.sources[findings.deciding_source].labels
    image = draw_slice(
        source,
        key,
        view,
        window,
        labels=labels,
        lesions=lesions,
        colours=colours,
        axes=not findings.model.outlines_structures,
    )
    draw_orientation(image, source)
    draw_scale(image, source, view)
    left = _MARGIN + (width - view.width) // 2
    top = _TOP + _CAPTION + (height - _CAPTION - view.height) // 2
    canvas.draw.rectangle((_MARGIN, _TOP, _MARGIN + width, bottom), fill=PANEL)
    canvas.image.paste(image, (left, top))
    canvas.text((_MARGIN + 12, _TOP + 8), image_words(source, key), 18, DIM)


def _attention(canvas: Canvas, source: SourceSeries, findings: Findings, top: int) -> int:
    """The heat map of the class over its strongest slice, small, in the column; returns the y below it."""
    attention = findings.sources[findings.deciding_source].attention
    room = _FOOTER - 20 - top - _CAPTION
    if attention is None or room < _ATTENTION_LEAST:
        return top
    # Where both fit, the enlarged lesion keeps its place below.
    height = min(
        _ATTENTION_MOST, room if room < _ATTENTION_LEAST + _INSET_LEAST + _CAPTION + 16 else room // 2
    )
    index = attention.strongest_slice
    window = grey_window(source)
    view = body_view(source, window, WIDTH - _MARGIN - _COLUMN, height)
    image = draw_heat(source, index, view, window, attention.heat)
    canvas.text((_COLUMN, top), f"{attention.class_name}: {CAPTION}", 17, DIM)
    x, y = _COLUMN, top + 28
    canvas.image.paste(image, (x, y))
    canvas.draw.rectangle((x, y, x + view.width - 1, y + view.height - 1), outline=LINE, width=1)
    return y + view.height + 16


def _enlarged(
    canvas: Canvas,
    source: SourceSeries,
    findings: Findings,
    lesions: tuple[TrackedLesion, ...],
    colours: dict[int, Rgb],
    key: int,
    top: int,
) -> None:
    """The largest lesion of the key slice, or all structures, at the foot of the column, when that is small
    and there is room.
    """
    has_structures = findings.model.outlines_structures
    here = [tracked for tracked in lesions if has_structures or tracked.lesion.key_slice == key]
    room = _FOOTER - 20 - top - _CAPTION
    if not here or room < _INSET_LEAST:
        return
    largest = max(here, key=lambda tracked: tracked.lesion.voxels)
    boxes = [one.lesion.box for one in (here if has_structures else [largest])]
    rows, columns = _around(boxes, 1), _around(boxes, 2)
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    if extent > _ENLARGED_BELOW * max(source.volume.shape[1:]):
        return
    size = min(room, WIDTH - _MARGIN - _COLUMN)
    centre = ((rows.start + rows.stop - 1) / 2, (columns.start + columns.stop - 1) / 2)
    view = close_view(source, centre, max(2.2 * extent, 24.0), size, size)
    image = draw_slice(
        source,
        key,
        view,
        grey_window(source),
        labels=findings.sources[findings.deciding_source].labels,
        lesions=lesions,
        colours=colours,
        numbered=False,
        axes=not has_structures,
    )
    draw_scale(image, source, view)
    x, y = _COLUMN, _FOOTER - 20 - view.height
    canvas.text((x, y - 28), "Enlarged" if has_structures else f"Lesion {largest.number} enlarged", 17, DIM)
    canvas.draw.rectangle((x, y, x + view.width - 1, y + view.height - 1), outline=LINE, width=1)
    canvas.image.paste(image, (x, y))


def _around(boxes: Sequence[Box], axis: int) -> slice:
    """From the first to the last place of all boxes along an axis."""
    return slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))


def image_words(source: SourceSeries, index: int) -> str:
    """Where a reader finds the slice: "Series 4 · image 12", by the numbers a viewer shows."""
    frame = source.frames[index]
    parts = []
    series = frame.header.get("SeriesNumber")
    if series is not None and str(series):
        parts.append(f"Series {series}")
    number = frame.header.get("InstanceNumber")
    if frame.frame_number is not None:
        parts.append(f"frame {frame.frame_number}")
    elif number is not None and str(number):
        parts.append(f"image {number}")
    slices = source.volume.shape[0]
    if slices > 1:
        parts.append(f"slice {index + 1} of {slices}")
    return " · ".join(parts)


def _strip(
    canvas: Canvas,
    source: SourceSeries,
    findings: Findings,
    lesions: tuple[TrackedLesion, ...],
    colours: dict[int, Rgb],
    key: int,
    top: int,
) -> None:
    slices = source.volume.shape[0]
    labels = findings.sources[findings.deciding_source].labels
    touched = np.flatnonzero(labels.any(axis=(1, 2)))
    span = (int(touched[0]), int(touched[-1])) if touched.size else (slices // 8, slices - 1 - slices // 8)
    by_size = sorted(lesions, key=lambda tracked: -tracked.lesion.voxels)
    shown = strip_slices(slices, key, tuple(t.lesion.key_slice for t in by_size), span)
    width = (_COLUMN - 2 * _MARGIN - _GAP * (_STRIP_SLICES - 1)) // _STRIP_SLICES
    window = grey_window(source)
    for place, index in enumerate(shown):
        x = _MARGIN + place * (width + _GAP)
        view = body_view(source, window, width, _STRIP_HEIGHT - 24)
        image = draw_slice(
            source,
            index,
            view,
            window,
            labels=labels,
            lesions=lesions,
            colours=colours,
            line=1,
            numbered=False,
        )
        frame = (x - 1, top - 1, x + width, top + _STRIP_HEIGHT - 24)
        canvas.draw.rectangle(frame, fill=PANEL, outline=TEXT if index == key else PANEL)
        canvas.image.paste(
            image, (x + (width - view.width) // 2, top + (_STRIP_HEIGHT - 24 - view.height) // 2)
        )
        y, right = top + _STRIP_HEIGHT - 20, x + width
        canvas.text((x, y), f"slice {index + 1}", 16, TEXT if index == key else DIM)
        inside = [t.number for t in lesions if (labels[index] == t.lesion.label).any()]
        for number in reversed(inside[:_STRIP_NUMBERS]):
            canvas.text((right, y), str(number), 16, colours[number], right=True)
            right -= 14 if number < 10 else 24


def _column(canvas: Canvas, findings: Findings, colours: dict[int, Rgb]) -> int:
    y = _TOP
    width = WIDTH - _MARGIN - _COLUMN
    deciding = findings.sources[findings.deciding_source]
    if deciding.class_scores:
        y = _class_bars(canvas, findings, y)
    if findings.model.outlines_structures:
        y = draw_legend(canvas, findings, colours, left=_COLUMN, right=WIDTH - _MARGIN, top=y)
    elif findings.lesions:
        y = _table(canvas, findings, colours, y)
    else:
        y = canvas.paragraph(
            (_COLUMN, y), findings.model.negative_statement, 22, width=width, lines_max=4, colour=TEXT
        )
        y += 12
    notes = [*findings.notes, *deciding.notes]
    if len(findings.sources) > 1:
        notes.insert(0, f"{len(findings.sources)} images were read; the most suspicious one is shown.")
    if any(tracked.lesion.long_axis_mm is None for tracked in findings.lesions):
        notes.insert(0, "The image is not calibrated: sizes are in pixels (px).")
    for note in dict.fromkeys(notes):
        if y > _FOOTER - 90:
            break
        y = canvas.paragraph((_COLUMN, y), note, 18, width=width, lines_max=4) + 8
    return y


def _class_bars(canvas: Canvas, findings: Findings, y: int) -> int:
    width = WIDTH - _MARGIN - _COLUMN
    for plan in findings.model.classes:
        score = findings.class_scores.get(plan.name, 0.0)
        chosen = plan.name == findings.class_name
        colour = DIM if not chosen else URGENT if plan.urgent else CALM
        canvas.text((_COLUMN, y), plan.name, 22, TEXT if chosen else DIM)
        canvas.text((WIDTH - _MARGIN, y), f"{score:.2f}", 22, TEXT if chosen else DIM, right=True)
        bar = (_COLUMN, y + 32, _COLUMN + width, y + 44)
        canvas.draw.rectangle(bar, fill=LINE)
        canvas.draw.rectangle((bar[0], bar[1], bar[0] + round(width * score), bar[3]), fill=colour)
        y += 64
    return y + 14


def _table(canvas: Canvas, findings: Findings, colours: dict[int, Rgb], y: int) -> int:
    right = WIDTH - _MARGIN
    columns = (_COLUMN + 150, _COLUMN + 304, right)
    volumes = any(tracked.lesion.volume_ml is not None for tracked in findings.lesions)
    canvas.text((_COLUMN, y), "lesion", 17, DIM)
    for x, name in zip(columns, ("volume" if volumes else "area", "long × short", "score"), strict=True):
        canvas.text((x, y), name, 17, DIM, right=True)
    y += 28
    for tracked in findings.lesions[:_TABLE_ROWS]:
        canvas.draw.line([(_COLUMN, y), (right, y)], fill=LINE)
        canvas.draw.rectangle((_COLUMN, y + 13, _COLUMN + 14, y + 27), fill=colours[tracked.number])
        canvas.text((_COLUMN + 26, y + 8), str(tracked.number), 22)
        score = tracked.lesion.score
        cells = (
            size_words(tracked.lesion),
            axes_words(tracked.lesion),
            "–" if score is None else f"{score:.2f}",
        )
        for x, words in zip(columns, cells, strict=True):
            canvas.text((x, y + 8), words, 21, right=True)
        y += 42
    canvas.draw.line([(_COLUMN, y), (right, y)], fill=LINE)
    more = len(findings.lesions) - _TABLE_ROWS
    if more > 0:
        canvas.text((_COLUMN, y + 8), f"and {more} more in the structured report", 18, DIM)
        y += 30
    return y + 20


def _foot(canvas: Canvas, findings: Findings) -> None:
    canvas.draw.line([(_MARGIN, _FOOTER), (WIDTH - _MARGIN, _FOOTER)], fill=LINE)
    canvas.text((_MARGIN, _FOOTER + 12), RESEARCH_SENTENCE, 24, CAUTION)
    canvas.paragraph(
        (_MARGIN, _FOOTER + 46), findings.model.card_line, 17, width=WIDTH - 2 * _MARGIN, lines_max=2
    )
