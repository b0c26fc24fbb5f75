"""Batches as large as the device takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from models.memory import TooLarge

T = TypeVar("T")


class Batches:
    """Items a batch at a time; where the device has less room than it said, the batch is halved, once.

    Parameters
    ----------
    batch : items at a time
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self._batch, self._device, self._was_halved = batch, device, False

    def run(self, count: int, compute: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
        """`compute` for each batch of `count` items, in order.

        Raises
        ------
        torch.OutOfMemoryError
            Also not for half the batch.
        """
        first = 0
        while first < count:
            part = slice(first, min(first + self._batch, count))
            try:
                found = compute(part)
            except torch.OutOfMemoryError:
                if self._was_halved or self._batch == 1:
                    raise
            else:
                yield part, found
                first = part.stop
                continue
            # Out here the error is gone, and with it what its frames held.
            self._was_halved, self._batch = True, self._batch // 2
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


def fitting_batch(most: int, bytes_of_one: int, have: int) -> int:
    """`most` items at a time, or half of it, or a quarter, as fits.

    Raises
    ------
    TooLarge
        Not even one does.
    """
    batch = most
    while batch > 1 and batch * bytes_of_one > have:
        batch //= 2
    if batch * bytes_of_one > have:
        raise TooLarge(bytes_of_one, have)
    return batch
