"""PURE class scores that mean what they say: the block `calibration` of a package, and its use.

What is decided (the class that is named, a gate that suppresses an outline) is decided on the network's own
scores, which its thresholds were chosen on; what is said of them is calibrated.
Sources: Guo et al., ICML 2017 (temperature); Zadrozny and Elkan, KDD 2002 (isotonic, one class against the
rest).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.steps import Strict

PROBABILITY_MIN = 1e-12
POINTS_MAX = 64
Floats = NDArray[np.float64]

Probability = Annotated[float, Field(ge=0, le=1)]
Points = Annotated[tuple[Probability, ...], Field(min_length=2, max_length=POINTS_MAX)]


class Curve(Strict):
    """Of one class: where the network says `said`, it is so in a share `so` of cases; linear in between."""

    said: Points
    so: Points

    @model_validator(mode="after")
    def _rising(self) -> Curve:
        if len(self.said) != len(self.so):
            raise ValueError("a curve needs as many points said as so")
        if any(b <= a for a, b in zip(self.said, self.said[1:], strict=False)):
            raise ValueError("the points of a curve must rise")
        if any(b < a for a, b in zip(self.so, self.so[1:], strict=False)):
            raise ValueError(
                "a curve must not fall: it would turn a more likely class into a less likely one"
            )
        return self


class Calibration(Strict):
    """How class scores are corrected, fitted on cases that the network was not trained on.

    `none`: measured, and no correction was better. The errors are means over the classes of the calibration
    error in 15 bins of equal mass, `ece_after` with each case corrected by what was fitted without its fold.
    """

    method: Literal["temperature", "isotonic", "none"]
    temperature: float | None = Field(default=None, ge=0.05, le=20)
    curves: tuple[Curve, ...] = Field(default=(), max_length=16)
    ece_before: Probability
    ece_after: Probability
    n: int = Field(ge=1)  # cases

    @model_validator(mode="after")
    def _method_and_numbers_agree(self) -> Calibration:
        if (self.method == "temperature") != (self.temperature is not None):
            raise ValueError("calibration.temperature belongs to the method temperature")
        if (self.method == "isotonic") != bool(self.curves):
            raise ValueError("calibration.curves belong to the method isotonic")
        return self


def calibrated(scores: Mapping[str, float], block: Calibration | None) -> dict[str, float]:
    """Class scores that sum to 1, corrected; in the order of the classes. Without a block as they are."""
    if block is None:
        return dict(scores)
    found = corrected(np.array([list(scores.values())], np.float64), block)[0]
    return {name: float(value) for name, value in zip(scores, found, strict=True)}


def corrected(scores: Floats, block: Calibration) -> Floats:
    """(n, classes), rows sum to 1."""
    if block.method == "none":
        return scores
    if block.temperature is not None:
        logits = np.log(np.maximum(scores, PROBABILITY_MIN)) / block.temperature
        found = np.exp(logits - logits.max(1, keepdims=True))
    else:
        pairs = zip(scores.T, block.curves, strict=True)
        found = np.column_stack([np.interp(said, curve.said, curve.so) for said, curve in pairs])
    total = found.sum(1, keepdims=True)
    # Where every curve calls its class impossible, the curves know nothing of the case.
    return np.where(total > 0, found / np.where(total > 0, total, 1), scores)
