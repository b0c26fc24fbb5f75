"""A network of heads at work: volume to grid, logits as a stream, labels and probabilities on the source.

The logits of a volume never exist at once; of the result there is one byte for each voxel of the source, and
four more for each probability that is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.grid import Gridded, to_grid
from models.grid_steps import Grid
from models.inference.fit import Demand, Room, fit
from models.inference.returning import interpolated, pasted
from models.inference.slab import Background, Piece, layers_to_fill, stream_logits, window_sizes
from models.inference.wanted import Wanted, decided_map, labels_of, map_of, probabilities_of
from models.inference.way_back import Interpolated, Pasted, WayBack, way_back
from models.inference.windows import Normaliser, Sizes, WindowGrid
from models.inference.windows_run import Network
from models.manifest import Manifest
from models.memory import TooLarge, free_bytes
from models.networks.registry import CanvasNetworkSpec
from models.resample import FloatArray
from models.volume import Volume

FreeBytes = Callable[[torch.device], int]


@dataclass(frozen=True, eq=False)
class Structures:
    """What a network says of a volume; arrays are (slices, rows, columns) of the source.

    Parameters
    ----------
    labels : 0 background, 1 .. n as `Wanted.structures` lists them; None where not asked for
    probabilities : by label, of those asked for
    decided : probability of the label at each voxel, 0 in the background; None where not asked for
    """

    labels: NDArray[np.uint8] | None
    probabilities: dict[int, FloatArray]
    decided: FloatArray | None = None


def structures_on_grid(
    volume: Volume,
    grid: Grid,
    network: Network,
    wanted: Wanted,
    *,
    batch: int,
    device: torch.device,
    bytes_per_window_voxel: int,
    free: FreeBytes = free_bytes,
) -> Structures:
    """Labels, and the probabilities asked for, of a volume.

    Parameters
    ----------
    network : (B, 1, *window) -> (B, heads, *window) logits, on `device`
    batch : most windows at a time
    bytes_per_window_voxel : of the network's activations, see `models.manifest.Memory`
    free : bytes that may be taken on a device

    Raises
    ------
    PreprocessError
        The declared steps cannot take the volume.
    TooLarge
        It would not fit into memory, not even a slab of it on the CPU.
    """

    def before_allocating(need: int) -> None:
        if need > (have := free(torch.device("cpu"))):
            raise TooLarge(need, have)

    gridded = to_grid(volume, grid.steps, before_allocating=before_allocating)
    back = way_back(gridded.done, gridded.shape)
    demand = _demand(gridded, back, grid, wanted, volume.array.size, batch, bytes_per_window_voxel)
    room = Room(free(torch.device("cpu")), free(device) if device.type == "cuda" else None)
    chosen = fit(demand, room, batch=batch)
    skip = grid.tiling.skip_background
    pieces = stream_logits(
        on_device(network, device, torch.device(chosen.device)),
        gridded.image[None],
        grid.tiling,
        heads=wanted.heads,
        slab=chosen.slab,
        device=torch.device(chosen.device),
        background=None if skip is None else Background(skip.above, skip.margin, wanted.background_logits()),
    )
    try:
        return returned(pieces, back, wanted, volume.shape, slices=chosen.slab.slices)
    except torch.OutOfMemoryError as error:
        raise TooLarge(demand.window_bytes, free(device)) from error


def lesion_on_grid(volume: Volume, manifest: Manifest, network: Network, device: torch.device) -> FloatArray:
    """Probability of lesion (slices, rows, columns) of the source; 0 where the grid had been cut.

    Parameters
    ----------
    manifest : of a package with a grid

    Raises
    ------
    PreprocessError, TooLarge
        As `structures_on_grid`.
    """
    assert manifest.grid is not None, "the manifest's own check: a network of heads has a grid"
    assert not isinstance(manifest.network, CanvasNetworkSpec), "the same check"
    tiling = manifest.grid.tiling
    wanted = Wanted(
        manifest.network.heads, tiling.activation, (tiling.lesion_heads,), labels=False, maps=(1,)
    )
    found = structures_on_grid(
        volume,
        manifest.grid,
        network,
        wanted,
        batch=manifest.inference.batch,
        device=device,
        bytes_per_window_voxel=manifest.runtime.memory.per_canvas_pixel,
    )
    return found.probabilities[1]


def returned(
    pieces: Iterator[Piece], back: WayBack, wanted: Wanted, source: Sizes, *, slices: int
) -> Structures:
    """A stream of logits on the grid as labels and probabilities on the source (slices, rows, columns).

    Parameters
    ----------
    slices : most of a piece on the way
    """
    labels = np.zeros(source, np.uint8) if wanted.labels else None
    maps = {label: np.zeros(source, np.float32) for label in wanted.maps}
    decided = np.zeros(source, np.float32) if wanted.decided else None
    views = [None if one is None else back.view(one) for one in (labels, decided, *maps.values())]
    stages = list(back.stages)
    while stages and isinstance(stages[-1], Pasted):
        # What lies around the last box is background already.
        box = stages.pop().box  # type: ignore[union-attr]  # the loop's own condition
        views = [None if view is None else view[box] for view in views]
    have_probabilities = False
    for stage in stages:
        if isinstance(stage, Interpolated):
            pieces = interpolated(pieces, stage, slices=slices)
        else:
            # Logits travel, as they do in training; outside of a box there are none, but no structure is.
            if not have_probabilities:
                pieces = (Piece(one.first, probabilities_of(one.values, wanted)) for one in pieces)
            have_probabilities = True
            pieces = pasted(pieces, stage, wanted.outside(), slices=slices)
    for piece in pieces:
        place = slice(piece.first, piece.end)
        found = None
        if views[0] is not None:
            found = labels_of(piece.values, wanted, are_probabilities=have_probabilities)
            views[0][place] = found.cpu().numpy()
        if maps or decided is not None:
            likely = piece.values if have_probabilities else probabilities_of(piece.values, wanted)
            if views[1] is not None and found is not None:
                views[1][place] = decided_map(likely, wanted, found).cpu().numpy()
            for label, view in zip(wanted.maps, views[2:], strict=True):
                assert view is not None, "one view for each map"
                view[place] = map_of(likely, wanted, label).cpu().numpy()
    return Structures(labels, maps, decided)


def _demand(
    gridded: Gridded,
    back: WayBack,
    grid: Grid,
    wanted: Wanted,
    source_voxels: int,
    batch: int,
    bytes_per_window_voxel: int,
) -> Demand:
    window = window_sizes(grid.tiling)
    z, y, x = (max(size, w) for size, w in zip(gridded.shape, window, strict=True))
    windows = WindowGrid.over((z, y, x), window, grid.tiling.overlap)
    layers = min(layers_to_fill(gridded.shape, grid.tiling, batch), len(windows.starts[0]))
    return Demand(
        window=window,
        grid=(z, y, x),
        plane=max(y * x, back.largest_plane(gridded.shape)),
        heads=wanted.heads,
        depths=tuple(windows.depth(count) for count in range(1, layers + 1)),
        normaliser=Normaliser.bytes_needed((z, y, x), window, grid.tiling.blend),
        result=source_voxels * (wanted.labels + 4 * len(wanted.maps) + 4 * wanted.decided),
        window_bytes=bytes_per_window_voxel * prod(grid.tiling.window),
    )


def on_device(network: Network, has: torch.device, wants: torch.device) -> Network:
    """The network on another device, as a copy: the loaded one stays where it is."""
    if has.type == wants.type or not isinstance(network, nn.Module):
        return network
    return copy.deepcopy(network).to(wants)
