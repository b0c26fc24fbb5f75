"""The plain and the residual-encoder U-Net of nnU-Net v2, in 2D and 3D, with the parameter names of its
checkpoints.

nnU-Net's own modules hold each convolution and normalisation twice (`all_modules`) and the encoder a second
time inside the decoder; here each stands once, under its first name. Side outputs for deep supervision have
weights in every checkpoint, so they are built; only the finest one computes.

Source: Isensee et al., Nature Methods 2021; the naming of dynamic-network-architectures 0.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from models.networks.features import featured, pooled
from models.networks.registry import NnUNetPlainSpec, NnUNetResEncSpec

_CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_POOLS: dict[int, type[nn.AvgPool2d | nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORMS: dict[tuple[str, int], type[nn.Module]] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}
NnUNetSpec = NnUNetPlainSpec | NnUNetResEncSpec


class ConvNorm(nn.Module):
    """Convolution, normalisation, and a leaky ReLU unless `active` is False."""

    def __init__(
        self,
        spec: NnUNetSpec,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        *,
        active: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.conv = _CONVOLUTIONS[spec.dimensions](
            *channels,
            tuple(kernel),  # type: ignore[arg-type]  # 2 or 3 numbers, as many as dimensions
            tuple(stride),  # type: ignore[arg-type]
            padding=tuple((size - 1) // 2 for size in kernel),  # type: ignore[arg-type]
            bias=spec.bias if bias is None else bias,
        )
        self.norm = _NORMS[spec.norm, spec.dimensions](channels[1], eps=spec.norm_eps, affine=True)
        self.slope = spec.slope if active else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) -> (B, out, .../stride)."""
        h: Tensor = self.norm(self.conv(x))
        return h if self.slope is None else nn.functional.leaky_relu(h, self.slope, inplace=True)


class ConvStack(nn.Module):
    """Several convolutions; only the first one strides."""

    def __init__(
        self,
        spec: NnUNetSpec,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        n: int,
    ) -> None:
        super().__init__()
        ones = (1,) * spec.dimensions
        self.convs = nn.Sequential(
            ConvNorm(spec, channels, kernel, stride),
            *(ConvNorm(spec, (channels[1], channels[1]), kernel, ones) for _ in range(1, n)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) -> (B, out, .../stride)."""
        return cast("Tensor", self.convs(x))


class ResidualBlock(nn.Module):
    """Two convolutions beside a path that pools and projects where shapes change (ResNet-D)."""

    def __init__(
        self, spec: NnUNetSpec, channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * spec.dimensions
        self.conv1 = ConvNorm(spec, channels, kernel, stride)
        self.conv2 = ConvNorm(spec, (channels[1], channels[1]), kernel, ones, active=False)
        beside: list[nn.Module] = []
        if prod(stride) != 1:
            beside.append(_POOLS[spec.dimensions](tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if channels[0] != channels[1]:
            beside.append(ConvNorm(spec, channels, ones, ones, active=False, bias=False))
        self.skip = nn.Sequential(*beside)
        self.slope = spec.slope

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) -> (B, out, .../stride)."""
        h: Tensor = self.conv2(self.conv1(x)) + self.skip(x)
        return nn.functional.leaky_relu(h, self.slope, inplace=True)


class ResidualStage(nn.Module):
    """Several residual blocks; only the first one strides."""

    def __init__(
        self,
        spec: NnUNetSpec,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        n: int,
    ) -> None:
        super().__init__()
        ones = (1,) * spec.dimensions
        self.blocks = nn.Sequential(
            ResidualBlock(spec, channels, kernel, stride),
            *(ResidualBlock(spec, (channels[1], channels[1]), kernel, ones) for _ in range(1, n)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) -> (B, out, .../stride)."""
        return cast("Tensor", self.blocks(x))


class Encoder(nn.Module):
    """Stages of falling resolution; the residual one begins with a stem."""

    def __init__(self, spec: NnUNetSpec) -> None:
        super().__init__()
        channels = spec.in_channels
        self.stem: nn.Module | None = None
        if isinstance(spec, NnUNetResEncSpec):
            ones = (1,) * spec.dimensions
            self.stem = ConvStack(spec, (channels, spec.features[0]), spec.kernels[0], ones, 1)
            channels = spec.features[0]
        stages: list[nn.Module] = []
        for features, kernel, stride, n in zip(
            spec.features, spec.kernels, spec.strides, spec.encoder_blocks, strict=True
        ):
            if isinstance(spec, NnUNetResEncSpec):
                stages.append(ResidualStage(spec, (channels, features), kernel, stride, n))
            else:
                # A sequence of one: the name of a pooling layer that nnU-Net could put before it.
                stages.append(nn.Sequential(ConvStack(spec, (channels, features), kernel, stride, n)))
            channels = features
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of every stage, finest first."""
        h = x if self.stem is None else self.stem(x)
        maps = []
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return maps


class Decoder(nn.Module):
    """Transposed convolutions up to the finest stage, each merged with the encoder's map of that size."""

    def __init__(self, spec: NnUNetSpec) -> None:
        super().__init__()
        self.stages, self.transpconvs, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        ones = (1,) * spec.dimensions
        for step, n in enumerate(spec.decoder_blocks, start=1):
            below, skip = spec.features[-step], spec.features[-step - 1]
            stride = tuple(spec.strides[-step])
            self.transpconvs.append(
                _TRANSPOSED[spec.dimensions](below, skip, stride, stride, bias=spec.bias)  # type: ignore[arg-type]
            )
            self.stages.append(ConvStack(spec, (2 * skip, skip), spec.kernels[-step - 1], ones, n))
            self.seg_layers.append(_CONVOLUTIONS[spec.dimensions](skip, spec.heads, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, heads, ...) logits at the input's size."""
        h = maps[-1]
        for step, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True), start=2):
            h = stage(torch.cat((up(h), maps[-step]), 1))
        logits: Tensor = self.seg_layers[-1](h)
        return logits


class NnUNet(nn.Module):
    """(B, in_channels, ...) -> (B, heads, ...) logits; sizes are multiples of the product of the strides."""

    def __init__(self, spec: NnUNetSpec) -> None:
        super().__init__()
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec)

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last stage: (B, features[-1], sizes / divisors)."""
        return self.encoder.stages[-1]

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, features[-1]); the decoder does not run."""
        return pooled(self.encoder(x)[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Logits of one batch."""
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


class Members(nn.Module):
    """An ensemble: the mean of its members' logits, as nnU-Net joins its folds."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def feature_layer(self) -> nn.Module:
        """That of the first member: one map is looked at, not the mean of maps that mean different things."""
        return featured(self.members[0]).feature_layer

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, c) of the first member."""
        return featured(self.members[0]).features(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, heads, ...)."""
        total: Tensor = self.members[0](x)
        for member in self.members[1:]:
            total = total + member(x)
        return total / len(self.members)
