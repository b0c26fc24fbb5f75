"""PURE the drawings of structures: found sizes against true ones, as differences over their mean."""

from __future__ import annotations

from math import ceil, floor, log10

from markupsafe import Markup

from models.evaluation.structure_rows import StructureRow
from models.evaluation.svg import Plot


def agreement_chart(row: StructureRow) -> Markup | None:
    """Differences over the mean of both, with bias and limits (Bland and Altman); None below two cases."""
    if row.bias is None or row.limits is None:
        return None
    means = [(truth + found) / 2 for truth, found in row.sizes]
    differences = [found - truth for truth, found in row.sizes]
    x_ticks = round_ticks(min(means), max(means))
    y_ticks = round_ticks(min(*differences, row.limits[0], 0.0), max(*differences, row.limits[1], 0.0))

    def at(value: float, ticks: list[float]) -> float:
        return (value - ticks[0]) / (ticks[-1] - ticks[0])

    plot = Plot(
        f"{row.label}: found less true size over the mean of both",
        f"mean of both, {row.unit}",
        f"found less true, {row.unit}",
        [(at(tick, x_ticks), f"{tick:g}") for tick in x_ticks],
        [(at(tick, y_ticks), f"{tick:g}") for tick in y_ticks],
    )
    plot.line([(0.0, at(0.0, y_ticks)), (1.0, at(0.0, y_ticks))], "curve thin")
    for level in row.limits:
        plot.line([(0.0, at(level, y_ticks)), (1.0, at(level, y_ticks))], "guide")
    plot.line([(0.0, at(row.bias, y_ticks)), (1.0, at(row.bias, y_ticks))], "curve second")
    for mean, difference in zip(means, differences, strict=True):
        plot.dot(at(mean, x_ticks), at(difference, y_ticks), "dot", 2.5)
    return plot.svg()


def round_ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers, the first at or below `low`, the last at or above `high`."""
    span = high - low or abs(high) or 1.0
    magnitude = 10.0 ** floor(log10(span / 4))
    step = next(part * magnitude for part in (1, 2, 5, 10) if span / (part * magnitude) <= 6)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
