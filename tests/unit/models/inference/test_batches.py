"""A batch is as large as fits; out of memory halves it once, and nothing is lost."""

import pytest
import torch

from models.inference.batches import Batches, fitting_batch
from models.memory import TooLarge

CPU = torch.device("cpu")


def small_device(room: int, asked: list[slice]):
    """Computes on a device with room for so many items."""

    def compute(part: slice) -> int:
        asked.append(part)
        if part.stop - part.start > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return part.start

    return compute


def test_out_of_memory_halves_the_batch_once_for_all_that_follows():
    asked: list[slice] = []
    batches = Batches(8, CPU)
    found = [part for part, _ in batches.run(10, small_device(4, asked))]
    assert found == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert asked[0] == slice(0, 8)
    assert [part for part, _ in batches.run(5, small_device(4, asked))] == [slice(0, 4), slice(4, 5)]
    with pytest.raises(torch.OutOfMemoryError):
        list(batches.run(5, small_device(3, asked)))
    with pytest.raises(torch.OutOfMemoryError):
        list(Batches(8, CPU).run(10, small_device(3, [])))


def test_a_batch_is_halved_until_it_fits_and_refused_when_one_does_not():
    assert fitting_batch(8, 10, 1000) == 8
    assert fitting_batch(8, 10, 79) == 4
    assert fitting_batch(8, 10, 10) == 1
    with pytest.raises(TooLarge) as caught:
        fitting_batch(8, 10, 9)
    assert (caught.value.need, caught.value.have) == (10, 9)
