"""Attention: how much each place of a volume spoke for the class that a model chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.resample import FloatArray

Method = Literal["grad-cam", "occlusion"]
CAPTION: Final = "attention, not boundary"
LEVELS: Final = 255  # a kept map is a whole number of 255ths
_COOL: Final = (70, 90, 255)
_WARM: Final = (255, 232, 96)
_STRONGEST: Final = 0.6  # so that the tissue is seen through the warmest place


@dataclass(frozen=True, eq=False)
class Attention:
    """A heat map on the grid of its source.

    Parameters
    ----------
    heat : (slices, rows, columns) of the source, 0 to 1; 1 is the strongest place, all 0 where nothing spoke
    class_name : the class it speaks for
    method, layer : how it was made; a layer for Grad-CAM only
    """

    heat: FloatArray
    class_name: str
    method: Method
    layer: str | None

    @property
    def levels(self) -> NDArray[np.uint8]:
        """The map in 255ths, rounded."""
        return np.round(self.heat * LEVELS).astype(np.uint8)

    @property
    def strongest_slice(self) -> int:
        """The slice with the most heat; of equals the first."""
        return int(np.argmax(self.heat.sum((1, 2))))


def to_unit(heat: NDArray[Any]) -> FloatArray:
    """Heat without what speaks against the class, its highest place 1; a map without any stays 0."""
    positive = np.maximum(np.asarray(heat, np.float32), 0)
    top = float(positive.max(initial=0.0))
    return np.divide(positive, top or 1.0, dtype=np.float32)


def heat_over(grey: NDArray[np.uint8], heat: FloatArray) -> NDArray[np.uint8]:
    """A grey picture (rows, columns) with its heat over it: (rows, columns, 3).

    Where there is no heat the picture stays grey; from blue to yellow it grows warmer and less transparent.
    """
    share = np.clip(heat, 0, 1)[..., None]
    colour = np.array(_COOL) * (1 - share) + np.array(_WARM) * share
    cover = share * _STRONGEST
    mixed = grey[..., None] * (1 - cover) + colour * cover
    return np.round(mixed).astype(np.uint8)
