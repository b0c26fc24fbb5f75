"""Classes of a whole image: MONAI's DenseNet in 2D and 3D, and EfficientNet-Lite0 from ImageNet.

Both pool the last map and join it to classes by one linear layer, so that a class activation map is exact.
Parameters are counted in docs/networks.md.

Source: Huang, arXiv 1608.06993; Tan, Le, arXiv 1905.11946.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from torch import Tensor, nn

from models.networks.encoder import HEAD_CHANNELS, EffNetLite0
from models.networks.features import pooled
from models.networks.own_specs import DenseNetSpec, EffNetLite0ClassifierSpec

GROUPS = 4


def _norm(spec: DenseNetSpec) -> str | tuple[str, dict[str, Any]]:
    """As MONAI takes it. Group norm needs a number of groups that divides the channels of every layer."""
    if spec.norm == "batch":
        return "batch"
    if spec.norm == "instance":
        return "instance", {"affine": True}
    channels, groups = spec.init_features, gcd(GROUPS, spec.growth)
    for layers in spec.layers:
        groups = gcd(groups, channels)
        channels += layers * spec.growth
        groups = gcd(groups, channels)
        channels //= 2  # the transition to the next block
    return "group", {"num_groups": groups}


class DenseNetClassifier(nn.Module):
    """(B, in_channels, ...) -> (B, classes) logits; each size at least 2 ** (blocks + 2)."""

    def __init__(self, spec: DenseNetSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        from monai.networks.nets.densenet import DenseNet  # loaded for this network only

        self.network = DenseNet(
            spatial_dims=spec.dimensions,
            in_channels=spec.in_channels,
            out_channels=spec.classes,
            init_features=spec.init_features,
            growth_rate=spec.growth,
            block_config=spec.layers,
            norm=_norm(spec),
            dropout_prob=dropout,
        )

    @property
    def feature_layer(self) -> nn.Module:
        """The last ReLU: its output is what is pooled."""
        return self.network.class_layers.get_submodule("relu")

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, ...) -> (B, c), what the last layer reads."""
        return pooled(self.feature_layer(self.network.features(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of one batch."""
        logits: Tensor = self.network(x)
        return logits


class EffNetLite0Classifier(nn.Module):
    """(B, in_channels, H, W) -> (B, classes) logits; H and W multiples of 32."""

    def __init__(
        self, spec: EffNetLite0ClassifierSpec, *, dropout: float = 0.0, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder = EffNetLite0(spec.in_channels, with_head=True, drop_rate=drop_rate)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HEAD_CHANNELS, spec.classes)

    @property
    def feature_layer(self) -> nn.Module:
        """ImageNet's head: (B, 1280, H/32, W/32), what is pooled."""
        assert self.encoder.head is not None, "built with one"
        return self.encoder.head

    def features(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 1280), what the last layer reads."""
        return pooled(self.feature_layer(self.encoder(x)[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of one batch."""
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits
