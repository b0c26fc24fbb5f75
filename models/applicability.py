"""Which series a package reads: conditions on DICOM attributes as data. Who reads headers evaluates them.

Meaning, for the evaluator (pipeline.reading.selection):
- An attribute is named by its DICOM keyword. Texts are compared stripped and without case. Of an attribute
  with several values one that fits is enough. An absent or empty attribute is unknown.
- `equals`, `in`: the value, or one of the values. `matches`: a regular expression found anywhere in the text.
  `between`: a number from low to high, both included. `exists`: true when known, false when unknown.
  `within_angle`: degrees between the slice normal and the axis named by `attribute`.
- `unknown` says what an unknown attribute means: refuse (the condition fails) or accept (it holds). `exists`
  never meets it.
- A series is taken when every condition of `all` holds, in every group of `any` at least one option holds
  with all its conditions, and no condition of `none` holds. The first failure's code and sentence are the
  reason.
- Series that are taken are ranked by the sum of the weights of the `prefer` rules that hold.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.steps import Strict

Text = Annotated[str, Field(min_length=1, max_length=300)]
Keyword = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{1,63}$|^(axial|coronal|sagittal)$")]
RefusalCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,63}$")]
Operator = Literal["equals", "in", "matches", "between", "exists", "within_angle"]
Value = str | float | bool | tuple[str, ...] | tuple[float, float]


class Test(Strict):
    """One comparison of an attribute."""

    attribute: Keyword
    op: Operator
    value: Value
    unknown: Literal["refuse", "accept"] = "refuse"

    @model_validator(mode="after")
    def _value_fits(self) -> Test:
        value = self.value
        fits = {
            "equals": isinstance(value, str | float) and not isinstance(value, bool),
            "in": isinstance(value, tuple)
            and all(isinstance(item, str) for item in value)
            and len(value) > 0,
            "matches": isinstance(value, str),
            "between": isinstance(value, tuple)
            and len(value) == 2
            and all(isinstance(item, float | int) for item in value),
            "exists": isinstance(value, bool),
            "within_angle": isinstance(value, float) and self.attribute in ("axial", "coronal", "sagittal"),
        }[self.op]
        if not fits:
            raise ValueError(f"{self.attribute} {self.op}: the value {value!r} does not fit the operator")
        if self.op == "matches" and isinstance(value, str):
            if len(value) > 200:
                raise ValueError(f"{self.attribute} matches: pattern longer than 200 characters")
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(
                    f"{self.attribute} matches: {value!r} is no regular expression: {error}"
                ) from error
        return self


class Condition(Test):
    """A comparison that must hold (or must not, under `none`), with the reason given when it fails."""

    code: RefusalCode
    sentence: Text


class AnyOf(Strict):
    """At least one option must hold; an option holds when all its comparisons do."""

    options: tuple[tuple[Test, ...], ...] = Field(min_length=1)
    code: RefusalCode
    sentence: Text


class Preference(Test):
    """A comparison that makes a series the better choice by `weight` (negative: the worse)."""

    weight: float


class Applicability(Strict):
    """All conditions on a series."""

    all: tuple[Condition, ...] = ()
    any: tuple[AnyOf, ...] = ()
    none: tuple[Condition, ...] = ()
    min_slices: int = Field(default=1, ge=1)
    max_slices: int = Field(default=1000, ge=1)
    pixel_spacing_mm: tuple[float, float] | None = None  # allowed range; None: any, also unknown
    slice_spacing_mm: tuple[float, float] | None = None
    field_of_view_mm: tuple[float, float] | None = None  # rows and columns, each; a crop has an upper end
    stack_extent_mm: tuple[float, float] | None = None  # slices times their distance
    max_angle_from_axial_degrees: float | None = Field(default=None, ge=0, le=90)
    prefer: tuple[Preference, ...] = ()
