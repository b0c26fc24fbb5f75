"""What does not fit is made smaller, moved, and at last refused, before anything is allocated."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.inference.fit import Demand, Room, bytes_of, fit
from models.memory import TooLarge

MIB = 1 << 20
DEMAND = Demand(
    window=(96, 96, 96),
    grid=(1000, 512, 512),
    plane=512 * 512,
    heads=3,
    depths=(96,),
    normaliser=4 * 512 * 512,
    result=1000 * 512 * 512,
    window_bytes=200 * MIB,
)
PLENTY = 1 << 40


def test_where_there_is_room_everything_runs_on_the_gpu_with_the_whole_batch():
    one = fit(DEMAND, Room(PLENTY, PLENTY), batch=4)
    assert (one.device, one.slab.sums_on, one.slab.batch) == ("cuda", "cuda", 4)
    one = fit(DEMAND, Room(PLENTY), batch=4)
    assert (one.device, one.slab.sums_on, one.slab.batch) == ("cpu", "cpu", 4)


def test_less_room_means_smaller_pieces_then_a_smaller_batch_then_sums_on_the_host_then_the_cpu():
    order = []
    for device in range(3000, 0, -25):
        one = fit(DEMAND, Room(PLENTY, device * MIB), batch=4)
        order.append((one.device, one.slab.sums_on, one.slab.batch))
    assert list(dict.fromkeys(order)) == [
        ("cuda", "cuda", 4),
        ("cuda", "cuda", 2),
        ("cuda", "cuda", 1),
        ("cuda", "cpu", 4),
        ("cuda", "cpu", 2),
        ("cuda", "cpu", 1),
        ("cpu", "cpu", 4),
    ]
    roomy, tight = (fit(DEMAND, Room(PLENTY, mib * MIB), batch=4).slab.slices for mib in (3000, 2215))
    assert roomy > tight


def test_what_fits_nowhere_is_refused_with_what_the_smallest_way_needs():
    enough = next(
        mib for mib in range(100, 5000) if not isinstance(attempt(DEMAND, mib * MIB, batch=4), TooLarge)
    )
    refused = attempt(DEMAND, (enough - 1) * MIB, batch=4)
    assert isinstance(refused, TooLarge)
    assert (enough - 1) * MIB < refused.need <= enough * MIB
    one = fit(DEMAND, Room(enough * MIB), batch=4)
    assert (one.slab.batch, one.slab.slices) == (1, 1)


def attempt(demand: Demand, host: int, *, batch: int, device: int | None = None):
    try:
        return fit(demand, Room(host, device), batch=batch)
    except TooLarge as error:
        return error


@given(
    st.integers(0, 6000),
    st.one_of(st.none(), st.integers(0, 6000)),
    st.integers(1, 9),
    st.integers(1, 30),
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
)
def test_what_is_chosen_never_needs_more_than_there_is(host, device, batch, heads, depths):
    demand = replace(DEMAND, heads=heads, depths=tuple(sorted(depths)))
    room = Room(host * MIB, None if device is None else device * MIB)
    one = attempt(demand, room.host, batch=batch, device=room.device)
    if isinstance(one, TooLarge):
        assert one.need > room.host
        return
    needs = bytes_of(one, demand)
    assert needs[0] <= room.host
    assert needs[1] <= (room.device or 0)
    assert 1 <= one.slab.batch <= batch
    assert 1 <= one.slab.layers <= len(depths)


@pytest.mark.parametrize("heads", [3, 25])
def test_memory_beside_input_and_result_is_that_of_a_slab(heads):
    """512 x 512 x 1000 with windows of 96: a tenth of what whole logits take."""
    demand = replace(DEMAND, heads=heads, window_bytes=0)
    one = fit(demand, Room(PLENTY), batch=1)
    beside = bytes_of(one, demand)[0] - demand.result
    assert beside < {3: 0.7, 25: 3.5}[heads] * (1 << 30)
    assert beside < 4 * heads * 1000 * 512 * 512 / 7
