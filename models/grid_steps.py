"""The steps and the tiling of networks that read a whole grid window by window, as data.

They keep the geometry of the network's maker: axes, spacing, and an order of interpolation for each. The
steps of `models.steps` bring slices to one canvas instead; a package uses the one kind or the other.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.steps import Strict

Axis = Literal[0, 1, 2]
WindowSize = Annotated[int, Field(ge=8, le=1024)]


class OrientGrid(Strict):
    """Turn a volume, by whole axes, so that columns, rows and slices run towards these sides of the patient.

    A volume without an affine (a still image) stays as it is.
    """

    step: Literal["orient_grid"]
    columns: Literal["L", "R", "P", "A", "H", "F"]
    rows: Literal["L", "R", "P", "A", "H", "F"]
    slices: Literal["L", "R", "P", "A", "H", "F"]

    @model_validator(mode="after")
    def _three_directions(self) -> OrientGrid:
        if len({_LINE[side] for side in (self.columns, self.rows, self.slices)}) != 3:
            raise ValueError("columns, rows and slices must run along three different lines")
        return self


_LINE = {"L": 0, "R": 0, "P": 1, "A": 1, "H": 2, "F": 2}


class TransposeGrid(Strict):
    """Reorder the axes (slice, row, column): result axis i is axis `axes[i]`."""

    step: Literal["transpose_grid"]
    axes: tuple[Axis, Axis, Axis]

    @model_validator(mode="after")
    def _each_once(self) -> TransposeGrid:
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError("axes must name 0, 1 and 2 once each")
        return self


class CropNonzero(Strict):
    """Keep the smallest box that holds every voxel which is not 0."""

    step: Literal["crop_nonzero"]


class ClipStandardise(Strict):
    """Clip to low .. high, then (value - mean) / deviation; fixed numbers, as for CT."""

    step: Literal["clip_standardise"]
    low: float
    high: float
    mean: float
    deviation: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> ClipStandardise:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class ClipPercentiles(Strict):
    """Clip to these percentiles of the volume: a few bright vessels do not set the scale."""

    step: Literal["clip_percentiles"]
    low: float = Field(ge=0, lt=100)
    high: float = Field(gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> ClipPercentiles:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class ZScore(Strict):
    """(value - mean) / standard deviation, of and within a mask, 0 outside it.

    The mask is everything, the voxels that are not 0, or these with the holes in them filled.
    """

    step: Literal["zscore"]
    mask: Literal["all", "nonzero", "nonzero_filled"]


class MapRange(Strict):
    """The range `low` .. `high` becomes `to_low` .. `to_high`; None takes the volume's own end."""

    step: Literal["map_range"]
    low: float | None
    high: float | None
    to_low: float
    to_high: float
    clip: bool

    @model_validator(mode="after")
    def _ordered(self) -> MapRange:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class ResampleGrid(Strict):
    """Resample to a spacing along each axis of the grid; None leaves an axis as it is.

    `order` 0 nearest, 1 linear, 3 cubic. With `apart_above`, an axis whose spacing is more than that many
    times the smallest one is resampled apart from the others, by the nearest slice.
    """

    step: Literal["resample_grid"]
    spacing_mm: tuple[
        Annotated[float, Field(gt=0.01, le=50)] | None,
        Annotated[float, Field(gt=0.01, le=50)] | None,
        Annotated[float, Field(gt=0.01, le=50)] | None,
    ]
    order: Literal[0, 1, 3]
    apart_above: float | None = Field(default=None, gt=1)


GridStep = Annotated[
    OrientGrid
    | TransposeGrid
    | CropNonzero
    | ClipStandardise
    | ClipPercentiles
    | ZScore
    | MapRange
    | ResampleGrid,
    Field(discriminator="step"),
]


class SkipBackground(Strict):
    """Windows with no voxel above this value, `margin` voxels around them included, are not run.

    On the grid, so after every step. They count as sure background, and windows are spread over the box of
    what is above the value. For a network whose findings lie in tissue, never in air.
    """

    above: float
    margin: int = Field(default=8, ge=0, le=64)


class Tiling(Strict):
    """How a network of heads is moved over the grid, and which heads are the finding.

    Windows overlap; where they do, the heads are averaged, weighted towards the middle of a window (two
    Gaussians, see models.inference.windows.blend_lines) or evenly. A window of two sizes reads slice by
    slice.
    """

    window: tuple[WindowSize, ...] = Field(min_length=2, max_length=3)
    overlap: float = Field(ge=0, le=0.9)
    blend: Literal["gaussian", "gaussian_nnunet", "constant"]
    mirror: tuple[Axis, ...] = ()  # of the window: the mean over every mirror image is taken
    activation: Literal["softmax", "sigmoid", "none"]  # none: the heads are probabilities already
    lesion_heads: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()  # none: structures, see findings
    skip_background: SkipBackground | None = None

    @model_validator(mode="after")
    def _axes_exist(self) -> Tiling:
        if any(axis >= len(self.window) for axis in self.mirror) or len(set(self.mirror)) != len(self.mirror):
            raise ValueError("mirror must name axes of the window, once each")
        if len(set(self.lesion_heads)) != len(self.lesion_heads):
            raise ValueError("lesion_heads names a head twice")
        return self


class Grid(Strict):
    """How a volume becomes the network's grid, and how the network is moved over it."""

    steps: tuple[GridStep, ...] = Field(max_length=16)
    tiling: Tiling
