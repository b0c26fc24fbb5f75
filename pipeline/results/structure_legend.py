"""The structures of a summary picture as a legend: colour, name, size, and what was not outlined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.results.canvas import DIM, LINE, TEXT, Canvas, Rgb
from pipeline.results.findings import Findings
from pipeline.results.structures import totals_of
from pipeline.results.words import size_words, volume_words

_ROWS: Final = 12
_ROW: Final = 40
_NAME_LETTERS: Final = 24  # what fits beside a size


def draw_legend(
    canvas: Canvas, findings: Findings, colours: Mapping[int, Rgb], *, left: int, right: int, top: int
) -> int:
    """Draw the structures of the source that decides; returns the y below.

    Parameters
    ----------
    colours : by number of the structure
    """
    source = findings.deciding_source
    found = {tracked.number: tracked for tracked in findings.lesions_of(source)}
    has_volumes = any(one.lesion.volume_ml is not None for one in found.values())
    canvas.text((left, top), "structure", 17, DIM)
    canvas.text((right, top), "volume" if has_volumes or not found else "area", 17, DIM, right=True)
    y = top + 28
    for plan in findings.model.structures[:_ROWS]:
        canvas.draw.line([(left, y), (right, y)], fill=LINE)
        tracked = found.get(plan.number)
        colour = colours.get(plan.number, LINE)
        box = (left, y + 12, left + 16, y + 28)
        canvas.draw.rectangle(box, fill=colour if tracked else None, outline=colour)
        ink = TEXT if tracked else DIM
        canvas.text((left + 28, y + 7), f"{plan.number}  {_short(plan.label)}", 20, ink)
        size = size_words(tracked.lesion) if tracked else "not outlined"
        canvas.text((right, y + 7), size, 20, ink, right=True)
        y += _ROW
    more = len(findings.model.structures) - _ROWS
    if more > 0:
        canvas.text((left, y + 8), f"and {more} more in the structured report", 18, DIM)
        y += _ROW
    for label, volume in totals_of(findings, source).items():
        canvas.draw.line([(left, y), (right, y)], fill=LINE)
        canvas.text((left + 28, y + 7), _short(label), 20)
        told = "–" if volume is None else f"{volume_words(volume)} mL"
        canvas.text((right, y + 7), told, 20, right=True)
        y += _ROW
    canvas.draw.line([(left, y), (right, y)], fill=LINE)
    return y + 20


def _short(label: str) -> str:
    return label if len(label) <= _NAME_LETTERS else label[: _NAME_LETTERS - 1].rstrip() + "…"
