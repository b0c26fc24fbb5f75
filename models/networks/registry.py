"""The closed list of networks a package may name, each with a schema of its arguments.

A package chooses from this list; nothing is imported by name, so a package is data and never code.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from models.networks.unet import EffNetLite0UNet
from models.steps import Strict


class EffNetLite0UNetSpec(Strict):
    """`effnet_lite0_unet@1`: see models.networks.unet."""

    registry: Literal["effnet_lite0_unet@1"]
    in_channels: int = Field(ge=1, le=16)
    classes: int = Field(ge=0, le=16)
    decoder_channels: tuple[
        Annotated[int, Field(ge=4, le=512)],
        Annotated[int, Field(ge=4, le=512)],
        Annotated[int, Field(ge=4, le=512)],
        Annotated[int, Field(ge=4, le=512)],
    ] = Field(strict=False)  # JSON has lists where Python has tuples


NetworkSpec = EffNetLite0UNetSpec


def build_network(spec: NetworkSpec, *, dropout: float = 0.0, drop_rate: float = 0.0) -> EffNetLite0UNet:
    """A network with fresh weights; dropout and stochastic depth matter in training only."""
    return EffNetLite0UNet(
        in_channels=spec.in_channels,
        classes=spec.classes,
        decoder_channels=spec.decoder_channels,
        dropout=dropout,
        drop_rate=drop_rate,
    )


def parameter_count(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
