"""Occlusion: how far a score falls when a patch of the input is covered; it needs no gradient.

Source: Zeiler and Fergus, arXiv 1311.2901.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

from models.explanation.grad_cam import Score


def occlusion(
    network: nn.Module,
    batch: Tensor,
    score: Score,
    *,
    patch: int,
    stride: int,
    fill: float,
    at_once: int = 16,
) -> Tensor:
    """Heat (B, *sizes) of a batch (B, channels, *sizes): the mean fall of the score over all patches there.

    A place where covering raises the score has a heat below 0.

    Parameters
    ----------
    patch, stride : side of a patch and step from one to the next, along each size; the last patch ends at
    the border
    fill : value of what is covered, such as that of air
    at_once : patches in one run of the network
    """
    with torch.inference_mode():
        return torch.stack(
            [_of_one(network, sample, score, patch, stride, fill, at_once) for sample in batch]
        )


def _of_one(
    network: nn.Module, sample: Tensor, score: Score, patch: int, stride: int, fill: float, at_once: int
) -> Tensor:
    sizes = sample.shape[1:]
    places = list(_places(sizes, patch, stride))
    whole = score(network(sample[None]))[0]
    fall, covered = torch.zeros(sizes, device=sample.device), torch.zeros(sizes, device=sample.device)
    for first in range(0, len(places), at_once):
        group = places[first : first + at_once]
        images = sample[None].repeat(len(group), *([1] * sample.dim()))
        for image, place in zip(images, group, strict=True):
            image[(slice(None), *place)] = fill
        for place, value in zip(group, score(network(images)), strict=True):
            fall[place] += whole - value
            covered[place] += 1
    return fall / covered


def _places(sizes: torch.Size, patch: int, stride: int) -> Iterator[tuple[slice, ...]]:
    """Every patch; together they cover everything."""
    if not 1 <= stride <= patch:
        raise ValueError(f"patches of {patch} every {stride} would leave gaps")
    axes = []
    for size in sizes:
        last = max(0, size - patch)
        starts = sorted({*range(0, last, stride), last})
        axes.append([slice(start, min(size, start + patch)) for start in starts])
    yield from product(*axes)
