"""Logits of a grid as a stream of slices: only a window's depth of them exists at any time.

Windows are taken layer by layer along the slices. What a layer adds goes into a ring of planes; slices that
no later window reaches are divided by the sum of the weights and handed out. A window without tissue is not
run: it counts as background with its weight, which costs nothing, since sums are kept as differences from
background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.grid_steps import Tiling
from models.inference.windows import Box, Normaliser, Sizes, WindowGrid, at_least, blend_weight, tissue_box
from models.inference.windows_run import Network, WindowsRun
from models.resample import FloatArray


@dataclass(frozen=True, eq=False)
class Piece:
    """Slices of a stream, which comes in order and without gaps.

    Parameters
    ----------
    first : number of the first slice
    values : (heads, slices, rows, columns), float32
    """

    first: int
    values: Tensor

    @property
    def end(self) -> int:
        """The slice after the last one."""
        return self.first + int(self.values.shape[1])


@dataclass(frozen=True, eq=False)
class Background:
    """What is not run: windows without a voxel above a value, and what lies outside the box of tissue.

    Parameters
    ----------
    above : on the grid; more is tissue
    margin : voxels around tissue that are read as tissue is
    logits : (heads,) that count for what is not run
    """

    above: float
    margin: int
    logits: Tensor


@dataclass(frozen=True)
class Slab:
    """How much is held at a time.

    Parameters
    ----------
    batch : windows in one run of the network
    layers : of windows whose sums are held together; more than 1 where a layer does not fill a batch
    slices : of a piece
    sums_on : device that holds the ring
    """

    batch: int
    layers: int = 1
    slices: int = 8
    sums_on: Literal["cpu", "cuda"] = "cpu"


def window_sizes(tiling: Tiling) -> Sizes:
    """The window with three sizes; one that reads slice by slice is one slice thick."""
    if len(tiling.window) == 2:
        return 1, tiling.window[0], tiling.window[1]
    return tiling.window[0], tiling.window[1], tiling.window[2]


def layers_to_fill(sizes: Sizes, tiling: Tiling, batch: int) -> int:
    """How many layers of windows fill a batch."""
    window = window_sizes(tiling)
    covered = (max(size, w) for size, w in zip(sizes, window, strict=True))
    z, y, x = covered
    return ceil(batch / WindowGrid.over((z, y, x), window, tiling.overlap).per_layer)


def stream_logits(
    network: Network,
    image: FloatArray,
    tiling: Tiling,
    *,
    heads: int,
    slab: Slab,
    device: torch.device,
    background: Background | None = None,
) -> Iterator[Piece]:
    """Logits of an image, slices in order.

    Parameters
    ----------
    network : (B, channels, *window) -> (B, heads, *window), on `device`
    image : (channels, slices, rows, columns)
    background : skip what it says; None runs every window

    Raises
    ------
    ValueError
        The network gives other heads or sizes than it says.
    torch.OutOfMemoryError
        The device has no room, also not for half the batch.
    """
    sizes: Sizes = (image.shape[1], image.shape[2], image.shape[3])
    window = window_sizes(tiling)
    outside = torch.zeros(heads) if background is None else background.logits.float()
    box = _whole(sizes)
    if background is not None:
        found = tissue_box(image[0], background.above, background.margin)
        if found is None:
            yield from _constant(0, sizes[0], sizes, outside, slab)
            return
        box = at_least(found, window, sizes)
    source, inside = _padded(image[:, *box], window)
    z, y, x = source.shape[1:]
    grid = WindowGrid.over((z, y, x), window, tiling.overlap)
    frame = _Frame(sizes, box, inside, outside)
    yield from _constant(0, box[0].start, sizes, outside, slab)
    runs = WindowsRun(network, tiling, heads=heads, batch=slab.batch, device=device)
    skipped = None if background is None else partial(_is_empty, source, background)
    # Where the sums are, the image fits too: windows are then cut out on the device.
    given = source.to(device) if slab.sums_on == "cuda" else source
    yield from _walk(runs, given, grid, tiling, frame, slab, skipped)
    yield from _constant(box[0].stop, sizes[0], sizes, outside, slab)


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where the windows' array lies: `box` of the image, without the padding around `inside`."""

    sizes: Sizes
    box: Box
    inside: Box
    outside: Tensor

    def placed(self, first: int, values: Tensor) -> Piece | None:
        """Slices of the windows' array as slices of the image."""
        begin, end = max(first, self.inside[0].start), min(first + values.shape[1], self.inside[0].stop)
        if begin >= end:
            return None
        kept = values[:, begin - first : end - first, self.inside[1], self.inside[2]]
        at = self.box[0].start + begin - self.inside[0].start
        if kept.shape[2:] == self.sizes[1:]:
            return Piece(at, kept)
        outside = self.outside.to(kept.device)[:, None, None, None]
        whole = outside.repeat(1, kept.shape[1], *self.sizes[1:])
        whole[:, :, self.box[1], self.box[2]] = kept
        return Piece(at, whole)


def _walk(
    runs: WindowsRun,
    source: Tensor,
    grid: WindowGrid,
    tiling: Tiling,
    frame: _Frame,
    slab: Slab,
    skipped: Callable[[Box], bool] | None,
) -> Iterator[Piece]:
    heads = len(frame.outside)
    weight = blend_weight(grid.window, tiling.blend).to(slab.sums_on)
    normaliser = Normaliser(grid, tiling.blend, torch.device(slab.sums_on))
    shift = frame.outside.to(slab.sums_on)[:, None, None, None]
    ring = _Ring(heads, grid.depth(slab.layers), grid.sizes[1:], slab.sums_on)
    finished, touched = 0, 0
    for first_slices, seen in grid.layers(slab.layers):
        boxes = list(grid.boxes(first_slices))
        if skipped is not None:
            boxes = [box for box in boxes if not skipped(box)]
        for box, logits in runs.logits(source, boxes):
            found = logits.to(slab.sums_on)
            ring.add(box, found if skipped is None else found - shift, weight)
            touched = max(touched, box[0].stop)
        while finished < seen:
            end = min(finished + slab.slices, seen)
            if touched <= finished:
                values = shift.expand(heads, end - finished, *grid.sizes[1:])
            else:
                values = ring.take(finished, end).div_(normaliser.of(finished, end))
                if skipped is not None:
                    values += shift
            piece = frame.placed(finished, values)
            if piece is not None:
                yield piece
            finished = end


class _Ring:
    """Sums of weighted logits of `depth` neighbouring slices; slice s lies at s modulo depth."""

    def __init__(self, heads: int, depth: int, plane: tuple[int, int], device: str) -> None:
        self._depth = depth
        self._sums = torch.zeros(heads, depth, *plane, device=device)

    def add(self, box: Box, logits: Tensor, weight: Tensor) -> None:
        """Add what a window (heads, *window) says, weighted."""
        done = box[0].start
        while done < box[0].stop:
            at = done % self._depth
            count = min(box[0].stop - done, self._depth - at)
            part = slice(done - box[0].start, done - box[0].start + count)
            self._sums[:, at : at + count, box[1], box[2]].addcmul_(logits[:, part], weight[part])
            done += count

    def take(self, first: int, last: int) -> Tensor:
        """The sums of these slices, which begin anew: their places are those of later slices."""
        places = [index % self._depth for index in range(first, last)]
        taken = self._sums[:, places]
        self._sums[:, places] = 0
        return taken


def _is_empty(source: Tensor, background: Background, box: Box) -> bool:
    """Whether a window and the margin around it hold no tissue."""
    margin = background.margin
    z, y, x = (slice(max(0, part.start - margin), part.stop + margin) for part in box)
    return not bool(source[0, z, y, x].amax() > background.above)


def _constant(first: int, last: int, sizes: Sizes, logits: Tensor, slab: Slab) -> Iterator[Piece]:
    value = logits.to(slab.sums_on)[:, None, None, None]
    for begin in range(first, last, slab.slices):
        yield Piece(begin, value.expand(len(logits), min(slab.slices, last - begin), *sizes[1:]))


def _padded(image: FloatArray, window: Sizes) -> tuple[Tensor, Box]:
    """The image with zeros around it where it is smaller than a window, and where it lies in it."""
    around, inside = [(0, 0)], []
    for size, extent in zip(image.shape[1:], window, strict=True):
        missing = max(0, extent - size)
        around.append((missing // 2, missing - missing // 2))
        inside.append(slice(missing // 2, missing // 2 + size))
    if any(after for _, after in around):
        image = np.pad(image, around)
    return torch.from_numpy(image), (inside[0], inside[1], inside[2])


def _whole(sizes: Sizes) -> Box:
    return slice(0, sizes[0]), slice(0, sizes[1]), slice(0, sizes[2])
