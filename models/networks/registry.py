"""The closed list of networks a package may name, each with a schema of its arguments; no torch here.

A package chooses from this list; nothing is imported by name, so a package is data and never code.
`models.networks.building` turns an entry into a network. Some give a lesion map on a canvas (`lesion`), the
others give logits of several heads on a grid, window by window (see `models.manifest.Tiling`). Our own
networks have their entries in `models.networks.own_specs`; the whole list stands at the end of this page.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.networks.own_specs import CenterNetSpec, OwnSpec, UNetSpec
from models.networks.spec_parts import (
    PARAMETERS_MAX,
    STAGES_MAX,
    Blocks,
    Features,
    GridSpec,
    InChannels,
    Kernel,
    Stride,
)
from models.steps import Strict

ChannelCount = Annotated[int, Field(ge=4, le=512)]
InnerCount = Annotated[int, Field(ge=4, le=1152)]
OddSize = Literal[1, 3, 5, 7]
PortName = Annotated[str, Field(min_length=1, max_length=200)]


class EffNetLite0UNetSpec(Strict):
    """`effnet_lite0_unet@1`: see models.networks.unet.

    `expanded`: inner channels of the encoder's 15 blocks that expand; None: EfficientNet-Lite0's.
    """

    registry: Literal["effnet_lite0_unet@1"]
    in_channels: InChannels
    classes: int = Field(ge=0, le=16)
    decoder_channels: tuple[ChannelCount, ChannelCount, ChannelCount, ChannelCount]
    expanded: Annotated[tuple[InnerCount, ...], Field(min_length=15, max_length=15)] | None = None


class OnnxCanvasSpec(Strict):
    """`onnx_canvas@1`: a graph in place of a network on a canvas, see models.networks.onnx_canvas."""

    registry: Literal["onnx_canvas@1"]
    in_channels: int = Field(ge=1, le=16)
    classes: int = Field(ge=0, le=16)


class _NnUNetSpec(GridSpec):
    features: tuple[Features, ...] = Field(min_length=2, max_length=STAGES_MAX)
    kernels: tuple[Kernel, ...]
    strides: tuple[Stride, ...]
    encoder_blocks: tuple[Blocks, ...]  # convolutions of a stage, or residual blocks
    decoder_blocks: tuple[Blocks, ...]  # one less than stages, coarsest first
    norm: Literal["instance", "batch"]
    norm_eps: float = Field(gt=0, lt=1)
    bias: bool
    slope: float = Field(ge=0, lt=1)  # of the leaky ReLU; 0: ReLU
    members: int = Field(ge=1, le=10)  # of the ensemble

    @model_validator(mode="after")
    def _stages_agree(self) -> _NnUNetSpec:
        stages = len(self.features)
        for name, given, wanted in (
            ("kernels", len(self.kernels), stages),
            ("strides", len(self.strides), stages),
            ("encoder_blocks", len(self.encoder_blocks), stages),
            ("decoder_blocks", len(self.decoder_blocks), stages - 1),
        ):
            if given != wanted:
                raise ValueError(f"{name} has {given} entries, {stages} stages need {wanted}")
        if any(len(one) != self.dimensions for one in (*self.kernels, *self.strides)):
            raise ValueError(f"kernels and strides must have {self.dimensions} numbers each")
        if any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            raise ValueError("kernels must be odd, or sizes would not fit")
        if prod(self.strides[0]) != 1:
            raise ValueError("the first stage must not stride")
        largest = sum(
            blocks * 2 * features**2 * prod(kernel)
            for blocks, features, kernel in zip(self.encoder_blocks, self.features, self.kernels, strict=True)
        )
        if largest > PARAMETERS_MAX:
            raise ValueError(f"an encoder of {largest} weights; at most {PARAMETERS_MAX} are built")
        return self

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each size of a window must be a multiple of."""
        return tuple(prod(stride[axis] for stride in self.strides) for axis in range(self.dimensions))


class NnUNetPlainSpec(_NnUNetSpec):
    """`nnunet_plain@1`: nnU-Net's PlainConvUNet, see models.networks.nnunet."""

    registry: Literal["nnunet_plain@1"]


class NnUNetResEncSpec(_NnUNetSpec):
    """`nnunet_resenc@1`: nnU-Net's ResidualEncoderUNet, see models.networks.nnunet."""

    registry: Literal["nnunet_resenc@1"]


class OnnxSpec(GridSpec):
    """`onnx@1`: a graph that onnxruntime runs, see models.networks.onnx_network."""

    registry: Literal["onnx@1"]
    input: PortName
    output: PortName
    features: PortName | None = None  # output (B, C), the pooled bottleneck; None: nobody sees inside
    one_at_a_time: bool  # the graph takes a batch of one only


# Instance normalisation has numbers of its own only where it is affine.
MonaiNorm = Literal["instance", "instance_affine", "batch"]


class MonaiUNetSpec(GridSpec):
    """`monai_unet@1`: monai.networks.nets.UNet."""

    registry: Literal["monai_unet@1"]
    channels: tuple[Features, ...] = Field(min_length=2, max_length=STAGES_MAX)
    strides: tuple[Annotated[int, Field(ge=1, le=8)], ...]
    kernel_size: OddSize = 3
    up_kernel_size: OddSize = 3
    num_res_units: int = Field(default=0, ge=0, le=8)
    act: Literal["prelu", "relu", "leakyrelu"] = "prelu"
    norm: MonaiNorm
    bias: bool = True

    @model_validator(mode="after")
    def _stages_agree(self) -> MonaiUNetSpec:
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError("strides must have one entry less than channels")
        return self

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each size of a window must be a multiple of."""
        return (prod(self.strides),) * self.dimensions


class MonaiBasicUNetSpec(GridSpec):
    """`monai_basicunet@1`: monai.networks.nets.BasicUNet."""

    registry: Literal["monai_basicunet@1"]
    features: tuple[Features, Features, Features, Features, Features, Features] = (32, 32, 64, 128, 256, 32)
    norm: MonaiNorm
    bias: bool = True
    upsample: Literal["deconv", "pixelshuffle", "nontrainable"] = "deconv"

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each size of a window must be a multiple of."""
        return (16,) * self.dimensions


class MonaiSegResNetSpec(GridSpec):
    """`monai_segresnet@1`: monai.networks.nets.SegResNet."""

    registry: Literal["monai_segresnet@1"]
    init_filters: int = Field(default=8, ge=4, le=256)
    blocks_down: tuple[Blocks, ...] = Field(default=(1, 2, 2, 4), min_length=2, max_length=6)
    blocks_up: tuple[Blocks, ...] = Field(default=(1, 1, 1), min_length=1, max_length=5)
    num_groups: int = Field(default=8, ge=1, le=64)
    upsample_mode: Literal["nontrainable", "deconv", "pixelshuffle"] = "nontrainable"

    @model_validator(mode="after")
    def _stages_agree(self) -> MonaiSegResNetSpec:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError("blocks_up must have one entry less than blocks_down")
        return self

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each size of a window must be a multiple of."""
        return (2 ** (len(self.blocks_down) - 1),) * self.dimensions


class MonaiDynUNetSpec(GridSpec):
    """`monai_dynunet@1`: monai.networks.nets.DynUNet."""

    registry: Literal["monai_dynunet@1"]
    kernel_size: tuple[Kernel, ...] = Field(min_length=3, max_length=STAGES_MAX)
    strides: tuple[Stride, ...]
    upsample_kernel_size: tuple[Stride, ...]
    filters: tuple[Features, ...] | None = None
    norm: MonaiNorm
    res_block: bool = False
    deep_supervision: bool = False
    deep_supr_num: int = Field(default=1, ge=1, le=STAGES_MAX)

    @model_validator(mode="after")
    def _stages_agree(self) -> MonaiDynUNetSpec:
        stages = len(self.kernel_size)
        if len(self.strides) != stages or len(self.upsample_kernel_size) != stages - 1:
            raise ValueError("strides and upsample_kernel_size must fit kernel_size")
        if any(len(one) != self.dimensions for one in (*self.kernel_size, *self.strides)):
            raise ValueError(f"kernel_size and strides must have {self.dimensions} numbers each")
        return self

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each size of a window must be a multiple of."""
        return tuple(prod(stride[axis] for stride in self.strides) for axis in range(self.dimensions))


MonaiNetworkSpec = MonaiUNetSpec | MonaiBasicUNetSpec | MonaiSegResNetSpec | MonaiDynUNetSpec
GridNetworkSpec = UNetSpec | NnUNetPlainSpec | NnUNetResEncSpec | OnnxSpec | MonaiNetworkSpec
CanvasNetworkSpec = EffNetLite0UNetSpec | OnnxCanvasSpec
# What a package may name: what models.predictor runs.
NetworkSpec = Annotated[CanvasNetworkSpec | GridNetworkSpec | CenterNetSpec, Field(discriminator="registry")]
# What may be built and trained: every entry but graphs.
RegistrySpec = Annotated[EffNetLite0UNetSpec | GridNetworkSpec | OwnSpec, Field(discriminator="registry")]
