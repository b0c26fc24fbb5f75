"""Boxes become ellipsoids that touch their sides, numbered in order; voxels have the surest score."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ellipsoids import ellipsoid, numbered_ellipsoids, score_map


def box_of(*corners: float) -> np.ndarray:
    return np.array(corners, float)


def test_an_ellipsoid_fills_pi_sixths_of_its_box_and_touches_every_side():
    box = box_of(3, 4, 5, 27, 34, 37)
    place, inside = ellipsoid(box, (40, 40, 40))
    assert inside.sum() == pytest.approx(math.pi / 6 * 24 * 30 * 32, rel=0.01)
    covered = np.argwhere(inside) + [part.start for part in place]
    assert covered.min(0).tolist() == [3, 4, 5]
    assert (covered.max(0) + 1).tolist() == [27, 34, 37]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(0, 9)] * 3), st.tuples(*[st.floats(0.05, 8)] * 3))
def test_every_box_whose_middle_lies_inside_has_a_voxel_and_no_voxel_lies_outside_its_box(middle, size):
    low, high = np.subtract(middle, np.divide(size, 2)), np.add(middle, np.divide(size, 2))
    place, inside = ellipsoid(np.concatenate([low, high]), (9, 10, 11))
    assert inside.any()
    centres = np.argwhere(inside) + [part.start for part in place] + 0.5
    if len(centres) > 1:
        assert (centres >= low).all()
        assert (centres <= high).all()
    assert (centres > 0).all()
    assert (centres < (9, 10, 11)).all()


def test_a_box_smaller_than_a_voxel_is_the_voxel_of_its_middle():
    labels, drawn = numbered_ellipsoids(np.array([[3.1, 4.1, 5.1, 3.2, 4.2, 5.2]]), (8, 8, 8))
    assert np.argwhere(labels).tolist() == [[3, 4, 5]]
    assert drawn == (0,)


def test_the_surer_one_keeps_what_both_cover_and_one_without_voxels_is_left_out():
    boxes = np.array([[0.0, 0, 0, 10, 10, 10], [3.0, 3, 3, 6, 6, 6], [5.0, 0, 0, 15, 10, 10]])
    labels, drawn = numbered_ellipsoids(boxes, (16, 12, 12))
    assert drawn == (0, 2)
    assert set(np.unique(labels)) == {0, 1, 2}
    alone, _ = numbered_ellipsoids(boxes[:1], (16, 12, 12))
    assert np.array_equal(labels == 1, alone == 1)


def test_the_map_has_the_score_of_the_surest():
    boxes = np.array([[0.0, 0, 0, 6, 6, 6], [3.0, 0, 0, 9, 6, 6]])
    found = score_map(boxes, np.array([0.9, 0.4]), (10, 6, 6))
    assert found[4, 3, 3] == np.float32(0.9)
    assert found[7, 3, 3] == np.float32(0.4)
    assert found[9].max() == 0
