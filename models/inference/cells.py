"""PURE: voxels packed into cells, so that a network whose maps are coarser than its input can be streamed.

A detector gives one value for each cell of, say, 2 x 2 x 2 voxels. Packed, an image has a channel for every
voxel of a cell, windows are counted in cells, and what comes out has the sizes of what went in: all that
holds for networks of heads (`models.inference.slab`) holds for detectors.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from models.inference.windows import Sizes
from models.networks.centernet import CenterMaps
from models.resample import FloatArray


def cell_sizes(shape: Sizes, stride: Sizes) -> Sizes:
    """Cells that cover an array; the last ones may reach beyond it."""
    z, y, x = (-(-size // step) for size, step in zip(shape, stride, strict=True))
    return z, y, x


def packed(image: FloatArray, stride: Sizes) -> FloatArray:
    """(slices, rows, columns) -> (voxels of a cell, *cells); zeros where cells reach beyond the image.

    A view of the image where it has whole cells, so the copy is the caller's to make.
    """
    cells = cell_sizes(_sizes(image), stride)
    missing = [(0, n * step - size) for n, step, size in zip(cells, stride, image.shape, strict=True)]
    if any(after for _, after in missing):
        image = np.pad(image, missing)
    (z, y, x), (a, b, c) = cells, stride
    parts = image.reshape(z, a, y, b, x, c).transpose(1, 3, 5, 0, 2, 4)
    return parts.reshape(prod(stride), z, y, x)


def unpacked(cells: Tensor, stride: Sizes) -> Tensor:
    """(B, voxels of a cell, *cells) -> (B, 1, slices, rows, columns): the inverse of `packed`."""
    (batch, _, z, y, x), (a, b, c) = cells.shape, stride
    parts = cells.reshape(batch, a, b, c, z, y, x).permute(0, 4, 1, 5, 2, 6, 3)
    return parts.reshape(batch, 1, z * a, y * b, x * c)


class InCells(nn.Module):
    """A detector as a network of heads on cells: (B, voxels of a cell, *cells) -> (B, heads, *cells).

    The heads are heat (logits) of each class, then offset and size along each axis.
    """

    def __init__(self, network: Callable[[Tensor], CenterMaps], stride: Sizes) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps of one batch, one after the other."""
        maps = self.network(unpacked(x, self.stride))
        return torch.cat([maps.heat, maps.offset, maps.size], 1)


def as_maps(heads: Tensor, classes: int) -> CenterMaps:
    """(B, heads, *cells) as `InCells` gives them, apart again."""
    axes = heads.dim() - 2
    return CenterMaps(heads[:, :classes], heads[:, classes : classes + axes], heads[:, classes + axes :])


def _sizes(image: FloatArray) -> Sizes:
    return image.shape[0], image.shape[1], image.shape[2]
