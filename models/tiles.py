"""Windows over a grid: a network sees one window at a time, overlapping logits are averaged.

Plain and whole: the logits of the whole grid are held at once. `models.memory` is asked before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from math import ceil

import numpy as np
import torch
from torch import Tensor

from models.grid_steps import Tiling
from models.resample import FloatArray

Network = Callable[[Tensor], Tensor]
WEIGHT_MIN = 1e-3  # at the corners of a window, so that a voxel seen once keeps its logit


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis: evenly spread, as few as the overlap allows, ends met.

    `size` is at least `window`.
    """
    step = window * (1 - overlap)
    count = ceil((size - window) / step - 1e-9) + 1
    if count == 1:
        return [0]
    return [round((size - window) * index / (count - 1)) for index in range(count)]


def blend_weight(window: Sequence[int], blend: str) -> Tensor:
    """(*window,) weight of each voxel of a window: 1 everywhere, or a Gaussian of one eighth of each size.

    `gaussian` is MONAI's, around the middle and nowhere below `WEIGHT_MIN`; `gaussian_nnunet` is nnU-Net's,
    around voxel size // 2 and without that floor.
    """
    weight = torch.ones(tuple(window))
    if blend == "constant":
        return weight
    for axis, size in enumerate(window):
        centre = size // 2 if blend == "gaussian_nnunet" else (size - 1) / 2
        places = torch.arange(size, dtype=torch.float32) - centre
        line = torch.exp(-(places**2) / (2 * (size / 8) ** 2))
        weight = weight * line.reshape([-1 if index == axis else 1 for index in range(len(window))])
    return weight if blend == "gaussian_nnunet" else weight.clamp(min=WEIGHT_MIN)


def sliding_logits(
    network: Network,
    image: FloatArray,
    tiling: Tiling,
    *,
    heads: int,
    batch: int,
    device: torch.device,
) -> FloatArray:
    """Logits (heads, *sizes) of an image (channels, *sizes), as many sizes as the window has.

    Parameters
    ----------
    network : (B, channels, *window) -> (B, heads, *window)
    batch : windows at a time
    """
    window = tiling.window
    padded, inside = padded_to(image, window)
    sizes = padded.shape[1:]
    weight = blend_weight(window, tiling.blend)
    total = torch.zeros((heads, *sizes))
    seen = torch.zeros(sizes)
    starts = [window_starts(size, extent, tiling.overlap) for size, extent in zip(sizes, window, strict=True)]
    places = [
        tuple(slice(first, first + extent) for first, extent in zip(corner, window, strict=True))
        for corner in product(*starts)
    ]
    source = torch.from_numpy(padded)
    with torch.inference_mode():
        for first in range(0, len(places), batch):
            group = places[first : first + batch]
            windows = torch.stack([source[:, *place] for place in group]).to(device)
            logits = mirrored(network, windows, tiling.mirror).float().cpu()
            if logits.shape != (len(group), heads, *window):
                raise ValueError(
                    f"the network gave {tuple(logits.shape)} for windows of {tuple(windows.shape)}, "
                    f"expected {heads} heads of the same size"
                )
            for place, one in zip(group, logits, strict=True):
                total[:, *place] += one * weight
                seen[place] += weight
    return np.ascontiguousarray((total / seen)[:, *inside].numpy())


def mirrored(network: Network, windows: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean of the logits over every set of mirrored axes, each mirrored back."""
    total = network(windows)
    count = 1
    for number in range(1, len(axes) + 1):
        for chosen in combinations(axes, number):
            turned = [axis + 2 for axis in chosen]
            total = total + network(windows.flip(turned)).flip(turned)
            count += 1
    return total / count


def padded_to(image: FloatArray, window: Sequence[int]) -> tuple[FloatArray, tuple[slice, ...]]:
    """The image (channels, *sizes) with zeros around it, at least as large as a window, and where it lies."""
    around, inside = [(0, 0)], []
    for size, extent in zip(image.shape[1:], window, strict=True):
        missing = max(0, extent - size)
        around.append((missing // 2, missing - missing // 2))
        inside.append(slice(missing // 2, missing // 2 + size))
    return np.pad(image, around).astype(np.float32, copy=False), tuple(inside)
