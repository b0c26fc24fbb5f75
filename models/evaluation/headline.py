"""PURE five sentences of the first page: what the figures mean, in words a radiologist uses."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.class_figures import ClassReport
from models.evaluation.figures import ReportFigure
from models.evaluation.scales import Scale
from models.training.cases import DataKind


def headline(
    kind: DataKind, figures: Sequence[ReportFigure], classes: ClassReport | None, scale: Scale
) -> tuple[str, ...]:
    """Sentences for a data set, leaving out what could not be measured."""
    known = {figure.metric: figure for figure in figures}
    sentences = [
        finds(known.get("lesion_sensitivity_large"), f"{scale.headline_diameter:g} {scale.length_unit}"),
        false_ones(known.get("studies_with_false_lesion")),
    ]
    if kind == "brain-flair":
        sentences += [
            outlines(known.get("dice_per_patient_mean")),
            sizes(known.get("size_bias_relative"), "volumes"),
            slices(known.get("class_sensitivity"), known.get("class_specificity")),
        ]
    elif kind == "own":
        sentences += [
            outlines(known.get("dice_per_case_mean")),
            normals(known.get("negatives_drawn_on")),
            classed(known.get("class_accuracy")),
        ]
    else:
        sentences += [
            outlines(known.get("dice_per_lesion_image_mean")),
            normals(known.get("normals_drawn_on")),
            malignant(known.get("class_sensitivity"), known.get("class_specificity")),
        ]
    return tuple(sentence for sentence in sentences if sentence is not None)


def finds(figure: ReportFigure | None, size: str) -> str | None:
    """Sensitivity of larger lesions."""
    if figure is None:
        return None
    return (
        f"Finds {of_ten(figure.value)} lesions of {size} and more across "
        f"({round(figure.value * figure.n)} of {figure.n}{percent_interval(figure)})."
    )


def false_ones(figure: ReportFigure | None) -> str | None:
    """Studies with a false lesion."""
    if figure is None:
        return None
    drawn = round(figure.value * figure.n)
    if drawn == 0:
        return f"Drew no false lesion in {figure.n} {figure.of}{percent_interval(figure, opening=' (')}."
    return (
        f"Draws a false lesion in {one_in(figure.value)} {figure.of} "
        f"({drawn} of {figure.n}{percent_interval(figure)})."
    )


def outlines(figure: ReportFigure | None) -> str | None:
    """Mean Dice."""
    if figure is None:
        return None
    return (
        f"Where there is a lesion, model and reader overlap by {figure.value:.2f} on a scale from 0 to 1 "
        f"(Dice{plain_interval(figure)}; {figure.n} {figure.of})."
    )


def sizes(figure: ReportFigure | None, what: str) -> str | None:
    """Bias of sizes."""
    if figure is None:
        return None
    direction = "larger" if figure.value > 0 else "smaller"
    ci95 = figure.ci95
    words = "" if ci95 is None else f" (95 % interval {100 * ci95[0]:+.0f} to {100 * ci95[1]:+.0f} %)"
    return f"Its {what} are {100 * abs(figure.value):.0f} % {direction} than the reader's on average{words}."


def slices(found: ReportFigure | None, left: ReportFigure | None) -> str | None:
    """Slices with and without a lesion."""
    if found is None or left is None:
        return None
    return (
        f"Marks {of_ten(found.value)} slices that show a lesion{percent_interval(found, opening=' (')} "
        f"and leaves {of_ten(left.value)} others alone{percent_interval(left, opening=' (')}."
    )


def normals(figure: ReportFigure | None) -> str | None:
    """Normal images drawn on."""
    if figure is None:
        return None
    return (
        f"Draws on {round(figure.value * figure.n)} of {figure.n} {figure.of} without a lesion"
        f"{percent_interval(figure, opening=' (')}."
    )


def classed(figure: ReportFigure | None) -> str | None:
    """Cases whose class is right."""
    if figure is None:
        return None
    interval = percent_interval(figure, opening=" (")
    return f"Names the right class for {of_ten(figure.value)} {figure.of}{interval}."


def malignant(found: ReportFigure | None, left: ReportFigure | None) -> str | None:
    """Images classed malignant."""
    if found is None or left is None:
        return None
    return (
        f"Calls {of_ten(found.value)} malignant lesions malignant{percent_interval(found, opening=' (')}, "
        f"and {round(100 * (1 - left.value))} of 100 other images, too{complement_interval(left)}."
    )


def of_ten(share: float) -> str:
    """A share as a count of ten; of a hundred where ten would round to all or none of them."""
    if share in (0.0, 1.0):
        return "all" if share == 1 else "none of the"
    tens = round(share * 10)
    if 0 < tens < 10:
        return f"{tens} of 10"
    hundreds = round(share * 100)
    if 0 < hundreds < 100:
        return f"{hundreds} of 100"
    return "nearly all" if share > 0.5 else "hardly any"


def one_in(share: float) -> str:
    """A rate as one in so many; as a count of ten from a third on."""
    return f"{round(share * 10)} of 10" if share >= 1 / 3 else f"1 of {round(1 / share)}"


def percent_interval(figure: ReportFigure, opening: str = "; ") -> str:
    """The interval of a share in percent."""
    if figure.ci95 is None:
        return ""
    low, high = figure.ci95
    return f"{opening}95 % interval {100 * low:.0f} to {100 * high:.0f} %{')' if opening == ' (' else ''}"


def complement_interval(figure: ReportFigure) -> str:
    """The interval of what is left of a share, in percent."""
    if figure.ci95 is None:
        return ""
    low, high = figure.ci95
    return f" (95 % interval {100 * (1 - high):.0f} to {100 * (1 - low):.0f} %)"


def plain_interval(figure: ReportFigure) -> str:
    """The interval as it is."""
    return "" if figure.ci95 is None else f", 95 % interval {figure.ci95[0]:.2f} to {figure.ci95[1]:.2f}"
