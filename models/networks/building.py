"""From a registry entry to a network."""

from __future__ import annotations

import torch
from torch import nn

from models.networks.monai_networks import build_monai_network
from models.networks.nnunet import Members, NnUNet
from models.networks.registry import (
    EffNetLite0UNetSpec,
    MonaiNetworkSpec,
    NnUNetPlainSpec,
    NnUNetResEncSpec,
)
from models.networks.unet import EffNetLite0UNet


def build_network(
    spec: EffNetLite0UNetSpec, *, dropout: float = 0.0, drop_rate: float = 0.0, decoder_dropout: float = 0.0
) -> EffNetLite0UNet:
    """A network with fresh weights; dropout and stochastic depth matter in training only."""
    return EffNetLite0UNet(
        in_channels=spec.in_channels,
        classes=spec.classes,
        decoder_channels=spec.decoder_channels,
        dropout=dropout,
        drop_rate=drop_rate,
        decoder_dropout=decoder_dropout,
    )


def build_grid_network(spec: NnUNetPlainSpec | NnUNetResEncSpec | MonaiNetworkSpec) -> nn.Module:
    """A network of many heads with fresh weights: (B, in_channels, ...) -> (B, heads, ...) logits."""
    if not isinstance(spec, NnUNetPlainSpec | NnUNetResEncSpec):
        return build_monai_network(spec)
    return Members([NnUNet(spec) for _ in range(spec.members)])


def parameter_count(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


def in_channels_last(network: nn.Module) -> None:
    """Lay the kernels out as the CPU's and GPU's convolutions read them fastest, in place."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
