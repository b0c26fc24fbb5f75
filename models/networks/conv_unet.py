"""U-Net in 2D, 2.5D and 3D: plain or residual, with attention gates or without.

2.5D is 2D with neighbouring slices as channels. Where slices are thick, `flat_stages` keeps the first axis as
it is: those stages see 1x3x3 and halve rows and columns only. Decoder maps below the finest give side outputs
for deep supervision, in training only: prediction gives the finest logits alone, as every network on a grid
does. Parameters are counted in docs/networks.md.

Source: Ronneberger, arXiv 1505.04597; Isensee, Nature Methods 2021 (residual stages, deep supervision);
Oktay, arXiv 1804.03999 (gates).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from models.networks.features import pooled
from models.networks.own_specs import UNetSpec
from models.networks.spec_parts import StagesSpec
from models.networks.stages import Encoder, UpStage, pointwise

SIDE_WEIGHTS = (0.5, 0.25, 0.125, 0.0625)  # against 1 for the finest output, as nnU-Net weighs them


class SupervisedLogits(NamedTuple):
    """What training compares with the mask."""

    logits: Tensor  # (B, heads, ...), the input's sizes
    side: list[Tensor]  # (B, heads, .../2), (B, heads, .../4), ...: finest first


class UNetTrunk(nn.Module):
    """Down to the coarsest stage and up again to stage `finest`, without outputs."""

    def __init__(
        self, spec: StagesSpec, *, finest: int = 0, decoder_blocks: int = 1, attention: bool = False
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            spec.in_channels,
            spec.features,
            kernels=spec.kernels,
            strides=spec.strides,
            blocks=spec.blocks,
            kind=spec.kind,
            norm=spec.norm,
        )
        self.decoder = nn.ModuleList(
            UpStage(
                spec.features[index + 1],
                spec.features[index],
                spec.kernels[index],
                blocks=decoder_blocks,
                norm=spec.norm,
                attention=attention,
            )
            for index in reversed(range(finest, len(spec.features) - 1))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, ...) -> decoder maps of stages `finest`, `finest` + 1, ...: finest first."""
        maps = self.encoder(x)
        h, found = maps.pop(), []
        for up in self.decoder:
            h = up(h, maps.pop())  # (B, features[i + 1], .../2) -> (B, features[i], ...)
            found.append(h)
        return found[::-1]


class ConvUNet(nn.Module):
    """(B, in_channels, ...) -> (B, heads, ...) logits; in training also those of coarser stages.

    Sizes should be multiples of `spec.divisors`; others work and lose half a voxel of alignment.
    """

    def __init__(self, spec: UNetSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = UNetTrunk(spec, decoder_blocks=spec.decoder_blocks, attention=spec.attention)
        self.dropout = nn.Dropout(dropout)
        self.head = pointwise(spec.dimensions, spec.features[0], spec.heads)
        self.side = nn.ModuleList(
            pointwise(spec.dimensions, spec.features[index], spec.heads)
            for index in range(1, spec.side_outputs + 1)
        )

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last stage: (B, features[-1], sizes / divisors)."""
        return self.trunk.encoder.stages[-1]

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, features[-1]); the decoder does not run."""
        return pooled(self.trunk.encoder(x)[-1])

    def forward(self, x: Tensor) -> Tensor | SupervisedLogits:
        """Logits of one batch: a tensor in evaluation, with the side outputs in training."""
        maps = self.trunk(x)
        logits: Tensor = self.head(self.dropout(maps[0]))
        if not self.training:
            return logits
        return SupervisedLogits(logits, [head(h) for head, h in zip(self.side, maps[1:], strict=False)])
