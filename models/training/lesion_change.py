"""Random changes of lesions themselves: faded towards the tissue around them, and pasted into other images.

A network trained on few lesions learns that lesions are dark. Fading leaves border and texture to be learned
from; pasting shows one lesion in front of many backgrounds (Ghiasi et al., arXiv 2012.07177).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

RIM = 9  # pixels around a lesion that count as its surroundings
DARK = 0.05  # mean brightness below which there is no tissue
EDGE = 5  # pixels over which a change fades in; the border stays where the outline says


class Batch(NamedTuple):
    """Images and what is known of them."""

    image: Tensor  # (B, C, H, W)
    mask: Tensor  # (B, 1, H, W), 0 or 1
    classes: Tensor  # (B,)


def fade_lesions(batch: Batch, probability: float, largest: float, generator: Generator) -> Batch:
    """Mix each chosen lesion with tissue of another image, brought to the brightness of its surroundings.

    The share of the other tissue is uniform in 0 .. `largest`; at 1 nothing of the lesion would be left.
    """
    image, mask, classes = batch
    count = len(image)
    rim = dilated(mask, RIM) - mask
    other = image.roll(1, 0)
    surroundings, brightness = mean_under(image, rim), mean_under(other, mask)
    tissue = other * (surroundings / brightness.clamp(min=0.02)).clamp(0.3, 3.0)
    device = generator.device
    share = torch.rand(count, 1, 1, 1, generator=generator, device=device) * largest
    share = share * (torch.rand(count, 1, 1, 1, generator=generator, device=device) < probability)
    return Batch(image + softened(mask) * share * (tissue - image), mask, classes)


def paste_lesions(batch: Batch, probability: float, no_lesion: int, generator: Generator) -> Batch:
    """Put the lesion of another image, shifted and perhaps mirrored, into each chosen image.

    Only into images without a lesion (class `no_lesion`), which take the lesion's class, and into images of
    the lesion's own class: an image keeps one class. The lesion comes with its rim, and is brightened or
    darkened as the tissue around its new place is against that around the old one.
    """
    image, mask, classes = batch
    count = len(image)
    device = generator.device
    source = torch.randperm(count, generator=generator, device=device)
    shift = torch.rand(count, 2, generator=generator, device=device) * 1.0 - 0.5
    mirror = torch.where(torch.rand(count, generator=generator, device=device) < 0.5, -1.0, 1.0)
    chosen = torch.rand(count, generator=generator, device=device) < probability
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 1, 1] = mirror, 1.0
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, [count, 1, *image.shape[2:]], align_corners=False)
    lesion = F.grid_sample(image[source], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    outline = F.grid_sample(mask[source], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    around = dilated(outline, RIM)
    chosen &= (classes == no_lesion) | (classes == classes[source])
    # Left out where it is half outside the crop, over another lesion, or beside the scanner's picture.
    chosen &= outline.sum((1, 2, 3)) >= 0.7 * mask[source].sum((1, 2, 3)).clamp(min=1)
    chosen &= (around * mask).sum((1, 2, 3)) == 0
    rim = around - outline
    chosen &= mean_under(image, rim).flatten() > DARK
    gain = (mean_under(image, rim) / mean_under(lesion, rim).clamp(min=0.02)).clamp(0.5, 2.0)
    weight = softened(dilated(outline, EDGE)) * chosen.view(-1, 1, 1, 1)
    return Batch(
        image + weight * (lesion * gain - image),
        torch.where(chosen.view(-1, 1, 1, 1), torch.maximum(mask, outline), mask),
        torch.where(chosen, classes[source], classes),
    )


def dilated(mask: Tensor, pixels: int) -> Tensor:
    """(B, 1, H, W) grown by a square of the radius `pixels`."""
    size = 2 * pixels + 1  # rows, then columns: the same, and a sixth of a training step quicker
    down = F.max_pool2d(mask, (size, 1), stride=1, padding=(pixels, 0))
    return F.max_pool2d(down, (1, size), stride=1, padding=(0, pixels))


def softened(mask: Tensor) -> Tensor:
    """(B, 1, H, W) with an edge that falls off over EDGE pixels."""
    return F.avg_pool2d(mask, EDGE, stride=1, padding=EDGE // 2)


def mean_under(image: Tensor, mask: Tensor) -> Tensor:
    """(B, 1, 1, 1) mean of the image where the mask is 1; 0 under an empty mask."""
    total = (image * mask).sum((1, 2, 3), keepdim=True) / image.shape[1]
    return total / mask.sum((1, 2, 3), keepdim=True).clamp(min=1)
