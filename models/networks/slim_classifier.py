"""Classes from the first stages of EfficientNet-Lite0: mean and spread of its maps, and a head.

The spread of the finest maps says how much grain an image has, the mean of the coarser ones what it shows.
The encoder may stay as ImageNet left it while only the head learns: minutes on one core instead of hours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.encoder import LITE0_STAGES, SCALE_CHANNELS, EffNetLite0
from models.networks.features import pooled
from models.networks.own_specs import EffNetLite0SlimSpec

STAGES = 5  # up to stride 16
SCALES = 4


class EffNetLite0Slim(nn.Module):
    """(B, in_channels, H, W) -> (B, classes) logits; H and W multiples of 16, at least 32."""

    def __init__(self, spec: EffNetLite0SlimSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        encoder = EffNetLite0(spec.in_channels, with_head=False)
        encoder.blocks = encoder.blocks[: sum(stage.repeats for stage in LITE0_STAGES[:STAGES])]
        self.encoder = encoder
        features = 2 * sum(SCALE_CHANNELS[:SCALES])
        self.head = nn.Sequential(
            nn.BatchNorm1d(features),
            nn.Dropout(dropout),
            nn.Linear(features, spec.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(spec.hidden, spec.classes),
        )

    @property
    def feature_layer(self) -> nn.Module:
        """The last block: its output (B, 112, H/16, W/16) is the coarsest map that is pooled."""
        return self.encoder.blocks[-1]

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 112), the mean of the coarsest map."""
        return pooled(self.encoder(x)[-1])

    def at_all_scales(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 384), what the head reads: mean and spread of each map."""
        found = []
        for level in self.encoder(x):  # (B, c, H / stride, W / stride) for strides 2, 4, 8 and 16
            flat = level.flatten(2)
            found += [flat.mean(2), flat.var(2, correction=0).clamp(min=0).sqrt()]
        return torch.cat(found, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of one batch."""
        logits: Tensor = self.head(self.at_all_scales(x))
        return logits
