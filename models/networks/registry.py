"""The closed list of networks a package may name, each with a schema of its arguments; no torch here.

A package chooses from this list; nothing is imported by name, so a package is data and never code.
`models.networks.building` turns an entry into a network.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.steps import Strict

ChannelCount = Annotated[int, Field(ge=4, le=512)]


class EffNetLite0UNetSpec(Strict):
    """`effnet_lite0_unet@1`: see models.networks.unet."""

    registry: Literal["effnet_lite0_unet@1"]
    in_channels: int = Field(ge=1, le=16)
    classes: int = Field(ge=0, le=16)
    decoder_channels: tuple[ChannelCount, ChannelCount, ChannelCount, ChannelCount]


NetworkSpec = EffNetLite0UNetSpec
