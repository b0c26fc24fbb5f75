"""PURE the drawings of a report: FROC, ROC, reliability, risk and coverage, and parts against the whole."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from markupsafe import Markup

from models.evaluation.class_figures import ClassReport
from models.evaluation.gates import StratumFigure
from models.evaluation.lesion_figures import FrocReport
from models.evaluation.svg import Plot, drawing, tag

TENTHS = tuple((tick / 5, f"{tick / 5:g}") for tick in range(6))
FALSE_LOW, FALSE_HIGH = 1 / 16, 8.0  # the FROC axis is logarithmic


def froc_chart(froc: FrocReport) -> Markup:
    """Sensitivity over false lesions per study, with intervals at the usual rates and the shipped setting."""

    def place(rate: float) -> float:
        span = log2(FALSE_HIGH / FALSE_LOW)
        return min(1.0, max(0.0, log2(max(rate, FALSE_LOW) / FALSE_LOW) / span))

    ticks = [
        (place(rate), words)
        for rate, words in zip(
            (0.125, 0.25, 0.5, 1, 2, 4, 8), ("1/8", "1/4", "1/2", "1", "2", "4", "8"), strict=True
        )
    ]
    plot = Plot(
        f"FROC curve over {froc.studies} studies with {froc.lesions} lesions",
        "false lesions per study",
        "share of lesions found",
        ticks,
        TENTHS,
    )
    for point in froc.at_rates:
        plot.bar(place(point.false_per_study), *point.ci95, "range")
    points = [(place(x), y) for x, y in zip(froc.false_per_study, froc.sensitivity, strict=True)]
    plot.line([*points, (1.0, froc.sensitivity[-1])], "curve")
    plot.dot(place(froc.shipped_false_per_study), froc.shipped_sensitivity, "shipped")
    return plot.svg()


def roc_chart(classes: ClassReport) -> Markup:
    """Sensitivity over the share of false positives, and the shipped setting."""
    plot = Plot(
        f"ROC curve for {classes.positive}",
        f"share of other {classes.of} called so",
        f"share called {classes.positive}",
        TENTHS,
        TENTHS,
    )
    plot.line([(0, 0), (1, 1)], "guide")
    plot.line(list(zip(classes.false_positive_rate, classes.sensitivity, strict=True)), "curve")
    plot.dot(classes.shipped_false_positive_rate, classes.shipped_sensitivity, "shipped")
    return plot.svg()


def reliability_chart(classes: ClassReport) -> Markup:
    """What was said against what was so, in bins of equal mass; above the line the model is too unsure."""
    plot = Plot(
        f"reliability of the score of {classes.positive}",
        "mean score of a bin",
        f"share {classes.positive}",
        TENTHS,
        TENTHS,
    )
    plot.line([(0, 0), (1, 1)], "guide")
    points = [(one.mean_probability, one.rate) for one in classes.reliability]
    plot.line(points, "curve thin")
    for x, y in points:
        plot.dot(x, y, "dot", 3.5)
    return plot.svg()


def coverage_chart(classes: ClassReport) -> Markup:
    """Share wrong among the surest, over how many are answered."""
    highest = max(0.1, *classes.risk)
    top = 1.0 if highest > 0.5 else 0.5 if highest > 0.2 else 0.2
    ticks = [(tick / 4, f"{tick / 4 * top:g}") for tick in range(5)]
    plot = Plot("share wrong over coverage", "share answered, the surest first", "share wrong", TENTHS, ticks)
    points = [(x, y / top) for x, y in zip(classes.coverage, classes.risk, strict=True)]
    plot.line(points, "curve")
    return plot.svg()


def forest_chart(rows: Sequence[StratumFigure], words: str) -> Markup:
    """Each part with its interval against the dashed line of the whole."""
    width, left, right, step = 680.0, 270.0, 130.0, 22.0
    whole = next(row.value for row in rows if row.division == "all")
    height = step * len(rows) + 34

    def at(value: float) -> float:
        return left + value * (width - left - right)

    parts = [
        tag("line", x1=at(whole), x2=at(whole), y1=4, y2=height - 28, class_="guide"),
        *(
            tag("text", f"{tick / 5:g}", x=at(tick / 5), y=height - 12, text_anchor="middle")
            for tick in range(6)
        ),
        tag("line", x1=at(0), x2=at(1), y1=height - 26, y2=height - 26, class_="axis"),
    ]
    for number, row in enumerate(rows):
        y = step * number + 16
        label = "all" if row.division == "all" else f"{row.division}: {row.part}"
        parts.append(tag("text", label, x=0, y=y + 4))
        if row.ci95 is not None:
            parts.append(tag("line", x1=at(row.ci95[0]), x2=at(row.ci95[1]), y1=y, y2=y, class_="interval"))
        parts.append(tag("circle", cx=at(row.value), cy=y, r=4 if row.ci95 else 3, class_="dot"))
        parts.append(tag("text", f"{row.value:.2f}  (n {row.n})", x=width - right + 14, y=y + 4))
    return drawing(width, height, f"{words} of all cases and of parts of them", parts)
