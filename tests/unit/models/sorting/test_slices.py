"""What the network sees of a series: no units, no windows, no sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sorting.manifest import SorterInput
from models.sorting.slices import canvas_of, canvases_of, chosen_slices, network_input

READING = SorterInput(positions=(0.25, 0.5, 0.75), side=32, low=1.0, high=99.0)


@given(st.integers(1, 2000))
def test_chosen_slices_are_inside_in_order_and_each_once(count):
    chosen = chosen_slices(count, READING.positions)
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < count


def test_middle_and_quarters_are_chosen():
    assert chosen_slices(21, READING.positions) == [5, 10, 15]
    assert chosen_slices(1, READING.positions) == [0]


@given(st.floats(0.01, 1000), st.floats(-3000, 3000))
def test_neither_gain_nor_offset_of_the_values_is_seen(gain, offset):
    plane = np.random.default_rng(1).uniform(0, 100, (40, 30))
    assert np.allclose(canvas_of(plane, READING), canvas_of(plane * gain + offset, READING), atol=1e-3)


def test_aspect_is_kept_and_the_rest_is_black():
    canvas = canvas_of(np.random.default_rng(1).uniform(1, 2, (64, 32)), READING)
    assert canvas.shape == (32, 32)
    assert canvas[:, :8].max() == 0
    assert canvas[:, 24:].max() == 0
    assert canvas[:, 8:24].mean() > 0.3


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_size_of_the_matrix_is_not_seen(scale):
    rows, columns = np.indices((64, 64)) / 64
    large = np.sin(rows * 6) + np.cos(columns * 5)
    again = np.kron(large, np.ones((4, 4)))[:: int(4 / scale), :: int(4 / scale)]
    assert np.abs(canvas_of(large, READING) - canvas_of(again, READING)).mean() < 0.02


def test_an_image_of_one_value_shows_nothing():
    assert canvas_of(np.full((20, 20), 7.0), READING) is None
    assert canvases_of([np.zeros((9, 9))], READING).shape == (0, 32, 32)


def test_network_sees_minus_one_to_one():
    found = network_input(np.stack([np.zeros((32, 32)), np.ones((32, 32))]).astype(np.float32))
    assert found.shape == (2, 1, 32, 32)
    assert (found.min(), found.max()) == (-1, 1)
