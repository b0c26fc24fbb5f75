"""U-Net on the EfficientNet-Lite0 encoder: a lesion map, and classes pooled from the image and from the
lesion.

The decoder resizes and convolves (no transposed convolution: no checkerboard, and it quantises). Side outputs
at stride 4 and 8 exist for training (deep supervision); prediction uses the finest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.encoder import HEAD_CHANNELS, SCALE_CHANNELS, EffNetLite0
from models.networks.features import pooled


class Maps(NamedTuple):
    """What the network says about a batch, before activations."""

    lesion: Tensor  # (B, 1, H, W) logits
    side: list[Tensor]  # logits at stride 4 and 8, finest first
    classes: Tensor | None  # (B, classes) logits


class DecoderBlock(nn.Module):
    """Doubles the resolution and merges the encoder's map of that scale."""

    def __init__(self, deep: int, skip: int, channels: int) -> None:
        super().__init__()
        self.merge = nn.Sequential(
            nn.Conv2d(deep + skip, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(B, deep, h, w), (B, skip, 2h, 2w) -> (B, channels, 2h, 2w)."""
        up = F.interpolate(deep, size=skip.shape[2:], mode="bilinear", align_corners=False)
        refined: Tensor = self.refine(self.merge(torch.cat([up, skip], 1)))
        return refined


class EffNetLite0UNet(nn.Module):
    """Lesion map and, when `classes` > 0, class logits.

    Input (B, in_channels, H, W) with H and W multiples of 32.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        decoder_channels: tuple[int, int, int, int] = (128, 64, 48, 32),
        dropout: float = 0.4,
        drop_rate: float = 0.1,
        decoder_dropout: float = 0.0,
        expanded: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = EffNetLite0(in_channels, with_head=classes > 0, drop_rate=drop_rate, expanded=expanded)
        self.decoder = nn.ModuleList()
        self.channel_dropout = nn.Dropout2d(decoder_dropout)
        deep = SCALE_CHANNELS[-1]
        for skip, channels in zip(reversed(SCALE_CHANNELS[:-1]), decoder_channels, strict=True):
            self.decoder.append(DecoderBlock(deep, skip, channels))
            deep = channels
        self.lesion = nn.Conv2d(deep, 1, 1)
        self.side = nn.ModuleList(
            [nn.Conv2d(decoder_channels[2], 1, 1), nn.Conv2d(decoder_channels[1], 1, 1)]
        )
        self.dropout = nn.Dropout(dropout)
        # Whole image, lesion and its surroundings, and two numbers that say whether there is a lesion at all.
        joined = HEAD_CHANNELS + 2 * decoder_channels[1] + SCALE_CHANNELS[3] + 2
        self.classifier = nn.Linear(joined, classes) if classes else None

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last block: (B, 320, H/32, W/32)."""
        return self.encoder.blocks[-1]

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 320); the decoder does not run."""
        return pooled(self.encoder(x)[-1])

    def forward(self, x: Tensor) -> Maps:
        """Logits of one batch."""
        scales = self.encoder(x)
        h, stages = scales[-1], []
        for block, skip in zip(self.decoder, reversed(scales[:-1]), strict=True):
            h = block(self.channel_dropout(h), skip)
            stages.append(h)
        lesion = F.interpolate(self.lesion(h), size=x.shape[2:], mode="bilinear", align_corners=False)
        side = [self.side[0](stages[2]), self.side[1](stages[1])]
        if self.classifier is None or self.encoder.head is None:
            return Maps(lesion, side, None)
        # The map says where to look; the class must not bend it, hence detach.
        where = torch.sigmoid(lesion.detach())
        joined = [
            self.encoder.head(scales[-1]).mean((2, 3)),
            masked_mean(stages[1], where),
            stages[1].mean((2, 3)),
            masked_mean(scales[3], where),
            where.amax((2, 3)),
            where.mean((2, 3)).sqrt(),
        ]
        return Maps(lesion, side, self.classifier(self.dropout(torch.cat(joined, 1))))


def masked_mean(features: Tensor, weight: Tensor) -> Tensor:
    """Mean of (B, C, h, w) under weights (B, 1, H, W); near zero weight gives near zero, not noise.

    H and W are multiples of h and w. Pooling by a constant is what a graph can hold; by area it cannot.
    """
    shrink = [
        int(size) // int(small) for size, small in zip(weight.shape[2:], features.shape[2:], strict=True)
    ]
    small = F.avg_pool2d(weight, shrink).to(features.dtype)
    return (features * small).sum((2, 3)) / (small.sum((2, 3)) + 1.0)
