"""Encoders of 2D images that several networks are built on: EfficientNet-Lite0, or stages of our own."""

from __future__ import annotations

from torch import Tensor, nn

from models.networks.encoder import SCALE_CHANNELS, EffNetLite0
from models.networks.features import pooled
from models.networks.spec_parts import Lite0Encoder, StagedEncoder
from models.networks.stages import Encoder


def build_image_encoder(spec: Lite0Encoder | StagedEncoder, in_channels: int) -> EffNetLite0 | Encoder:
    """(B, in_channels, H, W) -> one map for each of `spec.strides`, finest first."""
    if isinstance(spec, Lite0Encoder):
        return EffNetLite0(in_channels, with_head=False)
    count = len(spec.features)
    return Encoder(
        in_channels,
        spec.features,
        kernels=[(3, 3)] * count,
        strides=[(1, 1)] + [(2, 2)] * (count - 1),
        blocks=spec.blocks,
        kind=spec.kind,
        norm=spec.norm,
    )


def map_channels(spec: Lite0Encoder | StagedEncoder) -> tuple[int, ...]:
    """Channels of each map, finest first."""
    return SCALE_CHANNELS if isinstance(spec, Lite0Encoder) else spec.features


def last_layer(encoder: EffNetLite0 | Encoder) -> nn.Module:
    """The layer that gives the coarsest map."""
    return encoder.blocks[-1] if isinstance(encoder, EffNetLite0) else encoder.stages[-1]


def image_vectors(encoder: EffNetLite0 | Encoder, images: Tensor) -> Tensor:
    """(N, in_channels, H, W) -> (N, C): the coarsest map, pooled."""
    return pooled(encoder(images)[-1])
