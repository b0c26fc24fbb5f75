"""A network of heads at work: volume to grid, windows, probability of lesion back on the source grid."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from models.grid import Gridded, to_grid
from models.grid_steps import Grid
from models.manifest import Manifest
from models.memory import TooLarge, free_bytes
from models.networks.registry import EffNetLite0UNetSpec
from models.resample import FloatArray
from models.tiles import Network, sliding_logits
from models.volume import Volume


def lesion_on_grid(volume: Volume, manifest: Manifest, network: Network, device: torch.device) -> FloatArray:
    """Probability of lesion (slices, rows, columns) of the source.

    Parameters
    ----------
    manifest : of a package with a grid
    network : (B, channels, *window) -> (B, heads, *window) logits

    Raises
    ------
    PreprocessError
        The declared steps cannot take the volume.
    TooLarge
        It would not fit into memory.
    """
    grid = manifest.grid
    assert grid is not None, "the manifest's own check: a network of heads has a grid"
    assert not isinstance(manifest.network, EffNetLite0UNetSpec), "the same check"
    heads = manifest.network.heads
    gridded = to_grid(volume, grid.steps)
    _check_memory(volume, gridded, grid, manifest, heads, device)

    def logits_of(image: FloatArray) -> FloatArray:
        return sliding_logits(
            network, image, grid.tiling, heads=heads, batch=manifest.inference.batch, device=device
        )

    if len(grid.tiling.window) == 3:
        logits = logits_of(gridded.image[None])
    else:
        logits = np.stack([logits_of(plane[None]) for plane in gridded.image], axis=1)
    return gridded.lesion_on_source(logits, grid.tiling)


def _check_memory(
    volume: Volume, gridded: Gridded, grid: Grid, manifest: Manifest, heads: int, device: torch.device
) -> None:
    """Refuse before anything is allocated what would not fit: logits here, activations on the device."""
    voxels = max(gridded.image.size, volume.array.size)
    need = 4 * voxels * (3 * heads + 4)
    activations = (
        manifest.runtime.memory.per_canvas_pixel * manifest.inference.batch * prod(grid.tiling.window)
    )
    have = free_bytes(torch.device("cpu"))
    if device.type == "cpu":
        need += activations
    elif activations > free_bytes(device):
        raise TooLarge(activations, free_bytes(device))
    if need > have:
        raise TooLarge(need, have)
