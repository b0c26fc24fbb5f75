"""Corruptions: each changes what it says, more at each severity, and moves the mask with the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.robustness.corruptions import CORRUPTIONS, SEVERITIES, value_range
from models.volume import Volume

BY_NAME = {one.name: one for one in CORRUPTIONS}
GEOMETRIC = ("rotation", "crop", "missing_slices")
SPACING = (0.8, 0.5)


def volume(slices=8, rows=60, columns=80, kind=np.uint8, seed=3) -> tuple[Volume, np.ndarray]:
    """A bright ellipse on a slope with texture; the mask is where it is."""
    rng = np.random.default_rng(seed)
    s, r, c = np.mgrid[:slices, :rows, :columns]
    mask = ((r - 0.5 * rows) / (rows / 5)) ** 2 + ((c - 0.55 * columns) / (columns / 6)) ** 2 <= 1
    grey = 40 + 0.4 * c + 6 * s / max(1, slices - 1) + rng.normal(0, 4, s.shape)
    grey[mask] = 190
    peak = {np.uint8: 1, np.int16: 7, np.float32: 7}[kind]
    affine = np.diag([SPACING[1], SPACING[0], 3.0, 1.0])
    array = np.clip(grey, 0, 255) * peak
    return Volume(array.astype(kind), affine, SPACING, 3.0 if slices > 1 else None), mask


def corrupted(name, severity, one, mask, seed=1):
    return BY_NAME[name].apply(one, mask, severity, np.random.default_rng(seed))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32], ids=lambda kind: kind.__name__)
def test_number_type_and_agreement_of_image_and_mask_stay(name, severity, kind) -> None:
    one, mask = volume(kind=kind)
    found, moved = corrupted(name, severity, one, mask)
    assert found.array.dtype == kind
    assert found.shape == moved.shape
    assert moved.dtype == bool
    assert np.array_equal(one.array, volume(kind=kind)[0].array)
    # The bright ellipse is where the mask says, before and after.
    inside, outside = found.array[moved].astype(float), found.array[~moved].astype(float)
    assert np.median(inside) > np.median(outside)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_each_severity_changes_the_image_more_than_the_one_before(name) -> None:
    one, mask = volume(slices=24, kind=np.float32)
    sizes, changes = [], []
    for severity in SEVERITIES:
        found, _ = corrupted(name, severity, one, mask)
        sizes.append(found.array.size)
        if found.shape == one.shape:
            changes.append(float(np.abs(found.array - one.array).mean()))
    if name in ("crop", "missing_slices"):
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 5
    else:
        assert changes == sorted(changes)
        assert changes[0] > 0


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - set(GEOMETRIC)))
def test_what_leaves_the_geometry_leaves_the_mask(name) -> None:
    one, mask = volume()
    found, same = corrupted(name, 5, one, mask)
    assert same is mask
    assert np.array_equal(found.affine, one.affine)
    assert found.pixel_spacing_mm == one.pixel_spacing_mm


@pytest.mark.parametrize("name", ["noise", "gamma", "bias_field", "rotation", "crop", "burned_in_text"])
def test_the_random_part_is_the_same_for_a_seed_and_another_for_another(name) -> None:
    one, mask = volume()
    first, again = (corrupted(name, 3, one, mask, seed=4)[0] for _ in range(2))
    assert np.array_equal(first.array, again.array)
    others = [corrupted(name, 3, one, mask, seed=seed)[0] for seed in range(8)]
    assert any(other.shape != first.shape or not np.array_equal(other.array, first.array) for other in others)


def test_noise_has_the_deviation_it_should() -> None:
    flat = np.full((1, 200, 200), 100.0, np.float32)
    flat[0, :40] = 0.0
    low, high = value_range(flat)
    found, _ = corrupted("noise", 3, Volume(flat.copy()), flat > 1)
    assert np.std(found.array - flat) == pytest.approx(0.10 * (high - low), rel=0.05)


def test_blur_of_a_point_is_a_gaussian_of_the_width_it_should_have() -> None:
    point = np.zeros((1, 101, 101), np.float32)
    point[0, 50, 50] = 1.0
    found, _ = corrupted("blur", 5, Volume(point), point > 0)
    rows = np.arange(101) - 50
    spread = float((found.array[0].sum(1) * rows**2).sum() / found.array.sum())
    assert np.sqrt(spread) == pytest.approx(0.025 * 101, rel=0.03)


def test_gamma_keeps_black_and_white_and_bends_the_middle() -> None:
    ramp = np.linspace(0, 1, 1001, dtype=np.float32).reshape(1, 1, -1)
    found, _ = corrupted("gamma", 4, Volume(ramp.copy()), ramp > 0.5)
    low, high = value_range(ramp)
    middle = (0.5 - low) / (high - low)
    wanted = {low + (high - low) * middle**exponent for exponent in (2.0, 0.5)}
    assert min(abs(float(found.array[0, 0, 500]) - one) for one in wanted) < 1e-5
    assert np.array_equal(found.array[0, 0, [0, -1]], ramp[0, 0, [0, -1]])
    assert (np.diff(found.array[0, 0]) >= -1e-6).all()


def test_few_grey_levels_are_as_few_as_they_should_be() -> None:
    ramp = np.linspace(0, 4095, 5000).astype(np.int16).reshape(1, 50, 100)
    counts = [
        len(np.unique(corrupted("few_grey_levels", s, Volume(ramp), ramp > 9)[0].array)) for s in SEVERITIES
    ]
    assert counts == [256, 64, 32, 16, 8]


def test_rotation_turns_in_millimetres_about_the_middle() -> None:
    rows, columns = 161, 101
    r, c = np.mgrid[:rows, :columns]
    # A line of the patient, 10 mm to the right of the middle; rows are 0.5 mm apart, columns 0.8 mm.
    ball = ((r - 80) * 0.5) ** 2 + ((c - 50) * 0.8 - 20) ** 2 <= 9
    one = Volume(ball[None].astype(np.float32) * 100, None, (0.5, 0.8))
    found, moved = corrupted("rotation", 5, one, ball[None])
    where = np.argwhere(moved[0]).mean(0)
    distance = np.hypot((where[0] - 80) * 0.5, (where[1] - 50) * 0.8)
    angle = np.degrees(np.arctan2((where[0] - 80) * 0.5, (where[1] - 50) * 0.8))
    assert distance == pytest.approx(20, abs=0.3)
    assert abs(angle) == pytest.approx(30, abs=1)
    assert moved.sum() == pytest.approx(ball.sum(), rel=0.05)
    assert found.array[moved].min() >= 40


def test_crop_keeps_the_place_of_every_voxel_in_the_patient() -> None:
    one, mask = volume(slices=2)
    for seed in range(6):
        found, kept = corrupted("crop", 4, one, mask, seed=seed)
        first = found.affine @ [0, 0, 0, 1]
        column, row, _ = np.rint(np.linalg.solve(one.affine, first))[:3].astype(int)
        inside = (slice(None), slice(row, row + found.shape[1]), slice(column, column + found.shape[2]))
        assert np.array_equal(one.array[inside], found.array)
        assert np.array_equal(mask[inside], kept)


def test_missing_slices_are_inner_ones_and_the_mask_loses_the_same() -> None:
    array = np.repeat(np.arange(20, dtype=np.uint8), 64).reshape(20, 8, 8)
    found, kept = corrupted("missing_slices", 5, Volume(array), array % 2 == 0)
    left = found.array[:, 0, 0]
    assert len(left) == 20 - round(0.4 * 18)
    assert (left[0], left[-1]) == (0, 19)
    assert (np.diff(left.astype(int)) > 0).all()
    assert np.array_equal(kept[:, 0, 0], left % 2 == 0)


def test_text_is_white_and_there_is_more_of_it() -> None:
    dark = Volume(np.full((2, 300, 400), 10, np.uint8))
    one = Volume(np.where(np.indices(dark.shape)[2] == 0, 200, dark.array).astype(np.uint8))
    ink = [
        int((corrupted("burned_in_text", s, one, one.array > 100)[0].array == 200).sum()) for s in SEVERITIES
    ]
    assert ink == sorted(ink)
    assert ink[0] > 600 + 20


def test_a_corruption_says_which_volumes_it_fits() -> None:
    image = Volume(np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    assert not BY_NAME["missing_slices"].fits(image)
    assert BY_NAME["crop"].fits(image)
    assert not BY_NAME["noise"].fits(Volume(np.full((1, 8, 8), 5, np.uint8)))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(BY_NAME)),
    st.sampled_from(SEVERITIES),
    st.tuples(st.integers(1, 6), st.integers(8, 30), st.integers(8, 30)),
    st.integers(0, 2**20),
)
def test_any_volume_that_fits_comes_out_whole(name, severity, shape, seed) -> None:
    rng = np.random.default_rng(seed)
    one = Volume(rng.integers(-900, 900, shape).astype(np.int16))
    mask = rng.random(shape) < 0.3
    corruption = BY_NAME[name]
    if corruption.fits(one):
        found, moved = corruption.apply(one, mask, severity, rng)
        assert found.shape == moved.shape
        assert all(size >= 1 for size in found.shape)
