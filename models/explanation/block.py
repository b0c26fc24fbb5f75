"""The block of model.json about heat maps: how they are made and what their tests found, as frozen types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.applicability import Text
from models.explanation.limits import ENERGY_RATIO_MIN, SHIFT_SSIM_MIN
from models.steps import Strict

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ExplainSanity(Strict):
    """What the trust tests of a heat map found on labelled cases; intervals are of 95 %, by group.

    Parameters
    ----------
    ssim_randomised : likeness of the map to that of the network with its weights shuffled throughout
    ssim_random_pairs : likeness of the maps of two different images; ssim_difference_ci95 of the two
    energy_ratio : share of heat inside the lesion by the lesion's share of the image
    shift_ssim : likeness after a shift of the input by two pixels, moved back
    """

    tried: Literal["grad-cam", "occlusion"]
    layer: Text | None
    dataset: Text
    split_sha256: Sha256
    subset: Literal["scored", "frozen"]
    n: int = Field(ge=1)  # cases with a class that is a finding
    n_lesions: int = Field(ge=0)  # of them those with an outlined lesion
    ssim_randomised: float
    ssim_random_pairs: float
    ssim_difference_ci95: tuple[float, float]
    energy_ratio: float
    energy_ratio_ci95: tuple[float, float]
    shift_ssim: float
    shift_ssim_ci95: tuple[float, float]

    @property
    def faults(self) -> tuple[str, ...]:
        """Which tests it fails; judged by the end of each interval that speaks against it."""
        found = []
        if not self.ssim_difference_ci95[1] < 0:
            found.append("shuffled weights make nearly the same map")
        if not self.energy_ratio_ci95[0] >= ENERGY_RATIO_MIN:
            found.append("too little of its heat lies inside the lesion")
        if not self.shift_ssim_ci95[0] >= SHIFT_SSIM_MIN:
            found.append("it changes when the image is moved by two pixels")
        return tuple(found)


class Explain(Strict):
    """The heat map shown for a class that is a finding; none where it did not pass its tests."""

    method: Literal["none", "grad-cam", "occlusion"]
    layer: Text | None
    sanity: ExplainSanity

    @model_validator(mode="after")
    def _passed(self) -> Explain:
        if self.method == "none":
            if self.layer is not None:
                raise ValueError("explain without a method names no layer; sanity says what was tried")
        elif (self.method, self.layer) != (self.sanity.tried, self.sanity.layer):
            raise ValueError("explain must show what its sanity tested")
        elif self.sanity.faults:
            raise ValueError(f"explain shows a map that failed: {'; '.join(self.sanity.faults)}")
        return self
