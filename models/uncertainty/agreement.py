"""How far the network says the same of an image and of its mirror image, heard while it predicts both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.unet import Maps
from models.uncertainty.block import Uncertainty


class Agreement:
    """Overlap of the outlines of images and their mirror images, over all slices of a volume.

    The network is called in turn with images and with the same images mirrored left to right, as
    `inference.flip` has it.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._both, self._sum = 0.0, 0.0

    def hear(self, lesion: Tensor) -> None:
        """Take in logits (B, 1, H, W) of one call."""
        if self._first is None:
            self._first = lesion.detach()
            return
        here, there = torch.sigmoid(self._first), torch.sigmoid(lesion.detach().flip(3))
        self._both += float(torch.minimum(here, there).double().sum())
        self._sum += float((here + there).double().sum())
        self._first = None

    @property
    def value(self) -> float | None:
        """Soft Dice of the two, 0 to 1; None where nothing was compared."""
        return None if self._sum <= 0 or self._first is not None else 2 * self._both / self._sum


@contextmanager
def heard(network: nn.Module, block: Uncertainty | None) -> Iterator[Agreement]:
    """Inside the block the agreement is gathered from every call, where a package has a use for it."""
    if block is None:
        yield Agreement()
        return

    with listening(network) as agreement:
        yield agreement


@contextmanager
def listening(network: nn.Module) -> Iterator[Agreement]:
    """As `heard`, for whoever makes the block."""
    agreement = Agreement()

    def note(_network: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Maps):
            agreement.hear(output.lesion.float())

    handle = network.register_forward_hook(note)
    try:
        yield agreement
    finally:
        handle.remove()
