"""PURE: the curves of a run, loss above and figures of the inner part below, as one SVG file that stands
alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from models.evaluation.svg import Plot, tag

NOT_CURVES = ("step", "share", "seconds")
COLOURS = ("#0b5cad", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0f766e", "#475569")
WIDTH, HEIGHT, LEGEND = 640.0, 300.0, 150.0
POINTS_MAX = 400
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.frame{fill:none;stroke:#999}"
    ".grid{stroke:#ddd}polyline{fill:none;stroke-width:1.6}"
    + "".join(f".c{number}{{stroke:{colour}}}" for number, colour in enumerate(COLOURS))
)


def curves_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the rows of metrics.jsonl; names that begin with `inner_` get a frame of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in NOT_CURVES))
    frames = [
        ("loss", [name for name in names if not name.startswith("inner_")]),
        ("figures of the inner part", [name for name in names if name.startswith("inner_")]),
    ]
    drawn = [_frame(title, chosen, rows) for title, chosen in frames if chosen]
    parts = "".join(
        f'<svg y="{HEIGHT * number:g}" width="{WIDTH + LEGEND:g}" height="{HEIGHT:g}">{part}</svg>'
        for number, part in enumerate(drawn)
    )
    width, height = WIDTH + LEGEND, HEIGHT * max(1, len(drawn))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{parts}</svg>\n'
    )


def _frame(title: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Markup:
    last = max(int(row["step"]) for row in rows)
    values = [float(row[name]) for row in rows for name in names if name in row]
    low, high, step = _axis(min(values), max(values))
    ticks = [
        ((low + step * number - low) / (high - low), f"{low + step * number:.4g}")
        for number in range(round((high - low) / step) + 1)
    ]
    plot = Plot(
        f"{title} over {last} steps",
        "step",
        title,
        [(tick / 4, f"{last * tick / 4:g}") for tick in range(5)],
        ticks,
        width=WIDTH,
        height=HEIGHT,
    )
    for number, name in enumerate(names):
        points = [
            (int(row["step"]) / last, (float(row[name]) - low) / (high - low)) for row in rows if name in row
        ]
        colour = f"c{number % len(COLOURS)}"
        thinned = points[:: max(1, math.ceil(len(points) / POINTS_MAX))]
        plot.line([*thinned, points[-1]], colour)
        words = f"{name.removeprefix('inner_').replace('_', ' ')} {float(_last(rows, name)):.3f}"
        y = 24 + 18 * number
        plot.parts.append(
            tag("line", x1=WIDTH, x2=WIDTH + 16, y1=y - 4, y2=y - 4, class_=colour, stroke_width=3)
        )
        plot.parts.append(tag("text", words, x=WIDTH + 22, y=y))
    # The drawing is as wide as its frame; the legend stands beside it.
    return Markup(str(plot.svg()).replace(f'viewBox="0 0 {WIDTH:g} ', f'viewBox="0 0 {WIDTH + LEGEND:g} ', 1))


def _last(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return next(float(row[name]) for row in reversed(rows) if name in row)


def _axis(low: float, high: float) -> tuple[float, float, float]:
    """Round ends around the values, from 0 where they are positive, and the distance of ticks."""
    low = min(0.0, low)
    span = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power * 5 >= span)
    return math.floor(low / step) * step, max(math.ceil(high / step), 1) * step, step
