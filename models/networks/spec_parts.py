"""What the entries of the registry are made of: bounded numbers, encoders, networks on a grid; no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.steps import Strict

Features = Annotated[int, Field(ge=1, le=2048)]
Kernel = Annotated[tuple[Annotated[int, Field(ge=1, le=9)], ...], Field(min_length=2, max_length=3)]
Stride = Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=2, max_length=3)]
Blocks = Annotated[int, Field(ge=1, le=16)]
StageBlocks = Annotated[int, Field(ge=1, le=4)]
InChannels = Annotated[int, Field(ge=1, le=16)]
# Batch statistics of two or three 3D windows are noise, so batch norm is for 2D only.
Norm = Literal["instance", "group", "batch"]
BlockKind = Literal["plain", "residual"]
STAGES_MAX = 10
PARAMETERS_MAX = 1_000_000_000  # more than any of ours by 30 times; a hostile entry must not fill the memory


class GridSpec(Strict):
    """What all networks on a grid have."""

    dimensions: Literal[2, 3]
    in_channels: InChannels
    heads: int = Field(ge=1, le=256)  # maps that come out

    @property
    def classes(self) -> int:
        """Classes of the whole image: none."""
        return 0


class Lite0Encoder(Strict):
    """EfficientNet-Lite0, 2D, with ImageNet weights at hand: see models.networks.encoder."""

    encoder: Literal["effnet_lite0"]

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of each map, finest first."""
        return (2, 4, 8, 16, 32)


class StagedEncoder(Strict):
    """Stages of 3x3 convolutions that halve the sizes from one to the next: see models.networks.stages."""

    encoder: Literal["stages"]
    features: tuple[Features, ...] = Field(min_length=2, max_length=STAGES_MAX)
    blocks: StageBlocks = 1
    kind: BlockKind = "residual"
    norm: Norm = "group"

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of each map, finest first."""
        return tuple(2**index for index in range(len(self.features)))


ImageEncoder = Annotated[Lite0Encoder | StagedEncoder, Field(discriminator="encoder")]


class StagesSpec(Strict):
    """Stages of convolutions in 2D or 3D, all but the first at half the size of the one before."""

    dimensions: Literal[2, 3]
    in_channels: InChannels
    features: tuple[Features, ...] = Field(min_length=2, max_length=STAGES_MAX)
    blocks: StageBlocks = 2  # per stage of the encoder
    kind: BlockKind = "plain"
    norm: Norm = "instance"
    flat_stages: int = Field(default=0, ge=0, le=STAGES_MAX)  # first stages that leave the first axis alone

    @model_validator(mode="after")
    def _suits_dimensions(self) -> StagesSpec:
        if self.dimensions == 3 and self.norm == "batch":
            raise ValueError("norm batch is for 2 dimensions: 3D batches are too small for its statistics")
        if self.flat_stages and (self.dimensions == 2 or self.flat_stages >= len(self.features)):
            raise ValueError("flat_stages is for 3 dimensions and must leave a stage")
        return self

    @property
    def strides(self) -> tuple[tuple[int, ...], ...]:
        """Of each stage, per axis: all ones, then halving; along the first axis only after the flat ones."""
        halving = (2,) * (self.dimensions - 1)
        return tuple(
            (1,) * self.dimensions
            if index == 0
            else ((1 if self.dimensions == 3 and index <= self.flat_stages else 2), *halving)
            for index in range(len(self.features))
        )

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """Of each stage: 3 along each axis, 1 along the first one in flat stages (their slices are thick)."""
        return tuple(
            ((1 if index < self.flat_stages else 3), *(3,) * (self.dimensions - 1))
            for index in range(len(self.features))
        )

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each size of a window should be a multiple of."""
        product = [1] * self.dimensions
        for stride in self.strides:
            product = [size * step for size, step in zip(product, stride, strict=True)]
        return tuple(product)
