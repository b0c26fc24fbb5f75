"""Entries of the registry for preread's own networks: what numbers each takes, within what bounds; no torch.

One class a network. `models.networks.building` turns an entry into a network and refuses one that is too
large before anything is allocated.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.networks.spec_parts import (
    Features,
    GridSpec,
    ImageEncoder,
    InChannels,
    Norm,
    StagesSpec,
)
from models.steps import Strict

Classes = Annotated[int, Field(ge=1, le=64)]
Hidden = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]


class UNetSpec(StagesSpec, GridSpec):
    """`unet@1`: see models.networks.conv_unet. 2.5D is 2 dimensions with neighbouring slices as channels."""

    registry: Literal["unet@1"]
    decoder_blocks: int = Field(default=1, ge=1, le=4)
    attention: bool = False  # gates on what the encoder hands over
    side_outputs: int = Field(default=2, ge=0, le=4)  # for deep supervision, in training only

    @model_validator(mode="after")
    def _sides_exist(self) -> UNetSpec:
        if self.side_outputs > len(self.features) - 2:
            raise ValueError(
                f"{len(self.features)} stages give {len(self.features) - 2} side outputs at most"
            )
        return self


class DenseNetSpec(Strict):
    """`densenet@1`: a classifier of densely connected layers, MONAI's; see models.networks.classifier."""

    registry: Literal["densenet@1"]
    dimensions: Literal[2, 3]
    in_channels: InChannels
    classes: Classes
    init_features: int = Field(default=64, ge=4, le=256)
    growth: int = Field(default=32, ge=2, le=128)
    layers: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        default=(6, 12, 24, 16), min_length=1, max_length=5
    )
    norm: Norm = "batch"

    @model_validator(mode="after")
    def _norm_suits(self) -> DenseNetSpec:
        if self.dimensions == 3 and self.norm == "batch":
            raise ValueError("norm batch is for 2 dimensions: 3D batches are too small for its statistics")
        return self


class EffNetLite0ClassifierSpec(Strict):
    """`effnet_lite0_classifier@1`: ImageNet's EfficientNet-Lite0 with a new last layer."""

    registry: Literal["effnet_lite0_classifier@1"]
    in_channels: InChannels
    classes: Classes


class EffNetLite0SlimSpec(Strict):
    """`effnet_lite0_slim@1`: the first stages of EfficientNet-Lite0, pooled at four scales, and a head."""

    registry: Literal["effnet_lite0_slim@1"]
    in_channels: InChannels
    classes: Classes
    hidden: Hidden = 64


class CenterNetSpec(StagesSpec):
    """`centernet@1`: boxes as points, 2D and 3D; see models.networks.centernet."""

    registry: Literal["centernet@1"]
    classes: Classes
    output_stage: int = Field(default=1, ge=0, le=4)  # whose map is searched: 0 full size, 1 half, ...
    head_features: Features = 32
    candidates_max: int = Field(default=100, ge=1, le=2000)  # per image
    nms_iou: float = Field(default=0.3, gt=0, le=1)

    @model_validator(mode="after")
    def _stage_exists(self) -> CenterNetSpec:
        if self.output_stage >= len(self.features) - 1:
            raise ValueError("output_stage must be finer than the last stage")
        return self

    @property
    def output_stride(self) -> tuple[int, ...]:
        """Input voxels per cell of the map that is searched, per axis."""
        product = [1] * self.dimensions
        for stride in self.strides[: self.output_stage + 1]:
            product = [size * step for size, step in zip(product, stride, strict=True)]
        return tuple(product)

    @property
    def heads(self) -> int:
        """Maps that come out: heat of each class, offset and size along each axis."""
        return self.classes + 2 * self.dimensions


class Rcnn2dSpec(Strict):
    """`rcnn2d@1`: a two-stage detector with a feature pyramid; see models.networks.rcnn."""

    registry: Literal["rcnn2d@1"]
    in_channels: InChannels
    classes: Classes  # without background
    encoder: ImageEncoder
    finest_stride: Literal[2, 4, 8] = 4
    pyramid_features: int = Field(default=64, ge=8, le=256)
    anchor_scale: float = Field(default=4.0, ge=1, le=16)  # side of an anchor in cells of its level
    anchor_ratios: tuple[Annotated[float, Field(ge=0.1, le=10)], ...] = Field(
        default=(0.5, 1.0, 2.0), min_length=1, max_length=7
    )
    proposals_max: int = Field(default=200, ge=8, le=500)  # per image, handed to the second stage
    pooled_size: int = Field(default=7, ge=3, le=14)
    head_features: int = Field(default=128, ge=8, le=1024)
    detections_max: int = Field(default=50, ge=1, le=500)
    score_minimum: float = Field(default=0.05, ge=0, lt=1)
    nms_iou: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _levels_exist(self) -> Rcnn2dSpec:
        if not self.levels:
            raise ValueError(f"the encoder has no map at stride {self.finest_stride} or coarser")
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """Strides of the pyramid's levels, finest first."""
        return tuple(stride for stride in self.encoder.strides if stride >= self.finest_stride)


class _SliceSpec(Strict):
    """What networks over the slices of a series share."""

    in_channels: InChannels  # of one slice
    classes: Classes
    encoder: ImageEncoder
    hidden: Hidden = 64
    layers: int = Field(default=1, ge=1, le=6)


class SliceLstmSpec(_SliceSpec):
    """`slice_lstm@1`: slices in order, read both ways; see models.networks.slice_sequence."""

    registry: Literal["slice_lstm@1"]


class SliceAttentionSpec(_SliceSpec):
    """`slice_attention@1`: every slice looks at every other; see models.networks.slice_sequence."""

    registry: Literal["slice_attention@1"]
    attention_heads: Literal[1, 2, 4, 8] = 4


class _FusionSpec(Strict):
    """What networks of several sequences share."""

    sequences: int = Field(ge=2, le=8)


class EarlyFusionSpec(_FusionSpec):
    """`early_fusion@1`: sequences as channels of one network; see models.networks.fusion."""

    registry: Literal["early_fusion@1"]
    network: Annotated[UNetSpec | DenseNetSpec | EffNetLite0ClassifierSpec, Field(discriminator="registry")]

    @model_validator(mode="after")
    def _channels_divide(self) -> EarlyFusionSpec:
        if self.network.in_channels % self.sequences:
            raise ValueError(
                f"network.in_channels must be a multiple of {self.sequences}: channels of each sequence"
            )
        return self


class LateFusionSpec(_FusionSpec):
    """`late_fusion@1`: an encoder for each sequence, and the mean of those present."""

    registry: Literal["late_fusion@1"]
    in_channels: InChannels  # of one sequence
    classes: Classes
    encoder: ImageEncoder
    hidden: Hidden = 64
    shared: bool = False  # one encoder for all sequences


ClassifierSpec = DenseNetSpec | EffNetLite0ClassifierSpec | EffNetLite0SlimSpec
DetectorSpec = CenterNetSpec | Rcnn2dSpec
SequenceSpec = SliceLstmSpec | SliceAttentionSpec
FusionSpec = EarlyFusionSpec | LateFusionSpec
OwnSpec = UNetSpec | ClassifierSpec | DetectorSpec | SequenceSpec | FusionSpec
