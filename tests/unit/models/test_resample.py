import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.resample import AxisMap, PlaneMap, scaled_axis

sizes = st.integers(8, 40)


@given(size=sizes, target=sizes, scale=st.floats(0.3, 3.0))
def test_a_map_and_its_inverse_bring_every_index_back(size, target, scale):
    axis = scaled_axis(size, scale, target)
    there = axis.scale * np.arange(size) + axis.offset
    back = axis.inverse.scale * there + axis.inverse.offset
    assert np.allclose(back, np.arange(size), atol=1e-9)


@given(size=sizes, target=sizes, scale=st.floats(0.3, 3.0))
def test_weights_sum_to_one_inside_the_source_and_to_zero_outside(size, target, scale):
    axis = scaled_axis(size, scale, target)
    total = axis.matrix().sum(1)
    centres = (np.arange(target) - axis.offset) / axis.scale
    inside = (centres > -0.499) & (centres < size - 0.501)
    outside = (centres < -0.501) | (centres > size - 0.499)
    assert np.allclose(total[inside], 1, atol=1e-5)
    assert not total[outside].any()


@given(a=st.floats(-2, 2), b=st.floats(-2, 2), scale=st.floats(1.0, 3.0))
def test_enlarging_keeps_a_plane_exact_between_the_border_pixels(a, b, scale):
    rows, columns = np.indices((12, 14))
    plane = PlaneMap(scaled_axis(12, scale, 30), scaled_axis(14, scale, 30))
    moved = plane.apply((a * rows + b * columns)[None])[0]
    at_row = (np.arange(30) - plane.rows.offset) / scale
    at_column = (np.arange(30) - plane.columns.offset) / scale
    within = np.ix_((at_row >= 0) & (at_row <= 11), (at_column >= 0) & (at_column <= 13))
    assert np.allclose(moved[within], (a * at_row[:, None] + b * at_column[None, :])[within], atol=1e-3)


@settings(max_examples=30)
@given(radius=st.floats(8, 12), scale=st.floats(0.6, 2.5))
def test_a_disc_comes_back_with_its_area(radius, scale):
    rows, columns = np.indices((48, 48))
    disc = np.hypot(rows - 23.5, columns - 23.5) < radius
    size = int(48 * scale) + 8
    plane = PlaneMap(scaled_axis(48, scale, size), scaled_axis(48, scale, size))
    back = plane.inverse.apply_mask(plane.apply_mask(disc[None]))
    assert back.sum() == pytest.approx(disc.sum(), rel=0.15)


def test_a_shift_by_whole_pixels_changes_no_value():
    image = np.random.default_rng(0).normal(size=(2, 9, 7)).astype(np.float32)
    plane = PlaneMap(AxisMap(1.0, 3.0, 9, 16), AxisMap(1.0, -2.0, 7, 5))
    assert np.array_equal(plane.apply(image)[:, 3:12], image[:, :, 2:])


def test_shrinking_averages_detail_instead_of_aliasing_it():
    stripes = np.tile([0.0, 1.0], 32)[None, None, :].repeat(64, 1)
    plane = PlaneMap(scaled_axis(64, 0.25, 16), scaled_axis(64, 0.25, 16))
    assert np.abs(plane.apply(stripes)[0, 2:-2, 2:-2] - 0.5).max() < 0.05


def test_a_stack_of_another_size_is_refused():
    plane = PlaneMap(scaled_axis(8, 1.0, 8), scaled_axis(8, 1.0, 8))
    with pytest.raises(ValueError, match="does not fit"):
        plane.apply(np.zeros((1, 8, 9)))
