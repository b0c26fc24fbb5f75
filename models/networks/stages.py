"""Stages of convolutions in 2D and 3D: the blocks, the encoder and the decoder that our networks share.

Downwards a strided convolution, upwards a 1x1 convolution and a linear resize: no transposed convolution, so
no checkerboard, and int8 converters take every layer. The 1x1 convolution comes first: it commutes with the
resize and costs a quarter there, an eighth in 3D.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.spec_parts import BlockKind, Norm

CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
# Of group norm. A group of one channel would be instance norm, after which a pooled map hardly tells a bright
# patch from a dark one: what channels have against each other must survive.
CHANNELS_PER_GROUP = 8
SLOPE = 0.01


def convolution(
    channels_in: int, channels_out: int, kernel: Sequence[int], stride: Sequence[int], *, bias: bool
) -> nn.Conv2d | nn.Conv3d:
    """A convolution padded so that a stride of 1 keeps the sizes; as many dimensions as the kernel has."""
    return CONVOLUTIONS[len(kernel)](
        channels_in,
        channels_out,
        tuple(kernel),  # type: ignore[arg-type]  # 2 or 3 numbers, as many as dimensions
        tuple(stride),  # type: ignore[arg-type]
        padding=tuple(size // 2 for size in kernel),  # type: ignore[arg-type]
        bias=bias,
    )


def pointwise(dimensions: int, channels_in: int, channels_out: int) -> nn.Conv2d | nn.Conv3d:
    """A 1x1 convolution with bias."""
    return convolution(channels_in, channels_out, (1,) * dimensions, (1,) * dimensions, bias=True)


def normalisation(norm: Norm, channels: int, dimensions: int) -> nn.Module:
    """With scale and shift of its own for each channel."""
    if norm == "group":
        return nn.GroupNorm(gcd(max(1, channels // CHANNELS_PER_GROUP), channels), channels)
    if norm == "batch":
        assert dimensions == 2, "the specs refuse batch norm in 3D"
        return nn.BatchNorm2d(channels)
    return (nn.InstanceNorm2d if dimensions == 2 else nn.InstanceNorm3d)(channels, affine=True)


class ConvBlock(nn.Module):
    """Convolution, normalisation, leaky ReLU."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: Sequence[int], stride: Sequence[int], norm: Norm
    ) -> None:
        super().__init__()
        self.conv = convolution(channels_in, channels_out, kernel, stride, bias=False)
        self.norm = normalisation(norm, channels_out, len(kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) -> (B, out, .../stride)."""
        return F.leaky_relu(self.norm(self.conv(x)), SLOPE, inplace=True)


class ResidualBlock(nn.Module):
    """Two convolutions beside a path that takes the mean of what a stride leaves out, and projects."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: Sequence[int], stride: Sequence[int], norm: Norm
    ) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.first = ConvBlock(channels_in, channels_out, kernel, stride, norm)
        self.conv = convolution(channels_out, channels_out, kernel, ones, bias=False)
        self.norm = normalisation(norm, channels_out, len(kernel))
        same = channels_in == channels_out
        self.project = None if same else pointwise(len(kernel), channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) -> (B, out, .../stride)."""
        h = self.norm(self.conv(self.first(x)))
        if x.shape[2:] != h.shape[2:]:
            # Plain numbers: a graph can hold means over an area whose size is a constant.
            x = F.interpolate(x, size=[int(size) for size in h.shape[2:]], mode="area")
        return F.leaky_relu(h + (x if self.project is None else self.project(x)), SLOPE, inplace=True)


def stage(
    channels_in: int,
    channels_out: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    *,
    blocks: int,
    kind: BlockKind,
    norm: Norm,
) -> nn.Sequential:
    """Blocks of one size; only the first one strides."""
    block = ResidualBlock if kind == "residual" else ConvBlock
    ones = (1,) * len(kernel)
    return nn.Sequential(
        block(channels_in, channels_out, kernel, stride, norm),
        *(block(channels_out, channels_out, kernel, ones, norm) for _ in range(1, blocks)),
    )


class Encoder(nn.Module):
    """One map for each stage."""

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        *,
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        blocks: int,
        kind: BlockKind,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        channels = in_channels
        for wide, kernel, stride in zip(features, kernels, strides, strict=True):
            self.stages.append(stage(channels, wide, kernel, stride, blocks=blocks, kind=kind, norm=norm))
            channels = wide

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, ...) -> [(B, features[0], ...), ...], finest first."""
        maps = []
        for one in self.stages:
            x = one(x)
            maps.append(x)
        return maps


class AttentionGate(nn.Module):
    """Weighs the encoder's map by what the coarser map finds of interest (Oktay et al., arXiv 1804.03999)."""

    def __init__(self, dimensions: int, coarse: int, skip: int) -> None:
        super().__init__()
        inner = max(1, skip // 2)
        self.of_skip = pointwise(dimensions, skip, inner)
        self.of_coarse = pointwise(dimensions, coarse, inner)
        self.score = pointwise(dimensions, inner, 1)

    def forward(self, up: Tensor, skip: Tensor) -> Tensor:
        """(B, coarse, ...), (B, skip, ...) of the same sizes -> (B, skip, ...)."""
        agreed = F.relu(self.of_skip(skip) + self.of_coarse(up))
        return skip * torch.sigmoid(self.score(agreed))


class UpStage(nn.Module):
    """To the size of the encoder's next finer map, and merged with it."""

    def __init__(
        self, coarse: int, skip: int, kernel: Sequence[int], *, blocks: int, norm: Norm, attention: bool
    ) -> None:
        super().__init__()
        dimensions = len(kernel)
        ones = (1,) * dimensions
        self.narrow = pointwise(dimensions, coarse, skip)
        self.gate = AttentionGate(dimensions, skip, skip) if attention else None
        self.merge = stage(2 * skip, skip, kernel, ones, blocks=blocks, kind="plain", norm=norm)
        self.mode = "bilinear" if dimensions == 2 else "trilinear"

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, coarse, ...), (B, skip, 2 ...) -> (B, skip, 2 ...)."""
        up = F.interpolate(self.narrow(x), size=skip.shape[2:], mode=self.mode, align_corners=False)
        if self.gate is not None:
            skip = self.gate(up, skip)
        merged: Tensor = self.merge(torch.cat([up, skip], 1))
        return merged
