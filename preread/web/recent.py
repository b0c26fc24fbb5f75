"""What was made last, kept up to a total weight: a second look costs nothing and memory stays bounded."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class Recent(Generic[Kept]):
    """Values by key; the one asked for longest ago goes first. Thread-safe; a value may be made twice.

    Parameters
    ----------
    weight_max : of all values together; a heavier value is handed out but not kept
    weight : of one value
    """

    def __init__(self, weight_max: int, weight: Callable[[Kept], int]) -> None:
        self._weight_max = weight_max
        self._weight_of = weight
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The value, made when it is not here."""
        found = self.peek(key)
        return found if found is not None else self.put(key, make())

    def peek(self, key: Hashable) -> Kept | None:
        """The value; None when it is not here."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, value: Kept) -> Kept:
        """Keep a value; returns it."""
        with self._lock:
            if key not in self._kept and self._weight_of(value) <= self._weight_max:
                self._kept[key] = value
                self._weight += self._weight_of(value)
            while self._weight > self._weight_max:
                _, dropped = self._kept.popitem(last=False)
                self._weight -= self._weight_of(dropped)
        return value
