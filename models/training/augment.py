"""Random changes of a training batch: place and shape for image and mask together, appearance for the image
alone.

Works on scaled intensities (air 0, tissue about 1, or 0 .. 1), before standardising. Every number is drawn
from the generator that is passed in, so a step of training is a function of its seed.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from models.training.lesion_change import Batch, fade_lesions, paste_lesions
from models.training.settings import AugmentSettings


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform numbers from the generator."""
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def chance(probability: float, count: int, generator: Generator) -> Tensor:
    """(count, 1, 1, 1) of 0 or 1."""
    return (torch.rand(count, 1, 1, 1, generator=generator, device=generator.device) < probability).float()


def augment(batch: Batch, settings: AugmentSettings, no_lesion: int | None, generator: Generator) -> Batch:
    """(B, C, H, W), (B, 1, H, W), (B,) -> the same, cropped to (rows, columns); the mask stays 0 or 1.

    `no_lesion` is the class of images without a lesion, None where there are no classes.
    """
    image, mask = move(batch.image, batch.mask, settings, generator)
    batch = Batch(image, mask, batch.classes)
    if settings.paste_probability > 0 and no_lesion is not None:
        batch = paste_lesions(batch, settings.paste_probability, no_lesion, generator)
    if settings.fade_probability > 0:
        batch = fade_lesions(batch, settings.fade_probability, settings.fade_largest, generator)
    return batch._replace(image=appearance(batch.image, settings, generator))


def move(
    image: Tensor, mask: Tensor, settings: AugmentSettings, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Rotate, scale, stretch, shift and mirror image and mask by the same random map."""
    count, _, height, width = image.shape
    angle = uniform(-1, 1, (count,), generator) * math.radians(settings.rotation_degrees)
    scale = torch.exp(
        uniform(-math.log(settings.scale_max), -math.log(settings.scale_min), (count,), generator)
    )
    stretch = torch.exp(uniform(-settings.aspect / 2, settings.aspect / 2, (count,), generator))
    mirror = torch.ones(count, device=generator.device)
    if settings.flip:
        mirror = torch.where(uniform(0, 1, (count,), generator) < 0.5, -1.0, 1.0)
    shift = uniform(-settings.shift, settings.shift, (2, count), generator)
    x_scale, y_scale = scale * stretch, scale / stretch
    # affine_grid speaks in half extents: rows of the matrix are divided by the source's, columns multiplied
    # by the
    # crop's, so that a rotation stays a rotation on a canvas that is not square.
    crop_x, crop_y = settings.columns / width, settings.rows / height
    aspect = settings.rows / width, settings.columns / height
    matrix = torch.stack(
        [
            torch.stack(
                [mirror * x_scale * angle.cos() * crop_x, -y_scale * angle.sin() * aspect[0], shift[0]], 1
            ),
            torch.stack(
                [mirror * x_scale * angle.sin() * aspect[1], y_scale * angle.cos() * crop_y, shift[1]], 1
            ),
        ],
        1,
    )
    grid = F.affine_grid(matrix, [count, 1, settings.rows, settings.columns], align_corners=False)
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    moved_mask = F.grid_sample(mask, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved, (moved_mask >= 0.5).float()


def appearance(image: Tensor, settings: AugmentSettings, generator: Generator) -> Tensor:
    """Change intensities as other scanners, gains and readers' marks would."""
    count, channels, height, width = image.shape
    if settings.neighbour_probability > 0 and channels > 1:
        image = change_neighbours(image, settings.neighbour_probability, generator)
    top = image.amax((1, 2, 3), keepdim=True).clamp(min=1e-3)
    gamma = torch.exp(uniform(-settings.gamma, settings.gamma, (count, 1, 1, 1), generator))
    # Normalised by 1, the value of tissue: gamma bends contrast around it and leaves it in place.
    image = (
        torch.where(image > 0, image.clamp(min=1e-4) ** gamma, image)
        if settings.maximum > 1
        else top * ((image / top).clamp(min=0) ** gamma)
    )
    gain = torch.exp(uniform(-settings.contrast, settings.contrast, (count, 1, 1, 1), generator))
    offset = uniform(-settings.brightness, settings.brightness, (count, 1, 1, 1), generator)
    image = (image * gain + offset).clamp(min=0)
    if settings.bias > 0:
        coarse = uniform(-settings.bias, settings.bias, (count, 1, 4, 4), generator)
        image = image * F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True).exp()
    if settings.blur_probability > 0:
        blurred = blur(image, float(uniform(0.5, 1.5, (1,), generator)))
        chosen = chance(settings.blur_probability, count, generator)
        image = torch.where(chosen > 0, blurred, image)
    if settings.low_resolution_probability > 0:
        factor = float(uniform(0.4, 0.9, (1,), generator))
        small = F.interpolate(
            image, scale_factor=factor, mode="bilinear", align_corners=False, antialias=True
        )
        coarse_image = F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
        chosen = chance(settings.low_resolution_probability, count, generator)
        image = torch.where(chosen > 0, coarse_image, image)
    if settings.speckle > 0:
        size = float(uniform(0.3, 1.0, (1,), generator))
        grain = torch.randn(
            (count, 1, max(8, int(height * size)), max(8, int(width * size))),
            generator=generator,
            device=generator.device,
        )
        grain = F.interpolate(grain, size=(height, width), mode="bilinear", align_corners=False)
        strength = uniform(0, settings.speckle, (count, 1, 1, 1), generator)
        image = image * (1 + strength * grain).clamp(min=0)
    if settings.noise > 0:
        strength = uniform(0, settings.noise, (count, 1, 1, 1), generator) * chance(0.7, count, generator)
        real = image + strength * torch.randn(image.shape, generator=generator, device=generator.device)
        imaginary = strength * torch.randn(image.shape, generator=generator, device=generator.device)
        image = torch.hypot(real, imaginary)
    if settings.cutout_probability > 0:
        image = cut_out(image, settings.cutout_probability, generator)
    return image.clamp(0, settings.maximum)


def change_neighbours(image: Tensor, probability: float, generator: Generator) -> Tensor:
    """Order of slices reversed (half of all), neighbours lost (with the probability): stacks come either way
    up.
    """
    count, channels = image.shape[:2]
    reverse = chance(0.5, count, generator)
    image = torch.where(reverse > 0, image.flip(1), image)
    middle = image[:, channels // 2 : channels // 2 + 1].expand_as(image)
    return torch.where(chance(probability, count, generator) > 0, middle, image)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of each channel, radius 3."""
    positions = torch.arange(-3, 4, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-0.5 * (positions / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = image.shape[1]
    down = kernel.view(1, 1, 7, 1).expand(channels, 1, 7, 1)
    across = kernel.view(1, 1, 1, 7).expand(channels, 1, 1, 7)
    padded = F.pad(image, (3, 3, 3, 3), mode="reflect")
    return F.conv2d(F.conv2d(padded, down, groups=channels), across, groups=channels)


def cut_out(image: Tensor, probability: float, generator: Generator) -> Tensor:
    """Small boxes of black or white: burned-in text, calipers and their removal must not decide anything."""
    count, _, height, width = image.shape
    image = image.clone()

    def number() -> float:
        return float(uniform(0, 1, (1,), generator))

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator, device=generator.device))

    for index in range(count):
        if number() >= probability:
            continue
        for _ in range(whole(1, 4)):
            h = whole(3, max(4, height // 8))
            w = whole(3, max(4, width // 5))
            top = whole(0, height - h)
            left = whole(0, width - w)
            # The condition draws first: the order of draws is part of what a seed means.
            value = number() if number() < 0.5 else 0.0
            image[index, :, top : top + h, left : left + w] = value
    return image
