"""Streams of slices on their way back to the source: interpolated in chunks with a halo, pasted, decided.

Only the slices that a later one still needs are held.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.inference.slab import Piece
from models.inference.way_back import Interpolated, Pasted, Taps


def interpolated(pieces: Iterator[Piece], stage: Interpolated, *, slices: int) -> Iterator[Piece]:
    """The stream on other slices, rows and columns; at most so many slices in a piece."""
    along, rows, columns = stage.taps
    if along is None:
        for piece in pieces:
            yield Piece(piece.first, _in_plane(piece.values, rows, columns))
        return
    # Whatever makes less of the values comes first.
    plane_first = along.new_size > along.size
    lowest, highest = np.minimum(along.lower, along.upper), np.maximum(along.lower, along.upper)
    held: Tensor | None = None
    held_first, produced = 0, 0
    for piece in pieces:
        values = _in_plane(piece.values, rows, columns) if plane_first else piece.values
        held = values if held is None else torch.cat([held, values], 1)
        stop = int(np.searchsorted(highest, piece.end))
        while produced < stop:
            end = min(produced + slices, stop)
            made = _along_slices(held, along, slice(produced, end), held_first)
            yield Piece(produced, made if plane_first else _in_plane(made, rows, columns))
            produced = end
        needed = int(lowest[produced]) if produced < along.new_size else piece.end
        kept = max(held_first, min(needed, piece.end))
        held, held_first = held[:, kept - held_first :].clone(), kept


def pasted(pieces: Iterator[Piece], stage: Pasted, outside: Tensor, *, slices: int) -> Iterator[Piece]:
    """The stream in a larger array.

    Parameters
    ----------
    outside : (heads,) values around it
    """
    along, rows, columns = stage.box
    value = outside[:, None, None, None]
    yield from _filled(0, along.start, stage, value, slices)
    for piece in pieces:
        canvas = value.to(piece.values.device).repeat(1, piece.values.shape[1], *stage.shape[1:])
        canvas[:, :, rows, columns] = piece.values
        yield Piece(piece.first + along.start, canvas)
    yield from _filled(along.stop, stage.shape[0], stage, value, slices)


def _filled(first: int, last: int, stage: Pasted, value: Tensor, slices: int) -> Iterator[Piece]:
    for begin in range(first, last, slices):
        yield Piece(begin, value.expand(-1, min(slices, last - begin), *stage.shape[1:]))


def _along_slices(held: Tensor, taps: Taps, part: slice, held_first: int) -> Tensor:
    lower = held[:, taps.lower[part] - held_first]
    if not taps.weight[part].any():
        return lower
    weight = torch.from_numpy(taps.weight[part]).to(held.device)
    return lower.lerp_(held[:, taps.upper[part] - held_first], weight[:, None, None])


def _in_plane(values: Tensor, rows: Taps | None, columns: Taps | None) -> Tensor:
    """(heads, slices, rows, columns) with other rows and columns, the smaller result first."""
    axes = [(rows, 2), (columns, 3)]
    if rows is not None and rows.new_size > rows.size:
        axes.reverse()
    for taps, dim in axes:
        if taps is not None:
            values = _along(values, taps, dim)
    return values


def _along(values: Tensor, taps: Taps, dim: int) -> Tensor:
    def places(index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(index)).to(values.device)

    lower = values.index_select(dim, places(taps.lower))
    if not taps.weight.any():
        return lower
    weight = torch.from_numpy(np.ascontiguousarray(taps.weight)).to(values.device)
    upper = values.index_select(dim, places(taps.upper))
    return lower.lerp_(upper, weight[:, None] if dim == 2 else weight)
