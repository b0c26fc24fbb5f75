"""Deep supervision: the logits of a network's coarser decoder stages beside its finest ones, while training.

Ours after nnU-Net have them; MONAI's DynUNet when it was built with `deep_supervision`; a network of our own
when it gives a tuple of the finest logits and a list of the coarser ones in training, one for each layer of
its `side`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.errors import PrereadError
from models.networks.nnunet import Members, NnUNet


class SideOutputs(nn.Module):
    """Calls a network and gives `count` logits, finest first; weights are the network's own."""

    def __init__(self, network: nn.Module, count: int) -> None:
        """Check that the network has so many outputs; those that are not asked for do not learn.

        Raises
        ------
        PrereadError
            The network has fewer, or none.
        """
        super().__init__()
        self.network, self.count = network, count
        have = _outputs_of(network)
        if count > have:
            raise PrereadError(
                f"{type(network).__name__} has {have} outputs to learn from, {count} are asked for",
                where="side_weights",
                remedy="Give as many weights as there are outputs; one weight is no deep supervision.",
            )
        inner = _single(network)
        unused = list(_side(inner))[count - 1 :]
        if isinstance(inner, NnUNet):
            unused = list(inner.decoder.seg_layers)[: have - count]
        for layer in unused:
            layer.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, ...) -> (B, heads, ...) logits, each coarser one at its own size."""
        inner = _single(self.network)
        if self.count > 1 and isinstance(inner, NnUNet):
            return nnunet_outputs(inner, x)[: self.count]
        logits: Tensor | tuple[Tensor, list[Tensor]] = self.network(x)
        if isinstance(logits, tuple):
            return [logits[0], *logits[1]][: self.count]
        if logits.dim() == x.dim() + 1:  # DynUNet in training: (B, outputs, heads, ...), all at full size
            return list(logits.unbind(1))[: self.count]
        return [logits]


def nnunet_outputs(network: NnUNet, x: Tensor) -> list[Tensor]:
    """Logits of every decoder stage, finest first."""
    maps = network.encoder(x)
    decoder, h = network.decoder, maps[-1]
    outputs = []
    layers = zip(decoder.transpconvs, decoder.stages, decoder.seg_layers, strict=True)
    for step, (up, stage, head) in enumerate(layers, start=2):
        h = stage(torch.cat((up(h), maps[-step]), 1))
        outputs.append(head(h))
    return outputs[::-1]


def _single(network: nn.Module) -> nn.Module:
    """The only member of an ensemble of one."""
    if isinstance(network, Members) and len(network.members) == 1:
        return network.members[0]
    return network


def _outputs_of(network: nn.Module) -> int:
    inner = _single(network)
    if isinstance(inner, NnUNet):
        return len(inner.decoder.seg_layers)
    if getattr(inner, "deep_supervision", False):
        return 1 + int(getattr(inner, "deep_supr_num", 0))
    return 1 + len(_side(inner))


def _side(network: nn.Module) -> nn.ModuleList:
    """The layers that give a network's coarser outputs, finest first."""
    side = getattr(network, "side", None)
    return side if isinstance(side, nn.ModuleList) else nn.ModuleList()
