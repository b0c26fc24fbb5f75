"""PURE the curves of a report: figures over the severity of corruptions and the strength of attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from markupsafe import Markup

from models.evaluation.svg import Plot
from models.robustness.adversarial import GREY_LEVELS, Adversarial
from models.robustness.corruptions import SEVERITIES
from models.robustness.drops import METRIC_WORDS, POINTS, Drop
from models.robustness.natural import Natural

LINES = {"dice": "curve", "accuracy": "curve second", "auc": "curve third"}
DOTS = {"dice": "dot", "accuracy": "dot second", "auc": "dot third"}


@dataclass(frozen=True)
class NamedChart:
    """A drawing and what it is about."""

    name: str
    words: str
    drawing: Markup


def natural_charts(natural: Natural) -> list[NamedChart]:
    """One drawing for each corruption, all on one scale; bars are the paired interval below the start."""
    values = [drop.after for curve in natural.curves for step in curve.steps for drop in step.drops] + [
        drop.before for curve in natural.curves for step in curve.steps for drop in step.drops
    ]
    low = _floor(values)
    ticks = [(place / 5, str(place) if place else "none") for place in range(len(SEVERITIES) + 1)]
    charts = []
    for curve in natural.curves:
        series = {
            metric: [drop for step in curve.steps for drop in step.drops if drop.metric == metric]
            for metric in METRIC_WORDS
        }
        title = f"{curve.words}: figures over severity"
        plot = _plot(title, "severity", low, ticks)
        for metric, drops in series.items():
            _draw(plot, metric, drops, [place / 5 for place in SEVERITIES], low)
        charts.append(NamedChart(curve.corruption, curve.words, plot.svg()))
    return charts


def attack_charts(adversarial: Adversarial) -> list[NamedChart]:
    """One drawing for each attack on each head."""
    low = _floor([drop.after for row in adversarial.rows for drop in row.drops])
    places = [(index + 1) / len(GREY_LEVELS) for index in range(len(GREY_LEVELS))]
    ticks = [(0.0, "0"), *((place, f"{level:g}") for place, level in zip(places, GREY_LEVELS, strict=True))]
    charts = []
    for head, attack in dict.fromkeys((row.head, row.attack) for row in adversarial.rows):
        rows = [row for row in adversarial.rows if (row.head, row.attack) == (head, attack)]
        words = f"{attack} on the {head}"
        plot = _plot(f"{words}: figures over strength", "grey levels of 255", low, ticks)
        for metric in METRIC_WORDS:
            drops = [drop for row in rows for drop in row.drops if drop.metric == metric]
            _draw(plot, metric, drops, places, low)
        charts.append(NamedChart(f"{attack}-{head}", words, plot.svg()))
    return charts


def _floor(values: Sequence[float]) -> float:
    """The tenth below the lowest value: where all scales of a page begin."""
    return max(0.0, floor(10 * min(values, default=0.0)) / 10)


def _plot(title: str, x_words: str, low: float, ticks: Sequence[tuple[float, str]]) -> Plot:
    tenths = range(round(10 * low), 11, 2 if low < 0.5 else 1)
    levels = [((tenth / 10 - low) / (1 - low), f"{tenth / 10:g}") for tenth in tenths]
    return Plot(title, x_words, "", ticks, levels, width=250, height=210)


def _draw(plot: Plot, metric: str, drops: Sequence[Drop], places: Sequence[float], low: float) -> None:
    """A line from the untouched images on; nothing where the metric is not known at every place."""
    if len(drops) != len(places):
        return

    def at(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (1 - low)))

    for place, drop in zip(places, drops, strict=True):
        if drop.ci95 is not None:
            ends = [at(drop.before - points / POINTS) for points in drop.ci95]
            plot.bar(place, min(ends), max(ends), f"{LINES[metric]} thin")
    plot.line(
        [(0.0, at(drops[0].before)), *zip(places, (at(one.after) for one in drops), strict=True)],
        LINES[metric],
    )
    for place, drop in zip(places, drops, strict=True):
        plot.dot(place, at(drop.after), DOTS[metric], 2.5)
