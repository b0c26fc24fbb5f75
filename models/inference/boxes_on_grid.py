"""A detector at work on a volume: windows over its grid, their maps merged, boxes on the source.

The maps of a volume never exist at once. Peaks are looked for in the stream of merged slices, each with the
slice before and after it; of all that were found the strongest are kept, as a detector keeps them of one
image, and rivals are dropped once, over the whole volume. So a nodule that two windows see is found once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.grid import Gridded, to_grid
from models.grid_steps import Grid, Tiling
from models.inference.boxes_back import Boxes, boxes_to_source
from models.inference.cells import InCells, as_maps, cell_sizes, packed
from models.inference.fit import Demand, Room, fit
from models.inference.slab import Piece, layers_to_fill, stream_logits, window_sizes
from models.inference.structures import FreeBytes, on_device
from models.inference.windows import Normaliser, Sizes, WindowGrid
from models.memory import TooLarge, free_bytes
from models.networks.centernet import CenterMaps, boxes_at, peaks_of, without_rivals
from models.networks.detections import Detections
from models.networks.own_specs import CenterNetSpec
from models.volume import Volume

Detector = Callable[[Tensor], CenterMaps]
_BYTES_PER_PACKED_VOXEL = 8  # the packed image, and the padded one it is made of


def boxes_on_grid(
    volume: Volume,
    grid: Grid,
    network: Detector,
    spec: CenterNetSpec,
    *,
    batch: int,
    device: torch.device,
    bytes_per_window_voxel: int,
    free: FreeBytes = free_bytes,
) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes (n, 6) in voxels of the source, the surest first, and their scores; centres lie in the volume.

    Parameters
    ----------
    network : (B, 1, *window) -> maps, on `device`
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
    stride = _stride(spec)
    tiling = tiling_of_cells(grid.tiling, stride)
    cells = cell_sizes(gridded.shape, stride)
    before_allocating(_BYTES_PER_PACKED_VOXEL * prod(cells) * prod(stride))
    demand = _demand(cells, tiling, spec, batch, bytes_per_window_voxel)
    room = Room(free(torch.device("cpu")), free(device) if device.type == "cuda" else None)
    chosen = fit(demand, room, batch=batch)
    target = torch.device(chosen.device)
    pieces = stream_logits(
        on_device(InCells(network, stride), device, target),
        packed(gridded.image, stride),
        tiling,
        heads=spec.heads,
        slab=chosen.slab,
        device=target,
    )
    try:
        found = strongest(pieces, spec, slices=cells[0])
    except torch.OutOfMemoryError as error:
        raise TooLarge(demand.window_bytes, free(device)) from error
    return _on_source(found, gridded)


def strongest(pieces: Iterator[Piece], spec: CenterNetSpec, *, slices: int) -> Detections:
    """What `CenterNet.detect` would find in the maps that a stream is made of.

    Parameters
    ----------
    pieces : of merged maps, as `InCells` gives them
    slices : of the whole stream
    """
    stride, count = _stride(spec), spec.candidates_max
    found: list[Detections] = []
    held: Tensor | None = None
    first, decided = 0, 0  # slice where `held` begins; slices whose peaks are known
    for piece in pieces:
        held = piece.values if held is None else torch.cat([held, piece.values], 1)
        # Whether a slice has a peak hangs on the slice after it, which the last one does not have.
        stop = piece.end if piece.end == slices else piece.end - 1
        if stop <= decided:
            continue
        maps = as_maps(held[None], spec.classes)
        peaks = peaks_of(maps.heat)[0]
        inside = slice(decided - first, stop - first)
        part = boxes_at(
            peaks[:, inside],
            maps.offset[0, :, inside].float(),
            maps.size[0, :, inside].float(),
            stride=stride,
            count=count,
            first_cell=decided,
        )
        found.append(part)
        kept = max(first, stop - 1)
        held, first, decided = held[:, kept - first :].clone(), kept, stop
    boxes, classes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(scores, descending=True, stable=True)[:count]
    return without_rivals(
        Detections(boxes[order], classes[order], scores[order]), iou=spec.nms_iou, count=count
    )


def tiling_of_cells(tiling: Tiling, stride: Sizes) -> Tiling:
    """The same windows, counted in cells."""
    window = tuple(size // step for size, step in zip(tiling.window, stride, strict=True))
    return tiling.model_copy(update={"window": window})


def _on_source(found: Detections, gridded: Gridded) -> tuple[Boxes, NDArray[np.float64]]:
    boxes = found.boxes.double().cpu().numpy()
    centres = (boxes[:, :3] + boxes[:, 3:]) / 2
    # The last cells may reach beyond the grid, and offsets anywhere.
    inside = ((centres >= 0) & (centres < np.array(gridded.shape))).all(1)
    scores = found.scores.double().cpu().numpy()[inside]
    return boxes_to_source(boxes[inside], gridded.done, gridded.shape), scores


def _demand(
    cells: Sizes, tiling: Tiling, spec: CenterNetSpec, batch: int, bytes_per_window_voxel: int
) -> Demand:
    window, stride = window_sizes(tiling), _stride(spec)
    z, y, x = (max(size, w) for size, w in zip(cells, window, strict=True))
    windows = WindowGrid.over((z, y, x), window, tiling.overlap)
    layers = min(layers_to_fill(cells, tiling, batch), len(windows.starts[0]))
    return Demand(
        window=window,
        grid=(z, y, x),
        plane=y * x,
        heads=spec.heads,
        depths=tuple(windows.depth(count) for count in range(1, layers + 1)),
        normaliser=Normaliser.bytes_needed((z, y, x), window, tiling.blend),
        result=0,
        window_bytes=bytes_per_window_voxel * prod(window) * prod(stride),
    )


def _stride(spec: CenterNetSpec) -> Sizes:
    z, y, x = spec.output_stride
    return z, y, x
