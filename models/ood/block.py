"""The block `ood` of a package: what the training cases looked like to its network, and where that ends.

A distance of 1 is that of a typical case (see `models.ood.statistics`). `near` and `far` are the 95th and
99.5th percentile of cases that the statistics were not fitted on.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.steps import Strict

FEATURES_MAX = 4096
COMPONENTS_MAX = 32
FILE_BYTES_MAX = 2 << 20  # 4096 features and 32 components take 0.5 MiB

InputName = Literal[
    "slices",
    "rows",
    "columns",
    "row_spacing_mm",
    "column_spacing_mm",
    "slice_spacing_mm",
    "grey_25",
    "grey_50",
    "grey_75",
]
Distance = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class OodLimits(Strict):
    """Distances above which an input is near the edge of what was trained on, or far from it."""

    near: Distance
    far: Distance


class OodAction(Strict):
    """What the pipeline does: near is flagged in the results, far is not analysed."""

    near: Literal["flag"] = "flag"
    far: Literal["refuse", "flag"] = "refuse"


class InputRange(Strict):
    """What a quantity of the input was among the training cases, widened a little; outside is near."""

    name: InputName
    low: Bound
    high: Bound


class Ood(Strict):
    """`file` holds the statistics of the features of `layer`, see `models.ood.statistics`."""

    layer: Literal["bottleneck"]
    file: str
    features: int = Field(ge=2, le=FEATURES_MAX)
    components: int = Field(ge=1, le=COMPONENTS_MAX)
    shrinkage: float = Field(ge=0, le=1)
    limits: OodLimits
    inputs: tuple[InputRange, ...] = Field(max_length=16)
    action: OodAction
    n: int = Field(ge=1)  # real cases
    n_generated: int = Field(ge=0)
    n_unseen: int = Field(ge=0)  # of the real ones, those the network was not trained on
    split_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None  # None: cases of no frozen split

    @model_validator(mode="after")
    def _in_order(self) -> Ood:
        if self.limits.near >= self.limits.far:
            raise ValueError("ood.limits.near must be below ood.limits.far")
        if self.components >= self.features:
            raise ValueError("ood.components must be fewer than ood.features")
        names = [one.name for one in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError("ood.inputs names a quantity twice")
        if any(one.low > one.high for one in self.inputs):
            raise ValueError("ood.inputs holds a range that is empty")
        return self
