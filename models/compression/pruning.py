"""Whole channels taken out of a network, those that weigh least.

What is left is a smaller network of the same kind: smaller numbers in the registry's entry, smaller tensors,
nothing masked.

A network whose channels are normalised apart computes after the cut what it would compute had these channels
been silent before it; what is lost with them, fine-tuning has to win back. See `models.networks.channels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from config.errors import PrereadError
from models.networks.building import build_grid_network, build_network
from models.networks.channels import ChannelSet, Reading, cut, importance, inner_channels, strongest
from models.networks.encoder import EXPANDED, HEAD_CHANNELS
from models.networks.own_specs import UNetSpec
from models.networks.registry import EffNetLite0UNetSpec

PrunedSpec = EffNetLite0UNetSpec | UNetSpec
MULTIPLE = 4  # channels are left in such numbers, and never fewer


@dataclass(frozen=True, eq=False)
class Pruned:
    """The smaller network, and what stayed.

    sets : of the network before
    kept : of each set, the channels that stayed, ascending
    """

    spec: PrunedSpec
    network: nn.Module
    sets: tuple[ChannelSet, ...]
    kept: tuple[Tensor, ...]


def prune(network: nn.Module, spec: PrunedSpec, share: float) -> Pruned:
    """Take about this share of the channels out wherever the registry has a number for them.

    Raises
    ------
    PrereadError
        The network has channels that cannot go one by one.
    """
    smaller = smaller_spec(spec, share)
    sets = tuple(channel_sets(spec, smaller))
    state = {name: value.detach() for name, value in network.state_dict().items()}
    kept = tuple(strongest(importance(state, one), one.left) for one in sets)
    built = (
        build_network(smaller) if isinstance(smaller, EffNetLite0UNetSpec) else build_grid_network(smaller)
    )
    built.load_state_dict(cut(state, sets, kept))
    return Pruned(smaller, built.eval(), sets, kept)


def smaller_spec(spec: PrunedSpec, share: float) -> PrunedSpec:
    """The entry with fewer channels.

    Raises
    ------
    PrereadError
        Its channels are normalised in groups, or tied by residual paths.
    """
    if isinstance(spec, EffNetLite0UNetSpec):
        expanded = tuple(left_of(one, share) for one in spec.expanded or EXPANDED)
        a, b, c, d = (left_of(one, share) for one in spec.decoder_channels)
        return spec.model_copy(update={"expanded": expanded, "decoder_channels": (a, b, c, d)})
    if spec.kind != "plain" or spec.norm == "group":
        raise PrereadError(
            f"{spec.registry} with {spec.kind} blocks and {spec.norm} norm is not pruned",
            remedy="Plain blocks with instance or batch norm are: elsewhere channels hang together.",
        )
    return spec.model_copy(update={"features": tuple(left_of(one, share) for one in spec.features)})


def left_of(count: int, share: float) -> int:
    """How many channels of `count` stay, in multiples of MULTIPLE; all where there are hardly any."""
    return min(count, max(MULTIPLE, round(count * (1 - share) / MULTIPLE) * MULTIPLE))


def channel_sets(spec: PrunedSpec, smaller: PrunedSpec) -> Iterator[ChannelSet]:
    """Every set of channels whose number differs between the two entries, or may."""
    if isinstance(spec, EffNetLite0UNetSpec):
        assert isinstance(smaller, EffNetLite0UNetSpec), "made from it"
        yield from inner_channels(spec.expanded or EXPANDED, smaller.expanded or EXPANDED, encoder="encoder.")
        yield from _decoder(spec, smaller)
    else:
        assert isinstance(smaller, UNetSpec), "made from it"
        yield from _unet_encoder(spec, smaller)
        yield from _unet_decoder(spec, smaller)


def _decoder(spec: EffNetLite0UNetSpec, smaller: EffNetLite0UNetSpec) -> Iterator[ChannelSet]:
    last = len(spec.decoder_channels) - 1
    for index, (count, left) in enumerate(zip(spec.decoder_channels, smaller.decoder_channels, strict=True)):
        block = f"decoder.{index}"
        yield ChannelSet(
            count, left, (f"{block}.merge.0",), (f"{block}.merge.1",), (Reading(f"{block}.refine.0"),)
        )
        readers = [Reading("lesion") if index == last else Reading(f"decoder.{index + 1}.merge.0")]
        if index == 2:
            readers.append(Reading("side.0"))
        if index == 1:
            readers.append(Reading("side.1"))
            if spec.classes:  # as EffNetLite0UNet.forward joins them: head, under the map, everywhere
                readers += [
                    Reading("classifier", HEAD_CHANNELS),
                    Reading("classifier", HEAD_CHANNELS + count),
                ]
        yield ChannelSet(count, left, (f"{block}.refine.0",), (f"{block}.refine.1",), tuple(readers))


def _unet_encoder(spec: UNetSpec, smaller: UNetSpec) -> Iterator[ChannelSet]:
    deepest = len(spec.features) - 1
    for stage, (count, left) in enumerate(zip(spec.features, smaller.features, strict=True)):
        for block in range(spec.blocks):
            name = f"trunk.encoder.stages.{stage}.{block}"
            if block + 1 < spec.blocks:
                readers = [Reading(f"trunk.encoder.stages.{stage}.{block + 1}.conv")]
            elif stage == deepest:
                readers = [Reading("trunk.decoder.0.narrow")]
            else:
                up = f"trunk.decoder.{deepest - 1 - stage}"
                readers = [
                    Reading(f"trunk.encoder.stages.{stage + 1}.0.conv"),
                    Reading(f"{up}.merge.0.conv", count),
                ]
                if spec.attention:
                    readers.append(Reading(f"{up}.gate.of_skip"))
            yield ChannelSet(count, left, (f"{name}.conv",), (f"{name}.norm",), tuple(readers))


def _unet_decoder(spec: UNetSpec, smaller: UNetSpec) -> Iterator[ChannelSet]:
    deepest = len(spec.features) - 1
    for stage in reversed(range(deepest)):
        count, left = spec.features[stage], smaller.features[stage]
        up = f"trunk.decoder.{deepest - 1 - stage}"
        readers = [Reading(f"{up}.merge.0.conv")]
        if spec.attention:
            readers.append(Reading(f"{up}.gate.of_coarse"))
            inner, inner_left = max(1, count // 2), max(1, left // 2)  # as AttentionGate has them
            yield ChannelSet(
                inner,
                inner_left,
                (f"{up}.gate.of_skip", f"{up}.gate.of_coarse"),
                (),
                (Reading(f"{up}.gate.score"),),
            )
        yield ChannelSet(count, left, (f"{up}.narrow",), (), tuple(readers))
        for block in range(spec.decoder_blocks):
            name = f"{up}.merge.{block}"
            if block + 1 < spec.decoder_blocks:
                readers = [Reading(f"{up}.merge.{block + 1}.conv")]
            else:
                below = "head" if stage == 0 else f"trunk.decoder.{deepest - stage}.narrow"
                readers = [Reading(below)]
                if 1 <= stage <= spec.side_outputs:
                    readers.append(Reading(f"side.{stage - 1}"))
            yield ChannelSet(count, left, (f"{name}.conv",), (f"{name}.norm",), tuple(readers))
