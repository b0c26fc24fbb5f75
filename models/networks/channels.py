"""PURE channels of a network that are made, normalised and read together: which weigh most, and tensors cut.

A channel is made by one layer (or two that belong together), may be scaled and shifted by a normalisation,
and is read by the layers behind it; all of them are cut together.

Source of the measure: Li et al., Pruning filters for efficient ConvNets, arXiv 1608.08710 (norm of a filter;
here with the scale of its normalisation, and times the norm of what is read from it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Reading:
    """Where a layer reads channels: along axis 1 of its weight, from `offset` on."""

    layer: str
    offset: int = 0


@dataclass(frozen=True)
class ChannelSet:
    """Channels of which some may go.

    count, left : how many there are, and how many stay
    made_by : layers that give them, along axis 0 of their weights
    normed_by : normalisations of these layers, in the same order; empty where there are none
    read_by : layers behind
    """

    count: int
    left: int
    made_by: tuple[str, ...]
    normed_by: tuple[str, ...]
    read_by: tuple[Reading, ...]


def inner_channels(widths: Sequence[int], left: Sequence[int], *, encoder: str = "") -> Iterator[ChannelSet]:
    """Between expansion and projection of each block of EfficientNet-Lite0; nothing else sees these.

    Parameters
    ----------
    widths, left : of the blocks that expand, see `models.networks.encoder.EXPANDED`
    encoder : what the encoder's names begin with
    """
    for index, (count, stay) in enumerate(
        zip(widths, left, strict=True), start=1
    ):  # the first does not expand
        block = f"{encoder}blocks.{index}"
        yield ChannelSet(
            count,
            stay,
            (f"{block}.expand.0", f"{block}.depthwise.0"),
            (f"{block}.expand.1", f"{block}.depthwise.1"),
            (Reading(f"{block}.project.0"),),
        )


def importance(state: State, channels: ChannelSet) -> Tensor:
    """(count,) what goes into each channel times what is read from it."""
    into = torch.ones(channels.count)
    for index, layer in enumerate(channels.made_by):
        size = state[f"{layer}.weight"].float().flatten(1).norm(dim=1)
        if channels.normed_by:
            norm = channels.normed_by[index]
            spread = state.get(f"{norm}.running_var")
            # Instance norm divides by what it finds: of the filter's size nothing is left.
            size = torch.ones_like(size) if spread is None else size / (spread.float() + 1e-5).sqrt()
            size = size * state[f"{norm}.weight"].float().abs()
        into = into * size
    out = torch.zeros(channels.count)
    for reading in channels.read_by:
        columns = state[f"{reading.layer}.weight"].float().transpose(0, 1).flatten(1)
        out = out + columns[reading.offset : reading.offset + channels.count].square().sum(1)
    return into * out.sqrt()


def strongest(weights: Tensor, count: int) -> Tensor:
    """(count,) indices of the largest, ascending; of equals the first."""
    order = torch.argsort(weights, descending=True, stable=True)
    return order[:count].sort().values


def cut(state: State, sets: Sequence[ChannelSet], kept: Sequence[Tensor]) -> State:
    """The tensors without the channels that go; float32 stays float32."""
    gone: dict[tuple[str, int], list[int]] = {}
    for channels, stay in zip(sets, kept, strict=True):
        drop = np.setdiff1d(np.arange(channels.count), stay.numpy())
        for layer in (*channels.made_by, *channels.normed_by):
            for name in ("weight", "bias", "running_mean", "running_var"):
                if f"{layer}.{name}" in state:
                    gone.setdefault((f"{layer}.{name}", 0), []).extend(drop.tolist())
        for reading in channels.read_by:
            gone.setdefault((f"{reading.layer}.weight", 1), []).extend((drop + reading.offset).tolist())
    smaller = dict(state)
    for (name, axis), places in gone.items():
        left = np.setdiff1d(np.arange(state[name].shape[axis]), places)
        smaller[name] = smaller[name].index_select(axis, torch.from_numpy(left))
    return {name: value.clone() for name, value in smaller.items()}
