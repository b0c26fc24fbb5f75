"""A network of random weights that answers to what it sees.

Fresh normalisation layers hold no statistics, so a deep network of fresh weights says nearly the same of
every image: too little for a gradient to be told from rounding.
"""

import torch
from torch import nn


def enlivened(network: nn.Module, sizes: tuple[int, ...] = (8, 1, 64, 64)) -> nn.Module:
    """The network with statistics of noise in its normalisation layers; in place."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 1.0
        layer.train()
    with torch.no_grad():
        network(torch.randn(sizes, generator=torch.Generator().manual_seed(9)))
    return network.eval()
