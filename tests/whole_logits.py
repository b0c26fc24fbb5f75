"""A prediction on a grid, plain and whole: logits and a count map of the whole grid, scipy on the way back.

What the stream of `models.inference` must equal.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch

from models.grid import Cropped, Gridded, Resampled, Turned, resampled
from models.grid_steps import Tiling
from models.inference.slab import Background, Slab, stream_logits
from models.inference.wanted import Wanted
from models.inference.windows import blend_weight, window_starts

CPU = torch.device("cpu")


def whole_logits(network, image: np.ndarray, tiling: Tiling, *, heads: int) -> np.ndarray:
    """(channels, *sizes) -> (heads, *sizes), as many sizes as the window has; one window at a time."""
    window = tiling.window
    missing = [max(0, extent - size) for size, extent in zip(image.shape[1:], window, strict=True)]
    padded = np.pad(image, [(0, 0), *((few // 2, few - few // 2) for few in missing)])
    sizes = padded.shape[1:]
    weight = blend_weight(window, tiling.blend)
    total, seen = torch.zeros((heads, *sizes)), torch.zeros(sizes)
    starts = [window_starts(size, extent, tiling.overlap) for size, extent in zip(sizes, window, strict=True)]
    for corner in product(*starts):
        place = tuple(slice(at, at + extent) for at, extent in zip(corner, window, strict=True))
        with torch.inference_mode():
            given = torch.from_numpy(padded[:, *place])[None]
            turns = [[]]
            for axis in tiling.mirror:
                turns += [[*turn, axis + 2] for turn in turns]
            found = sum(network(given.flip(turn)).flip(turn) for turn in turns) / len(turns)
        total[:, *place] += found[0] * weight
        seen[place] += weight
    inside = tuple(
        slice(few // 2, few // 2 + size) for few, size in zip(missing, image.shape[1:], strict=True)
    )
    return (total / seen).numpy()[:, *inside]


def undone(array: np.ndarray, one: Turned | Cropped | Resampled) -> np.ndarray:
    """One step of the way back, by scipy."""
    if isinstance(one, Turned):
        return one.undo(array)
    if isinstance(one, Resampled):
        return resampled(np.ascontiguousarray(array), one.shape, 1, one.apart)
    whole = np.zeros(one.shape, np.float32)
    whole[one.box] = array
    return whole


def whole_probabilities(logits: np.ndarray, wanted: Wanted) -> np.ndarray:
    """(heads, ...) logits to the probability of each head, by closed forms."""
    if wanted.activation == "sigmoid":
        return 1 / (1 + np.exp(-logits.astype(np.float64)))
    if wanted.activation == "none":
        return logits
    shifted = np.exp(logits.astype(np.float64) - logits.max(0))
    return shifted / shifted.sum(0)


def whole_map(gridded: Gridded, logits: np.ndarray, wanted: Wanted, label: int) -> np.ndarray:
    """Probability of a label on the source, of (heads, a, b, c) logits on the grid."""
    values, are_probabilities = logits, False
    for one in reversed(gridded.done):
        if isinstance(one, Cropped) and not are_probabilities:
            values, are_probabilities = whole_probabilities(values, wanted), True
        values = np.stack([undone(head, one) for head in values])
    if not are_probabilities:
        values = whole_probabilities(values, wanted)
    chosen = values[list(wanted.structures[label - 1])]
    return chosen.max(0) if wanted.activation == "sigmoid" else chosen.sum(0)


def streamed(
    network,
    image: np.ndarray,
    tiling: Tiling,
    *,
    heads: int,
    slab: Slab | None = None,
    background: Background | None = None,
) -> np.ndarray:
    """The stream, collected: (channels, *sizes) -> (heads, *sizes)."""
    is_flat = image.ndim == 3
    pieces = stream_logits(
        network,
        image[:, None] if is_flat else image,
        tiling,
        heads=heads,
        slab=slab or Slab(batch=2),
        device=CPU,
        background=background,
    )
    found, end = [], 0
    for piece in pieces:
        assert piece.first == end, "slices come in order, without gaps"
        end = piece.end
        found.append(piece.values.numpy())
    logits = np.concatenate(found, 1)
    return logits[:, 0] if is_flat else logits


def wanted_of(tiling: Tiling, heads: int, maps: Sequence[int] = (1,)) -> Wanted:
    """The lesion of a tiling."""
    return Wanted(heads, tiling.activation, (tiling.lesion_heads,), maps=tuple(maps))
