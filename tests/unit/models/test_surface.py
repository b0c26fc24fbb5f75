"""NSD and HD95 against closed forms and MONAI."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from models.evaluation.overlap import dice, iou
from models.evaluation.surface import border, hd95, nsd

UNIT = (1.0, 1.0, 1.0)
MASKS = arrays(bool, (3, 5, 6))


def cube(size: int, corner: tuple[int, int, int], side: int) -> np.ndarray:
    mask = np.zeros((size, size, size), bool)
    mask[tuple(slice(start, start + side) for start in corner)] = True
    return mask


def ball(size: int, radius: float) -> np.ndarray:
    offsets = np.indices((size, size, size)) - size // 2
    return np.sqrt((offsets**2).sum(0)) <= radius


@pytest.mark.parametrize("side", [3, 6])
def test_a_cube_shifted_by_one_voxel_moves_every_figure_by_what_geometry_says(side: int) -> None:
    a, b = cube(10, (1, 1, 1), side), cube(10, (2, 1, 1), side)
    ring, shell = 4 * side - 4, side**3 - (side - 2) ** 3
    assert dice(a, b) == pytest.approx((side - 1) / side)
    assert iou(a, b) == pytest.approx((side - 1) / (side + 1))
    assert nsd(a, b, UNIT, 0) == pytest.approx((side - 1) * ring / shell)
    assert nsd(a, b, UNIT, 1) == 1
    assert hd95(a, b, UNIT) == 1
    assert hd95(a, b, (5.0, 1.0, 1.0)) == 5
    assert hd95(a, b, (1.0, 5.0, 5.0)) == 1


def test_a_tolerance_of_the_shift_counts_and_a_little_less_does_not() -> None:
    a, b = cube(12, (1, 1, 1), 6), cube(12, (3, 1, 1), 6)
    spacing = (0.94, 0.94, 0.94)
    assert nsd(a, b, spacing, 2 * 0.94) == 1
    assert nsd(a, b, spacing, 1.87) < 1


def test_a_ball_within_a_larger_ball_is_as_far_as_the_radii_differ() -> None:
    small, large = ball(41, 10), ball(41, 14)
    assert hd95(small, large, UNIT) == pytest.approx(4, abs=0.5)
    assert nsd(small, large, UNIT, 3) < 0.05
    assert nsd(small, large, UNIT, 4.6) == 1


def test_one_slice_has_its_border_in_the_plane() -> None:
    square = np.zeros((1, 7, 7), bool)
    square[0, 1:6, 1:6] = True
    assert border(square).sum() == 16


def test_a_mask_ends_where_the_array_ends() -> None:
    assert border(np.ones((1, 4, 4), bool)).sum() == 12


def test_nothing_drawn_has_no_distance_and_no_surface_in_common() -> None:
    something, nothing = cube(5, (1, 1, 1), 2), np.zeros((5, 5, 5), bool)
    assert nsd(nothing, something, UNIT, 1) == 0
    assert nsd(something, nothing, UNIT, 1) is None
    assert hd95(nothing, something, UNIT) is None
    assert hd95(something, nothing, UNIT) is None


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS)
def test_order_of_the_masks_does_not_matter_and_shares_stay_between_0_and_1(a, b) -> None:
    spacing = (3.0, 1.0, 0.5)
    if not a.any() or not b.any():
        return
    assert hd95(a, b, spacing) == hd95(b, a, spacing) >= 0
    assert nsd(a, b, spacing, 1) == nsd(b, a, spacing, 1)
    assert 0 <= nsd(a, b, spacing, 1) <= nsd(a, b, spacing, 3) <= 1
    assert 0 <= iou(a, b) <= dice(a, b) <= 1
    assert iou(a, b) == pytest.approx(dice(a, b) / (2 - dice(a, b)))
    assert nsd(a, a, spacing, 0) == dice(a, a) == 1
    assert hd95(a, a, spacing) == 0


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_distances_are_those_of_monai() -> None:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    generator = np.random.default_rng(5)
    for spacing in ((1.0, 1.0, 1.0), (5.0, 0.94, 0.94)):
        a = ball(15, 4) ^ (generator.random((15, 15, 15)) > 0.97)
        b = np.roll(ball(15, 5), (1, 2, 0), (0, 1, 2))
        pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (a, b)]
        theirs = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
        assert hd95(a, b, spacing) == pytest.approx(theirs.item(), rel=1e-5)
        theirs = compute_surface_dice(*pair, [2.0], include_background=True, spacing=spacing)
        assert nsd(a, b, spacing, 2.0) == pytest.approx(theirs.item(), rel=1e-5)
