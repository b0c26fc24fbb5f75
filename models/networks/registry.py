"""The closed list of networks a package may name, each with a schema of its arguments; no torch here.

A package chooses from this list; nothing is imported by name, so a package is data and never code.
`models.networks.building` turns an entry into a network. Some give a lesion map on a canvas (`lesion`), the
others give logits of several heads on a grid, window by window (see `models.manifest.Tiling`).
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.steps import Strict

ChannelCount = Annotated[int, Field(ge=4, le=512)]
Features = Annotated[int, Field(ge=1, le=2048)]
Kernel = Annotated[tuple[Annotated[int, Field(ge=1, le=9)], ...], Field(min_length=2, max_length=3)]
Stride = Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=2, max_length=3)]
PortName = Annotated[str, Field(min_length=1, max_length=200)]
Blocks = Annotated[int, Field(ge=1, le=16)]
STAGES_MAX = 10
ENCODER_WEIGHTS_MAX = 1_000_000_000  # more than nnU-Net's largest; a hostile entry must not fill the memory


class EffNetLite0UNetSpec(Strict):
    """`effnet_lite0_unet@1`: see models.networks.unet."""

    registry: Literal["effnet_lite0_unet@1"]
    in_channels: int = Field(ge=1, le=16)
    classes: int = Field(ge=0, le=16)
    decoder_channels: tuple[ChannelCount, ChannelCount, ChannelCount, ChannelCount]


class GridSpec(Strict):
    """What all networks on a grid have."""

    dimensions: Literal[2, 3]
    in_channels: int = Field(ge=1, le=16)
    heads: int = Field(ge=1, le=256)  # maps that come out

    @property
    def classes(self) -> int:
        """Classes of the whole image: none."""
        return 0


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
        if largest > ENCODER_WEIGHTS_MAX:
            raise ValueError(f"an encoder of {largest} weights; at most {ENCODER_WEIGHTS_MAX} are built")
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
    one_at_a_time: bool  # the graph takes a batch of one only


GridNetworkSpec = NnUNetPlainSpec | NnUNetResEncSpec | OnnxSpec
NetworkSpec = Annotated[EffNetLite0UNetSpec | GridNetworkSpec, Field(discriminator="registry")]
