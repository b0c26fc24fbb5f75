"""PURE: whether an image fits what a package asks, and what speaks for it; see models.applicability."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from models.applicability import Applicability, Condition, Test
from pipeline.reading.assemble import StackRules, degrees_between
from pipeline.reading.image_planes import planes_of
from pipeline.reading.refusals import Refusal, refuse

AXES: Final = {
    "axial": (0.0, 0.0, 1.0),
    "coronal": (0.0, 1.0, 0.0),
    "sagittal": (1.0, 0.0, 0.0),
}
_SHOWN_MAX: Final = 40
_OTHER_SERIES: Final = (
    "Nothing to do if another series of the study fits; else look at the rule on the model's card."
)


@dataclass(frozen=True)
class Verdict:
    """Whether an image fits, and why.

    Parameters
    ----------
    refusal : None when it fits
    evidence : attributes that made it fit, as `Series Description "AX FLAIR"`
    weight : sum of the preferences that hold
    """

    refusal: Refusal | None
    evidence: tuple[str, ...] = ()
    weight: float = 0.0


def judge(rules: Applicability, header: Dataset) -> Verdict:
    """Hold one image against the conditions of a package; the first that fails is the reason."""
    for condition in rules.all:
        if not holds(condition, header):
            return Verdict(_failed(condition, header, (condition,)))
    evidence = [_evidence(test, header) for test in rules.all if test.op in ("in", "matches")]
    for group in rules.any:
        held = next((o for o in group.options if all(holds(test, header) for test in o)), None)
        if held is None:
            return Verdict(_failed(group, header, [test for option in group.options for test in option]))
        evidence.extend(_evidence(test, header) for test in held)
    for condition in rules.none:
        if holds(condition, header):
            return Verdict(_failed(condition, header, (condition,)))
    weight = sum(rule.weight for rule in rules.prefer if holds(rule, header))
    return Verdict(None, tuple(dict.fromkeys(e for e in evidence if e)), weight)


def stack_rules(rules: Applicability) -> StackRules:
    """What `pipeline.reading.assemble` must hold a stack to."""
    angle = rules.max_angle_from_axial_degrees
    return StackRules(
        slices_min=rules.min_slices,
        slices_max=rules.max_slices,
        axis=None if angle is None else AXES["axial"],
        axis_degrees_max=90.0 if angle is None else angle,
    )


def spacing_refusal(
    rules: Applicability, pixel_mm: tuple[float, float] | None, slice_mm: float | None
) -> Refusal | None:
    """Whether spacings of an assembled stack are outside the package's ranges; unknown ones are not."""
    if rules.pixel_spacing_mm is not None and pixel_mm is not None:
        least, most = rules.pixel_spacing_mm
        if min(pixel_mm) < least or max(pixel_mm) > most:
            found = f"{pixel_mm[0]:g} x {pixel_mm[1]:g} mm"
            return refuse("PIXEL-SPACING", found=found, least=least, most=most)
    if rules.slice_spacing_mm is not None and slice_mm is not None:
        least, most = rules.slice_spacing_mm
        if not least <= slice_mm <= most:
            return refuse("SLICE-SPACING", found=f"{slice_mm:g} mm", least=least, most=most)
    return None


def extent_refusal(
    rules: Applicability,
    shape: tuple[int, int, int],
    pixel_mm: tuple[float, float] | None,
    slice_mm: float | None,
) -> Refusal | None:
    """Whether a stack (slices, rows, columns) covers more or less than the package reads.

    An unknown spacing is accepted, as by `spacing_refusal`.
    """
    slices, rows, columns = shape
    if rules.field_of_view_mm is not None and pixel_mm is not None:
        least, most = rules.field_of_view_mm
        high, wide = rows * pixel_mm[0], columns * pixel_mm[1]
        if min(high, wide) < least or max(high, wide) > most:
            return refuse("FIELD-OF-VIEW", found=f"{high:.0f} x {wide:.0f} mm", least=least, most=most)
    if rules.stack_extent_mm is not None and slice_mm is not None:
        least, most = rules.stack_extent_mm
        deep = slices * slice_mm
        if not least <= deep <= most:
            return refuse("STACK-EXTENT", found=f"{deep:.0f} mm", least=least, most=most)
    return None


def angle_from(axis: str, header: Dataset) -> float | None:
    """Degrees between the slice normal of an image and an axis of the body; None without orientation."""
    plane = planes_of([header])[0]
    if plane.row_direction is None:
        return None
    angle = degrees_between(plane.normal, np.array(AXES[axis]))
    return min(angle, 180.0 - angle)


def is_known(attribute: str, header: Dataset) -> bool:
    """Whether a header says anything by an attribute: it is there, and not empty."""
    if attribute in AXES:
        return angle_from(attribute, header) is not None
    return bool(_texts(header, attribute))


def holds(test: Test, header: Dataset) -> bool:
    """Whether one comparison holds for an image, see models.applicability."""
    if test.op == "exists":
        return is_known(test.attribute, header) is test.value
    if not is_known(test.attribute, header):
        return test.unknown == "accept"
    if test.op == "within_angle":
        angle = angle_from(test.attribute, header)
        return angle is not None and isinstance(test.value, float) and angle <= test.value
    return any(_compares(test, text) for text in _texts(header, test.attribute))


def _compares(test: Test, text: str) -> bool:
    value: Any = test.value
    if test.op == "between":
        number = _as_number(text)
        return number is not None and value[0] <= number <= value[1]
    if test.op == "matches":
        return re.search(value, text, re.IGNORECASE) is not None
    wanted = value if test.op == "in" else (value,)
    return any(_same(text, item) for item in wanted)


def _same(text: str, item: str | float) -> bool:
    if isinstance(item, str):
        return text.casefold() == item.strip().casefold()
    return _as_number(text) == item


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _texts(header: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as stripped texts, empty ones left out; bounded for the patterns' sake."""
    value = header.get(keyword)
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    texts = (str(item).strip()[:300] for item in values if item is not None)
    return [text for text in texts if text]


def evidence_of(attribute: str, header: Dataset) -> str:
    """An attribute and its value as `judge` quotes them."""
    return _evidence(Test(attribute=attribute, op="exists", value=True), header)


def _failed(reason: Condition | Any, header: Dataset, tests: Sequence[Test]) -> Refusal:
    """The package's own code and sentence, with what was found instead."""
    found = list(dict.fromkeys(_evidence(test, header) or f"no {_name(test.attribute)}" for test in tests))
    sentence = f"{reason.sentence.rstrip('.')} (found: {', '.join(found[:4])})."
    return Refusal(reason.code.upper().replace("_", "-"), sentence, _OTHER_SERIES)


def _evidence(test: Test, header: Dataset) -> str:
    """An attribute and its value for people; empty when it is unknown."""
    if test.attribute in AXES:
        angle = angle_from(test.attribute, header)
        return "" if angle is None else f"{test.attribute} {angle:.0f}°"
    texts = _texts(header, test.attribute)
    if not texts:
        return ""
    shown = "\\".join(texts)[:_SHOWN_MAX]
    return (
        f"{_name(test.attribute)} {shown}"
        if _as_number(shown) is not None
        else f'{_name(test.attribute)} "{shown}"'
    )


def _name(keyword: str) -> str:
    if keyword in AXES:
        return "orientation"
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else dictionary_description(tag)
