"""Measures of lesions against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.volume import Volume
from pipeline.results.measure import measure
from pipeline.results.outline import diameters, outlines, signed_area


def volume_of(shape, pixel_spacing=(1.0, 1.0), slice_spacing=1.0):
    return Volume(np.zeros(shape, np.float32), pixel_spacing_mm=pixel_spacing, slice_spacing_mm=slice_spacing)


def ellipsoid(shape, centre, radii_mm, spacing, angle=0.0):
    """Voxels whose centre lies inside an ellipsoid turned in the plane by `angle`."""
    s, r, c = (np.arange(n) for n in shape)
    z = (s[:, None, None] - centre[0]) * spacing[0]
    y = (r[None, :, None] - centre[1]) * spacing[1]
    x = (c[None, None, :] - centre[2]) * spacing[2]
    along, across = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
    inside = (z / radii_mm[0]) ** 2 + (along / radii_mm[1]) ** 2 + (across / radii_mm[2]) ** 2 <= 1
    return inside.astype(np.uint16)


@settings(max_examples=30, deadline=None)
@given(
    radius=st.floats(6.0, 14.0),
    spacing=st.tuples(st.floats(0.8, 2.0), st.floats(0.5, 1.2), st.floats(0.5, 1.2)),
    shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_ball_has_the_volume_and_diameters_of_the_closed_form(radius, spacing, shift):
    shape = tuple(int(2 * radius / step) + 6 for step in spacing)
    centre = tuple(n / 2 + d for n, d in zip(shape, shift, strict=True))
    labels = ellipsoid(shape, centre, (radius, radius, radius), spacing)
    (lesion,) = measure(labels, volume_of(shape, spacing[1:], spacing[0]))
    assert lesion.volume_ml == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=0.05)
    assert lesion.volume_ml == pytest.approx(labels.sum() * math.prod(spacing) / 1000)
    pixel = math.hypot(*spacing[1:])
    assert abs(lesion.long_axis_mm - 2 * radius) <= pixel
    assert abs(lesion.short_axis_mm - 2 * radius) <= pixel
    assert lesion.area_mm2 == pytest.approx(math.pi * radius**2, rel=0.08)
    assert abs(lesion.key_slice - centre[0]) <= 1 + radius * 0.3 / spacing[0]


@settings(max_examples=30, deadline=None)
@given(
    long=st.floats(10.0, 30.0),
    ratio=st.floats(0.3, 0.8),
    angle=st.floats(0.0, math.pi),
    spacing=st.tuples(st.floats(0.4, 1.0), st.floats(0.4, 1.0)),
)
def test_ellipse_gives_its_two_axes_at_any_angle_and_aspect(long, ratio, angle, spacing):
    shape = (1, int(2 * long / spacing[0]) + 6, int(2 * long / spacing[1]) + 6)
    labels = ellipsoid(
        shape, (0, shape[1] / 2, shape[2] / 2), (1, long, long * ratio), (1.0, *spacing), angle
    )
    (lesion,) = measure(labels, volume_of(shape, spacing, None))
    assert lesion.long_axis_mm == pytest.approx(2 * long, abs=1.5 * max(spacing))
    # The perpendicular chord follows the measured direction of the long axis, which pixels can turn a little.
    assert lesion.short_axis_mm == pytest.approx(2 * long * ratio, rel=0.08, abs=1.5 * max(spacing))
    assert lesion.volume_ml is None
    assert lesion.area_mm2 == pytest.approx(labels.sum() * spacing[0] * spacing[1])


def test_uncalibrated_image_is_measured_in_pixels_and_never_in_mm():
    labels = np.zeros((1, 20, 30), np.uint16)
    labels[0, 5:9, 10:22] = 1
    (lesion,) = measure(labels, Volume(np.zeros((1, 20, 30), np.float32)), [0.5])
    assert (lesion.area_mm2, lesion.volume_ml, lesion.long_axis_mm, lesion.short_axis_mm) == (None,) * 4
    assert lesion.area_px == 48
    assert lesion.long_axis_px == pytest.approx(math.hypot(12, 3))
    assert lesion.score == 0.5


def test_volume_takes_the_distance_of_positions_and_the_whole_lesion():
    labels = np.zeros((5, 8, 8), np.uint16)
    labels[1:4, 2:5, 2:6] = 1
    (lesion,) = measure(labels, volume_of(labels.shape, (0.5, 2.0), 6.5))
    assert lesion.volume_ml == pytest.approx(36 * 0.5 * 2.0 * 6.5 / 1000)


def test_key_slice_is_the_one_with_the_longest_diameter_not_the_largest_area():
    labels = np.zeros((3, 40, 40), np.uint16)
    labels[0, 10:20, 10:20] = 1
    labels[1, 15, 2:38] = 1
    labels[2, 10:19, 10:19] = 1
    (lesion,) = measure(labels, volume_of(labels.shape))
    assert lesion.key_slice == 1
    assert lesion.long_axis_mm == pytest.approx(36)
    assert lesion.area_px == 36


def test_two_parts_of_a_lesion_on_one_slice_are_not_measured_across_the_gap():
    labels = np.zeros((1, 10, 60), np.uint16)
    labels[0, 4:6, 2:10] = 1
    labels[0, 4:6, 50:54] = 1
    (lesion,) = measure(labels, volume_of(labels.shape, slice_spacing=None))
    assert lesion.long_axis_mm < 9
    assert lesion.area_px == 24


def test_ends_of_the_axes_are_as_far_apart_as_the_axes_are_long_and_at_right_angles():
    labels = ellipsoid((1, 60, 60), (0, 30, 28), (1, 20, 9), (1, 0.7, 1.1), 0.6)
    (lesion,) = measure(labels, volume_of(labels.shape, (0.7, 1.1), None))
    scale = np.array([0.7, 1.1])
    long = (np.array(lesion.long_ends[1]) - lesion.long_ends[0]) * scale
    short = (np.array(lesion.short_ends[1]) - lesion.short_ends[0]) * scale
    assert np.linalg.norm(long) == pytest.approx(lesion.long_axis_mm)
    assert np.linalg.norm(short) == pytest.approx(lesion.short_axis_mm)
    assert np.dot(long, short) == pytest.approx(0, abs=1e-9)


def test_single_pixel_is_one_pixel_long_and_wide():
    labels = np.zeros((1, 5, 5), np.uint16)
    labels[0, 2, 3] = 1
    (lesion,) = measure(labels, volume_of(labels.shape, (2.0, 2.0), None))
    assert (lesion.long_axis_mm, lesion.short_axis_mm, lesion.area_mm2) == (2.0, 2.0, 4.0)


def test_labels_with_a_gap_and_wrong_score_counts_are_rejected():
    labels = np.zeros((1, 5, 5), np.uint16)
    labels[0, 1, 1], labels[0, 3, 3] = 1, 3
    with pytest.raises(ValueError, match="label 2 is missing"):
        measure(labels, volume_of(labels.shape))
    labels[0, 3, 3] = 2
    with pytest.raises(ValueError, match="1 scores for 2 lesions"):
        measure(labels, volume_of(labels.shape), [0.5])


def test_no_label_gives_no_lesion():
    assert measure(np.zeros((2, 5, 5), np.uint16), volume_of((2, 5, 5))) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=7))
def test_outlines_enclose_the_pixels_less_one_half_per_outline(rows):
    mask = np.array(rows, bool)
    loops = outlines(mask)
    areas = [signed_area(loop) for loop in loops]
    outer, holes = sum(a > 0 for a in areas), sum(a < 0 for a in areas)
    assert sum(areas) == pytest.approx(mask.sum() - 0.5 * outer + 0.5 * holes)
    for loop in loops:
        steps = np.abs(np.diff(np.vstack([loop, loop[:1]]), axis=0))
        assert steps.max() <= 1.0


def test_outline_of_a_ring_has_one_outer_loop_and_one_hole():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    outer, hole = outlines(mask)
    assert signed_area(outer) == 24.5
    assert signed_area(hole) == -0.5
    assert diameters(outer, (1, 1)).long == pytest.approx(math.hypot(5, 4))


def test_pixels_that_touch_at_a_corner_have_one_outline():
    for mask in (np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]):
        (outline,) = outlines(mask)
        assert signed_area(outline) == 2.5
        assert diameters(outline, (1, 1)).long == pytest.approx(math.hypot(3, 2))
