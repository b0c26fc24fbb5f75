"""Loaded networks, as many as fit into so many bytes: the one longest unused makes room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Loaded(Generic[T]):
    """Things that are costly to make, by name.

    Parameters
    ----------
    bytes_max : of all that are kept; the last one asked for is kept whatever it takes
    bytes_of : what one takes
    """

    def __init__(self, bytes_max: int, bytes_of: Callable[[T], int]) -> None:
        self._bytes_max, self._bytes_of = bytes_max, bytes_of
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The kept one, or a new one."""
        if name not in self._kept:
            made = make()
            self._kept[name] = made, self._bytes_of(made)
        self._kept.move_to_end(name)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._bytes_max:
            self._kept.popitem(last=False)
        return self._kept[name][0]
