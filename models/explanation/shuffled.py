"""Cascading randomisation: a network's weights shuffled from its last layer down to its first.

Each tensor keeps its values and loses their order, so that the scale of what flows through stays what it was
and only what was learnt is gone. Running statistics of a normalisation are shuffled with its weights.
Source: Adebayo et al., arXiv 1810.03292.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

STAGES = 6  # of the cascade; the last has nothing learnt left


def cascade(network: nn.Module, *, seed: int, stages: int = STAGES) -> Iterator[tuple[float, nn.Module]]:
    """(share of layers shuffled, network) from the last layer alone to all layers; the network is a copy.

    The same copy each time, shuffled further: use it before asking for the next.
    """
    shuffled = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    # In the order they were built, which is that of reading; the class head stands last.
    layers = [layer for layer in shuffled.modules() if _own_tensors(layer)][::-1]
    done = 0
    for stage in range(stages):
        upto = max(1, round(len(layers) * stage / (stages - 1)))
        for layer in layers[done:upto]:
            shuffle(layer, generator)
        done = max(done, upto)
        yield done / len(layers), shuffled


def shuffle(layer: nn.Module, generator: torch.Generator) -> None:
    """Put the values of each tensor of one layer into another order, in place."""
    with torch.no_grad():
        for tensor in _own_tensors(layer):
            flat = tensor.detach().flatten().clone()
            order = torch.randperm(flat.numel(), generator=generator)
            tensor.copy_(flat[order.to(flat.device)].reshape(tensor.shape))


def _own_tensors(layer: nn.Module) -> list[torch.Tensor]:
    own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    return [tensor for tensor in own if tensor.is_floating_point()]
