"""Two attacks on a network in canvas space: FGSM and projected gradient descent (PGD), bounded in L-infinity.

Both look for the change of at most `bound` per pixel that makes a loss largest. They see the network and its
weights, not the package's preprocessing: an attacker of the original pixels has less room than this. FGSM is
one step; PGD begins at a random place, takes small steps and keeps the best image it saw.
Source: Goodfellow et al., arXiv 1412.6572; Madry et al., arXiv 1706.06083.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""An image to the loss of the truth, one number; it rises as the answer gets worse."""


@dataclass(frozen=True)
class Bounds:
    """What an attack may do.

    Parameters
    ----------
    bound : largest change of a pixel, in the image's own values
    low, high : of the image's values, which no change leaves
    """

    bound: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Attacked:
    """The worst image that was found, and the loss of the untouched one and of this."""

    image: Tensor
    loss_before: float
    loss_after: float


def fgsm(image: Tensor, loss: Loss, bounds: Bounds) -> Attacked:
    """One step of the whole bound along the sign of the gradient."""
    before, gradient = _slope(image, loss)
    worse = _within(image + bounds.bound * gradient.sign(), image, bounds)
    return Attacked(worse, before, _value(worse, loss))


def pgd(
    image: Tensor, loss: Loss, bounds: Bounds, *, steps: int = 20, generator: torch.Generator
) -> Attacked:
    """Steps of a quarter of the bound from a random start, each brought back into the bounds.

    The generator is one of the CPU. The untouched image is no candidate: an attack that finds nothing shows a
    loss that did not rise.
    """
    start = torch.rand(image.shape, generator=generator).to(image.device)
    current = _within(image + (2 * start - 1) * bounds.bound, image, bounds)
    best, worst = current, float("-inf")
    for _ in range(steps):
        value, gradient = _slope(current, loss)
        if value > worst:
            best, worst = current, value
        current = _within(current + bounds.bound / 4 * gradient.sign(), image, bounds)
    last = _value(current, loss)
    if last > worst:
        best, worst = current, last
    return Attacked(best, _value(image, loss), worst)


def _slope(image: Tensor, loss: Loss) -> tuple[float, Tensor]:
    with torch.enable_grad():
        asked = image.detach().clone().requires_grad_()
        value = loss(asked)
        (gradient,) = torch.autograd.grad(value, asked)
    return float(value.detach()), gradient


def _value(image: Tensor, loss: Loss) -> float:
    with torch.no_grad():
        return float(loss(image))


def _within(changed: Tensor, image: Tensor, bounds: Bounds) -> Tensor:
    near = torch.maximum(torch.minimum(changed, image + bounds.bound), image - bounds.bound)
    return near.clamp(bounds.low, bounds.high).detach()
