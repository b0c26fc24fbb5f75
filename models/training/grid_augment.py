"""Random changes of how patches look, in 2D and 3D, for whole batches on their device; nothing moves.

For standardised intensities (mean 0, deviation 1, negative values included). Every number is drawn from the
generator that is passed in. Strengths follow nnU-Net's recipe.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from models.training.augment import uniform
from models.training.patch_set import Patches
from models.training.settings import GridAugment

COARSE = 4  # points along each axis of a bias field
BLUR_RADIUS = 4
LINEAR = {2: "bilinear", 3: "trilinear"}


def changed_appearance(image: Tensor, settings: GridAugment, generator: Generator) -> Tensor:
    """(B, C, *sizes) -> the same; each change where its chance says so."""
    count, _, *sizes = image.shape
    shape = (count, 1, *[1] * len(sizes))

    def each(low: float, high: float) -> Tensor:
        return uniform(low, high, shape, generator)

    def noise() -> Tensor:
        grain = torch.randn(image.shape, generator=generator, device=generator.device)
        return image + each(0, settings.noise) * grain

    def blurred() -> Tensor:
        return blur(image, uniform(0.3, max(0.3, settings.blur), (count,), generator))

    def brighter() -> Tensor:
        gain = torch.exp(each(-settings.brightness, settings.brightness))
        return image * gain + each(-settings.brightness, settings.brightness)

    def field() -> Tensor:
        coarse = uniform(-settings.bias, settings.bias, (count, 1, *[COARSE] * len(sizes)), generator)
        smooth = F.interpolate(coarse, size=sizes, mode=LINEAR[len(sizes)], align_corners=True)
        return image * smooth.exp()

    def coarser() -> Tensor:
        factor = float(uniform(settings.low_resolution, 1.0, (1,), generator))
        small = [max(2, round(size * factor)) for size in sizes]
        mode = LINEAR[len(sizes)]
        return F.interpolate(F.interpolate(image, size=small, mode="nearest-exact"), size=sizes, mode=mode)

    def bent(sign: int) -> Tensor:
        return sign * gamma(sign * image, torch.exp(each(-settings.gamma, settings.gamma)))

    for probability, change in (
        (settings.noise_probability, noise),
        (settings.blur_probability, blurred),
        (settings.brightness_probability, brighter),
        (settings.bias_probability, field),
        (settings.low_resolution_probability, coarser),
        (settings.inverted_gamma_probability, lambda: bent(-1)),
        (settings.gamma_probability, lambda: bent(1)),
    ):
        if probability > 0:
            chosen = each(0, 1) < probability
            image = torch.where(chosen, change(), image)
    return image


def gamma(image: Tensor, power: Tensor) -> Tensor:
    """Bend intensities between darkest and brightest of each patch; mean and deviation stay.

    Parameters
    ----------
    image : (B, C, *sizes)
    power : (B, 1, ...)
    """
    axes = tuple(range(1, image.dim()))
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    mean, deviation = image.mean(axes, keepdim=True), image.std(axes, keepdim=True)
    bent = ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) ** power
    bent_deviation = bent.std(axes, keepdim=True).clamp(min=1e-6)
    return (bent - bent.mean(axes, keepdim=True)) / bent_deviation * deviation + mean


def blur(image: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian of each patch's own standard deviation (B,), voxels; the rim is repeated."""
    count, channels, *sizes = image.shape
    places = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=image.device)
    kernel = torch.exp(-0.5 * (places / deviation[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (B*C, 2r+1)
    flat = image.reshape(1, count * channels, *sizes)
    convolve = F.conv2d if len(sizes) == 2 else F.conv3d
    for axis in range(len(sizes)):
        around = [0, 0] * len(sizes)
        around[2 * (len(sizes) - 1 - axis)] = around[2 * (len(sizes) - 1 - axis) + 1] = BLUR_RADIUS
        line = [1] * len(sizes)
        line[axis] = -1
        padded = F.pad(flat, around, mode="replicate")
        flat = convolve(padded, kernel.view(count * channels, 1, *line), groups=count * channels)
    return flat.reshape(image.shape)


def paste_labels(patches: Patches, probability: float, generator: Generator) -> Patches:
    """Put the labelled voxels of another patch of the batch into each chosen one, image and labels alike.

    The other's labels win only where this one has none, and its intensities come with the difference of the
    two means, so that what is pasted stands out as much as it did at home.
    """
    image, labels, drawn = patches
    count = len(image)
    source = torch.randperm(count, generator=generator, device=generator.device)
    chosen = uniform(0, 1, (count,), generator) < probability
    other, theirs = image[source], labels[source]
    pasted = (theirs > 0) & (labels == 0) & chosen.view(-1, *[1] * (labels.dim() - 1))
    axes = tuple(range(2, image.dim()))
    shift = image.mean(axes, keepdim=True) - other.mean(axes, keepdim=True)
    return Patches(
        torch.where(pasted[:, None], other + shift, image), torch.where(pasted, theirs, labels), drawn
    )


def mixed(image: Tensor, shares: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Mix-up: each image and its class shares with another's, by a share from Beta(alpha, alpha).

    Parameters
    ----------
    image : (B, C, ...)
    shares : (B, classes)

    Source: Zhang et al., ICLR 2018.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    # torch's Beta takes no generator.
    drawn = (
        torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, len(image))).float().to(image.device)
    )
    drawn = torch.maximum(drawn, 1 - drawn)  # the image keeps the larger part: the same mixtures, named once
    other = torch.randperm(len(image), generator=generator, device=generator.device)
    by_image = drawn.view(-1, *[1] * (image.dim() - 1))
    by_share = drawn[:, None]
    return (
        by_image * image + (1 - by_image) * image[other],
        by_share * shares + (1 - by_share) * shares[other],
    )
