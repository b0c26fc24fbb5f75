"""PURE: how a prediction fits into memory, decided before anything is allocated.

First the pieces are made smaller, then the batch; then the sums move from the GPU to the host, then the
network moves to the CPU. What fits nowhere is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from models.inference.slab import Slab
from models.inference.windows import Sizes
from models.memory import TooLarge

PIECE_BYTES = 16 << 20  # more is no faster
_COPIES_OF_A_PIECE = 6  # taken, interpolated along three axes (two operands each), decided


@dataclass(frozen=True)
class Room:
    """Free bytes; `device` is that of a GPU, None where the CPU computes."""

    host: int
    device: int | None = None


@dataclass(frozen=True)
class Demand:
    """What a prediction asks for.

    Parameters
    ----------
    window, grid : sizes; the grid is at least as large as the window
    plane : voxels of the largest plane on the way back, the grid's own included
    heads : of the network
    depths : slices of the ring when 1, 2, .. layers are summed together, as far as a batch needs them
    normaliser : bytes
    result : bytes of label map and probability maps
    window_bytes : of one window in the network, all activations
    """

    window: Sizes
    grid: Sizes
    plane: int
    heads: int
    depths: tuple[int, ...]
    normaliser: int
    result: int
    window_bytes: int


@dataclass(frozen=True)
class Fit:
    """Where a prediction runs and how much of it at a time."""

    device: Literal["cpu", "cuda"]
    slab: Slab


def fit(demand: Demand, room: Room, *, batch: int) -> Fit:
    """The first way that fits, the fastest tried first.

    Raises
    ------
    TooLarge
        None does; with what the smallest needs of the host.
    """
    smallest: int | None = None
    for one in _ways(demand, room, batch):
        host, device = bytes_of(one, demand)
        if host <= room.host and device <= (room.device or 0):
            return one
        if one.device == "cpu":
            smallest = host if smallest is None else min(smallest, host)
    assert smallest is not None, "the last ways are those of the CPU"
    raise TooLarge(smallest, room.host)


def bytes_of(one: Fit, demand: Demand) -> tuple[int, int]:
    """Bytes it takes on the host and on the GPU."""
    slab = one.slab
    ring = 4 * demand.heads * demand.depths[slab.layers - 1] * demand.grid[1] * demand.grid[2]
    pieces = 4 * demand.heads * slab.slices * demand.plane * _COPIES_OF_A_PIECE
    sums = ring + demand.normaliser + pieces
    windows = slab.batch * (demand.window_bytes + 4 * prod(demand.window) * (1 + 2 * demand.heads))
    host = demand.result + (sums if slab.sums_on == "cpu" else 0)
    if one.device == "cpu":
        return host + windows, 0
    # Beside its sums a GPU holds the image, too.
    return host, windows + (sums + 4 * prod(demand.grid) if slab.sums_on == "cuda" else 0)


def _ways(demand: Demand, room: Room, batch: int) -> Iterator[Fit]:
    places: list[tuple[Literal["cpu", "cuda"], Literal["cpu", "cuda"]]] = [("cpu", "cpu")]
    if room.device is not None:
        places = [("cuda", "cuda"), ("cuda", "cpu"), *places]
    for device, sums_on in places:
        windows = batch
        while windows >= 1:
            layers = min(len(demand.depths), max(1, -(-windows * len(demand.depths) // batch)))
            slices = max(1, PIECE_BYTES // (4 * demand.heads * demand.plane))
            while slices >= 1:
                yield Fit(device, Slab(windows, layers, slices, sums_on))
                slices //= 2
            windows //= 2
