"""What every detector gives and is taught: boxes, classes and scores of one image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Detections(NamedTuple):
    """Found in one image or volume, the surest first."""

    boxes: Tensor  # (n, 2d) voxels of the input, see models.networks.boxes
    classes: Tensor  # (n,) from 0, background is none
    scores: Tensor  # (n,) 0 to 1


class Truth(NamedTuple):
    """What is in one image or volume; every box has a size above 0 along each axis."""

    boxes: Tensor  # (n, 2d), n may be 0
    classes: Tensor  # (n,) from 0
