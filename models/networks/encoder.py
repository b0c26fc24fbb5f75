"""EfficientNet-Lite0 as an encoder: one map per scale, and the head map its ImageNet classifier pooled.

Our own module, so that weights are plain safetensors with names we own. Lite0 has no squeeze-and-excite and
uses ReLU6; padding follows the original's SAME rule, without which the ImageNet weights read shifted maps.
Source: Tan, Le, arXiv 1905.11946; the Lite variants' block table in the TensorFlow TPU repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Stage(NamedTuple):
    """Blocks of one resolution step: how many, depthwise kernel, stride of the first, expansion, channels
    out.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LITE0_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32


def _expanded() -> Iterator[int]:
    channels = STEM_CHANNELS
    for stage in LITE0_STAGES:
        for _ in range(stage.repeats):
            if stage.expansion != 1:
                yield channels * stage.expansion
            channels = stage.channels


EXPANDED = tuple(_expanded())  # inner channels of the 15 blocks that expand
HEAD_CHANNELS = 1280
SCALE_CHANNELS = (16, 24, 40, 112, 320)  # maps at stride 2, 4, 8, 16, 32
TAPPED_STAGES = (0, 1, 2, 4, 6)  # the last stage at each of those strides
BATCH_NORM_EPSILON = 1e-3  # the original's; torch's default shifts the pretrained statistics
BATCH_NORM_MOMENTUM = 0.01


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: at stride 2 the odd pixel of padding goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W), H and W multiples of the stride."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = kernel - stride
        if stride == 1:
            return F.conv2d(x, self.weight, self.bias, 1, total // 2, 1, self.groups)
        before = total // 2
        x = F.pad(x, (before, total - before, before, total - before))
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with the encoder's constants."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


class InvertedResidual(nn.Module):
    """Expand to `wide` channels (None: not at all), depthwise, project; with a residual where the shape is
    kept.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, wide: int | None
    ) -> None:
        super().__init__()
        self.expand = (
            nn.Sequential(
                SameConv(channels_in, wide, 1, bias=False), batch_norm(wide), nn.ReLU6(inplace=True)
            )
            if wide is not None
            else None
        )
        wide = wide or channels_in
        self.depthwise = nn.Sequential(
            SameConv(wide, wide, kernel, stride, groups=wide, bias=False),
            batch_norm(wide),
            nn.ReLU6(inplace=True),
        )
        self.project = nn.Sequential(SameConv(wide, channels_out, 1, bias=False), batch_norm(channels_out))
        self.is_residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor, drop_rate: float = 0.0) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride); drop_rate is stochastic depth, per sample,
        training only.
        """
        y: Tensor = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        if not self.is_residual:
            return y
        if self.training and drop_rate > 0:
            kept = (torch.rand(y.shape[0], 1, 1, 1, device=y.device) >= drop_rate).to(y.dtype)
            y = y * kept / (1 - drop_rate)
        return x + y


class EffNetLite0(nn.Module):
    """The encoder: (B, in_channels, H, W), H and W multiples of 32, to maps at stride 2, 4, 8, 16 and 32.

    `expanded`: inner channels of the blocks that expand, in order; None: EfficientNet-Lite0's.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        with_head: bool,
        drop_rate: float = 0.0,
        expanded: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.expanded = tuple(EXPANDED if expanded is None else expanded)
        widths = iter(self.expanded)
        self.stem = nn.Sequential(
            SameConv(in_channels, STEM_CHANNELS, 3, 2, bias=False),
            batch_norm(STEM_CHANNELS),
            nn.ReLU6(inplace=True),
        )
        self.blocks = nn.ModuleList()
        self.tapped_blocks: list[int] = []
        channels = STEM_CHANNELS
        for index, stage in enumerate(LITE0_STAGES):
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                wide = None if stage.expansion == 1 else next(widths)
                self.blocks.append(InvertedResidual(channels, stage.channels, stage.kernel, stride, wide))
                channels = stage.channels
            if index in TAPPED_STAGES:
                self.tapped_blocks.append(len(self.blocks) - 1)
        self.head = (
            nn.Sequential(
                SameConv(channels, HEAD_CHANNELS, 1, bias=False),
                batch_norm(HEAD_CHANNELS),
                nn.ReLU6(inplace=True),
            )
            if with_head
            else None
        )
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps with 16, 24, 40, 112 and 320 channels, finest first."""
        h: Tensor = self.stem(x)
        maps = []
        for index, block in enumerate(self.blocks):
            h = block(h, self.drop_rate * index / len(self.blocks))
            if index in self.tapped_blocks:
                maps.append(h)
        return maps
