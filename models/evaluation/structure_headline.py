"""PURE the first page for structures in words: how well each is outlined, how far its volume is off."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.figures import ReportFigure
from models.evaluation.headline import plain_interval
from models.evaluation.scales import Scale
from models.evaluation.structure_metrics import (
    DICE,
    NSD,
    OF_ALL,
    RELATIVE_BIAS,
    VOLUME_ERROR,
    VOLUME_ICC,
    Form,
)
from models.evaluation.structure_rows import StructureRow

EACH_MAX = 4  # structures with a sentence of their own; of more the worst have one


def structure_headline(
    rows: Sequence[StructureRow], figures: Sequence[ReportFigure], scale: Scale
) -> tuple[str, ...]:
    """Sentences, leaving out what could not be measured."""
    known = {figure.metric: figure for figure in figures}

    def of(row: StructureRow, form: Form) -> ReportFigure | None:
        return known.get(form.metric(row.key))

    measured = [(row, figure) for row in rows if (figure := of(row, DICE)) is not None]
    told, few = measured, len(measured) <= EACH_MAX
    sentences: list[str | None] = []
    if not few:
        told = sorted(measured, key=lambda one: one[1].value)[: EACH_MAX - 1]
        sentences.append(overall(known.get(OF_ALL), len(rows)))
    sentences += [
        outlined(row, figure, of(row, VOLUME_ERROR), of(row, RELATIVE_BIAS), is_worst=not few)
        for row, figure in told
    ]
    sentences.append(borders([figure for row, _ in told if (figure := of(row, NSD))], told, scale))
    sentences.append(volumes([(row, figure) for row, _ in told if (figure := of(row, VOLUME_ICC))]))
    sentences.append(left_out(rows, known[OF_ALL].of if OF_ALL in known else "cases"))
    return tuple(sentence for sentence in sentences if sentence is not None)


def overall(figure: ReportFigure | None, count: int) -> str | None:
    """Mean Dice over many structures."""
    if figure is None:
        return None
    return (
        f"Outlines {count} structures; model and reader overlap by {figure.value:.2f} on a scale from 0 to 1 "
        f"on average (Dice{plain_interval(figure)}; {figure.n} {figure.of}). The worst of them:"
    )


def outlined(
    row: StructureRow,
    dice: ReportFigure,
    error: ReportFigure | None,
    bias: ReportFigure | None,
    *,
    is_worst: bool,
) -> str:
    """One structure: overlap, and how far its volume is off."""
    scale = "" if is_worst else " on a scale from 0 to 1"
    counted = f"{plain_interval(dice)}; {dice.n} {dice.of}".lstrip(",; ")
    words = f"{row.label}: outlined with a Dice of {dice.value:.2f}{scale} ({counted})"
    if error is None:
        return f"{words}."
    words += f"; its volume is off by {amount(error.value)} {error.unit} on average"
    return f"{words}{direction(bias)}."


def direction(bias: ReportFigure | None) -> str:
    """Whether the volumes are too large or too small as a whole."""
    if bias is None:
        return ""
    percent = f"{100 * abs(bias.value):.1f} %"
    interval = (
        ""
        if bias.ci95 is None
        else f" (95 % interval {100 * bias.ci95[0]:+.1f} to {100 * bias.ci95[1]:+.1f} %)"
    )
    if bias.ci95 is not None and bias.ci95[0] <= 0 <= bias.ci95[1]:
        return f", neither too large nor too small as a whole{interval}"
    return f", as a whole {percent} too {'large' if bias.value > 0 else 'small'}{interval}"


def borders(
    figures: Sequence[ReportFigure], told: Sequence[tuple[StructureRow, ReportFigure]], scale: Scale
) -> str | None:
    """How much of the borders agrees."""
    if not figures or len(figures) != len(told):
        return None
    values = [f"{100 * figure.value:.0f}" for figure in figures]
    shares = values[0] if len(set(values)) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"
    whose = "" if len(told) == 1 else " (in the order above)"
    return (
        f"{shares} % of the borders of model and reader lie within {scale.tolerance:g} {scale.length_unit} "
        f"of each other{whose if len(set(values)) > 1 else ''}."
    )


def volumes(figures: Sequence[tuple[StructureRow, ReportFigure]]) -> str | None:
    """Agreement of volumes, and between what limits the model's stand around the reader's."""
    limits = [
        f"{row.label} {row.limits[0]:+.2f} to {row.limits[1]:+.2f} {row.unit} "
        f"(agreement, ICC, {figure.value:.2f})"
        for row, figure in figures
        if row.limits is not None
    ]
    if not limits:
        return None
    return f"Around the reader's volume lie 95 of 100 of the model's: {'; '.join(limits)}."


def left_out(rows: Sequence[StructureRow], of: str) -> str | None:
    """Structures that were not outlined at all, and those outlined where they are not."""
    there, missed = sum(row.present for row in rows), sum(row.missed for row in rows)
    absent, alarms = sum(row.absent for row in rows), sum(row.false_alarms for row in rows)
    if not there:
        return None
    words = (
        f"Left out no structure that the reader outlined ({there} in {max(row.present for row in rows)} {of})"
        if not missed
        else f"Left out {missed} of {there} structures that the reader outlined"
    )
    if absent:
        words += f"; outlined {alarms or 'none'} of {absent} that the reader did not"
    return f"{words}."


def amount(value: float) -> str:
    """Two decimals, or as many as a small number needs."""
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
