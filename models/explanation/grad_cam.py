"""Grad-CAM: the maps of one layer, weighted by how much each speaks for a score; 2D and 3D alike.

Source: Selvaraju et al., arXiv 1610.02391. Bilinear or trilinear up to the input's size, as in MONAI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Score = Callable[[Any], Tensor]
"""What the network gave, to the score of each sample: (B,), one number that rises with the class."""


def grad_cam(network: nn.Module, layer: nn.Module, batch: Tensor, score: Score) -> Tensor:
    """Heat (B, *sizes) of a batch (B, channels, *sizes); 0 and more, not scaled. Not in inference mode.

    Parameters
    ----------
    layer : of the network; gives (B, C, *smaller sizes)
    score : must see each sample by itself, as a network in evaluation mode does

    Raises
    ------
    ValueError
        The layer takes no part in the score, or gives no map.
    """
    kept: list[Tensor] = []
    watch = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            total = score(network(batch.detach().clone().requires_grad_())).sum()
    finally:
        watch.remove()
    if not kept or kept[-1].dim() != batch.dim():
        raise ValueError(
            "the layer gives no map of the batch; name one that a convolution or a block ends in"
        )
    maps = kept[-1]
    (gradient,) = torch.autograd.grad(total, maps, allow_unused=True)
    if gradient is None:
        raise ValueError("the score does not depend on the layer; name one that the class head reads")
    sizes = tuple(range(2, maps.dim()))
    heat = F.relu((gradient.mean(sizes, keepdim=True) * maps).sum(1, keepdim=True)).detach()
    mode = "bilinear" if batch.dim() == 4 else "trilinear"
    return F.interpolate(heat, size=batch.shape[2:], mode=mode, align_corners=False)[:, 0]
