"""The block `uncertainty` of a package: from the agreement of an image and its mirror image to a quality."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.calibration import Curve
from models.steps import Strict

Share = Annotated[float, Field(ge=0, le=1)]


class Usefulness(Strict):
    """Whether keeping the surest outlines keeps the better ones, on cases left out of the fit.

    area : mean over all coverages of what is missing to a Dice of 1 among the surest cases
    area_by_chance : the same in random order, which is the mean over all cases
    gain95 : 95 % interval of area_by_chance - area
    """

    area: Share
    area_by_chance: Share
    gain95: tuple[Annotated[float, Field(ge=-1, le=1)], Annotated[float, Field(ge=-1, le=1)]]
    n: int = Field(ge=1)

    @property
    def is_shown(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.gain95[0] > 0


class Uncertainty(Strict):
    """`dice` reads agreement as predicted Dice. Results say it only where `usefulness.is_shown`.

    size_factor : nine of ten true sizes lay between the drawn size divided by it and multiplied by it
    """

    source: Literal["flips"]
    dice: Curve
    size_factor: float = Field(ge=1, le=100)
    usefulness: Usefulness

    @model_validator(mode="after")
    def _in_order(self) -> Uncertainty:
        low, high = self.usefulness.gain95
        if low > high:
            raise ValueError("usefulness.gain95 must rise")
        return self
