"""Generated images that a network can learn in seconds: discs or balls in noise, with masks and boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.networks.boxes import overlaps
from models.networks.detections import Detections, Truth


class Discs(NamedTuple):
    images: Tensor  # (N, 1, ...) noise of deviation 1, discs 3 above it
    masks: Tensor  # (N, 1, ...) 0 or 1
    truths: list[Truth]  # class 0: small, 1: large


def discs(
    count: int,
    size: int,
    *,
    seed: int,
    dimensions: int = 2,
    most: int = 2,
    least: int = 1,
    radii: tuple[float, float] = (2.5, 6.0),
    large: float = 100.0,
) -> Discs:
    """`least` to `most` discs an image that do not touch; a radius of at least `large` makes class 1."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    at = torch.stack(torch.meshgrid(*[torch.arange(size) + 0.5] * dimensions, indexing="ij"))
    masks, truths = torch.zeros(count, 1, *(size,) * dimensions), []
    for mask in masks:
        boxes, classes = [], []
        wanted = int(torch.randint(least, most + 1, (), generator=generator))
        for _attempt in range(30):  # in a full image the last one may find no place
            if len(boxes) == wanted:
                break
            radius = float(uniform(*radii, 1))
            centre = uniform(radius, size - radius, dimensions)
            box = torch.cat([centre - radius, centre + radius])
            apart = torch.cat([box[:dimensions] - 2, box[dimensions:] + 2])[None]
            if boxes and bool((overlaps(apart, torch.stack(boxes)) > 0).any()):
                continue
            boxes.append(box)
            classes.append(int(radius >= large))
            inside = (at - centre.view(-1, *(1,) * dimensions)).norm(dim=0) <= radius
            mask[0][inside] = 1
        stacked = torch.stack(boxes) if boxes else torch.zeros(0, 2 * dimensions)
        truths.append(Truth(stacked, torch.tensor(classes, dtype=torch.long)))
    return Discs(torch.randn(masks.shape, generator=generator) + 3 * masks, masks, truths)


def fit(
    network: nn.Module, loss: Callable[[int], Tensor], *, steps: int, rate: float = 3e-3, seed: int = 0
) -> nn.Module:
    """AdamW on `loss(step)` with a cosine; ends in evaluation."""
    torch.manual_seed(seed)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


def dice(logits: Tensor, masks: Tensor) -> float:
    found = logits > 0
    return float(2 * (found & (masks > 0)).sum() / (found.sum() + masks.sum()))


def hits(found: list[Detections], truths: list[Truth], *, iou: float) -> tuple[list[float], list[bool], int]:
    """Score of each detection, whether it is the first at a box of its class; how many boxes there are."""
    scores, right = [], []
    for own, truth in zip(found, truths, strict=True):
        free = [True] * len(truth.boxes)
        overlap = overlaps(own.boxes, truth.boxes.float())
        for index, score in enumerate(own.scores.tolist()):
            match = [
                box
                for box, is_free in enumerate(free)
                if is_free and overlap[index, box] >= iou and own.classes[index] == truth.classes[box]
            ]
            scores.append(score)
            right.append(bool(match))
            if match:
                free[match[0]] = False
    return scores, right, sum(len(truth.boxes) for truth in truths)
