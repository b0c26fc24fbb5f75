"""A grid is reached and left without moving anything."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.grid import labels_to_grid, nonzero_box, resampled, to_grid
from models.grid_steps import (
    ClipPercentiles,
    ClipStandardise,
    CropNonzero,
    MapRange,
    OrientGrid,
    ResampleGrid,
    TransposeGrid,
    ZScore,
)
from models.inference.slab import Piece
from models.inference.structures import returned
from models.inference.wanted import Wanted
from models.inference.way_back import way_back
from models.preprocess import PreprocessError
from models.volume import Volume

AXIAL = OrientGrid(step="orient_grid", columns="L", rows="P", slices="H")
LESION = Wanted(1, "sigmoid", ((0,),), maps=(1,))


def on_source(gridded, logits, volume):
    """Probability of lesion, from logits (1, a, b, c) of the grid."""
    pieces = iter([Piece(0, torch.from_numpy(np.ascontiguousarray(logits)))])
    found = returned(pieces, way_back(gridded.done, gridded.shape), LESION, volume.shape, slices=3)
    np.testing.assert_array_equal(found.labels == 1, found.probabilities[1] >= 0.5)
    return found.probabilities[1]


def turned_volume(columns: str, rows: str, slices: str, array: np.ndarray) -> Volume:
    """A volume whose axes run towards these sides, 1, 2 and 3 mm."""
    lines = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
    affine = np.eye(4)
    for column, (side, mm) in enumerate(((columns, 1.0), (rows, 2.0), (slices, 3.0))):
        line, sign = lines[side]
        affine[:3, column] = 0
        affine[line, column] = sign * mm
    return Volume(array, affine, (2.0, 1.0), 3.0)


@pytest.mark.parametrize("sides", ["LPH", "RAF", "LFP", "PHR", "AFL"])
def test_a_turned_volume_is_brought_to_one_orientation_and_back(sides):
    array = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    volume = turned_volume(*sides, array)
    gridded = to_grid(volume, [AXIAL])
    lines = [{"L": 0, "R": 0, "P": 1, "A": 1, "H": 2, "F": 2}[side] for side in sides]
    sizes = dict(zip(lines, (6, 5, 4), strict=True))
    assert gridded.image.shape == (sizes[2], sizes[1], sizes[0])
    # The voxel that lies most to the left, back and head is the last one.
    corner = np.array([volume.affine[:3, :3] @ (c, r, s) for s in (0, 3) for r in (0, 4) for c in (0, 5)])
    best = int(np.argmax(corner.sum(1)))
    s, r, c = np.unravel_index(best, (2, 2, 2))
    assert gridded.image[-1, -1, -1] == array[3 * s, 4 * r, 5 * c]
    back = on_source(gridded, gridded.image[None], volume)
    np.testing.assert_allclose(back, 1 / (1 + np.exp(-array)), rtol=1e-5)


def test_transpose_crop_and_resampling_are_undone_in_reverse_and_outside_the_box_is_no_lesion():
    array = np.zeros((6, 12, 10), np.float32)
    array[1:5, 2:10, 3:9] = 7.0
    steps = [
        AXIAL,
        TransposeGrid(step="transpose_grid", axes=(1, 0, 2)),
        CropNonzero(step="crop_nonzero"),
        ResampleGrid(step="resample_grid", spacing_mm=(1.0, 3.0, 0.5), order=3),
    ]
    volume = turned_volume("R", "P", "F", array)
    gridded = to_grid(volume, steps)
    assert gridded.image.shape == (16, 4, 12)
    np.testing.assert_allclose(gridded.image, 7.0, rtol=1e-6)
    found = on_source(gridded, np.full((1, *gridded.image.shape), 9.0, np.float32), volume)
    np.testing.assert_array_equal(found > 0.99, array > 0)
    assert found[array == 0].max() == 0


def test_a_coarse_axis_is_resampled_apart_by_its_nearest_slice():
    array = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32)
    volume = Volume(array, np.diag([1.0, 1.0, 5.0, 1.0]), (1.0, 1.0), 5.0)
    step = ResampleGrid(step="resample_grid", spacing_mm=(2.5, 2.0, 2.0), order=3, apart_above=3.0)
    image = to_grid(volume, [step]).image
    assert image.shape == (8, 4, 4)
    assert image[:, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    smooth = to_grid(volume, [step.model_copy(update={"apart_above": None})]).image
    assert len(np.unique(smooth[:, 0, 0].round(3))) > 4


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 9), st.sampled_from([0, 1, 3]))
@settings(max_examples=25, deadline=None)
def test_resampling_keeps_a_constant_and_never_leaves_the_range(a, b, c, order):
    generator = np.random.default_rng(a * 100 + b * 10 + c)
    array = generator.normal(size=(a, b, c)).astype(np.float32)
    result = resampled(array, (c + 1, a + 2, b), order, None if order else 1)
    assert result.shape == (c + 1, a + 2, b)
    assert array.min() - 1e-6 <= result.min() <= result.max() <= array.max() + 1e-6
    constant = resampled(np.full((a, b, c), 3.0, np.float32), (c, a, b), order, None)
    np.testing.assert_allclose(constant, 3.0)


def test_intensity_steps_compute_what_they_say():
    array = np.array([[[0, 0, -2, 2, 4, 100]]], np.float32)

    def image(step):
        return to_grid(Volume(array.copy()), [step]).image.ravel()

    ct = ClipStandardise(step="clip_standardise", low=-1, high=10, mean=1, deviation=2)
    np.testing.assert_allclose(image(ct), [-0.5, -0.5, -1, 0.5, 1.5, 4.5])
    inside = array[array != 0]
    expected = np.where(array == 0, 0, (array - inside.mean()) / inside.std()).ravel()
    np.testing.assert_allclose(image(ZScore(step="zscore", mask="nonzero")), expected, rtol=1e-6)
    whole = image(ZScore(step="zscore", mask="all"))
    assert abs(whole.mean()) < 1e-6
    assert whole.std() == pytest.approx(1, abs=1e-6)
    window = MapRange(step="map_range", low=-2, high=8, to_low=-1, to_high=1, clip=True)
    np.testing.assert_allclose(image(window), [-0.6, -0.6, -1, -0.2, 0.2, 1], atol=1e-6)
    full = MapRange(step="map_range", low=None, high=None, to_low=0, to_high=1, clip=False)
    assert (image(full).min(), image(full).max()) == (0, 1)


def test_what_is_missing_is_said():
    still = Volume(np.ones((1, 4, 4), np.float32))
    assert to_grid(still, [AXIAL]).image.shape == (1, 4, 4)
    with pytest.raises(PreprocessError, match="no orientation"):
        to_grid(Volume(np.ones((2, 4, 4), np.float32)), [AXIAL])
    with pytest.raises(PreprocessError, match="no spacing"):
        to_grid(still, [ResampleGrid(step="resample_grid", spacing_mm=(None, 1.0, 1.0), order=1)])
    with pytest.raises(PreprocessError, match="every voxel is 0"):
        nonzero_box(np.zeros((1, 2, 3)))


@pytest.mark.parametrize("sides", ["LPH", "RAF", "LFP", "PHR"])
def test_labels_go_where_the_voxels_they_name_go(sides):
    labels = np.random.default_rng(2).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    labels[0], labels[:, 0] = 0, 0  # a rim that is cropped
    volume = turned_volume(*sides, labels.astype(np.float32))
    steps = [
        AXIAL,
        CropNonzero(step="crop_nonzero"),
        ResampleGrid(step="resample_grid", spacing_mm=(2.0, 0.7, 1.3), order=0),
        TransposeGrid(step="transpose_grid", axes=(2, 0, 1)),
    ]
    gridded = to_grid(volume, steps)
    np.testing.assert_array_equal(labels_to_grid(labels, gridded), gridded.image)
    assert gridded.spacing_mm == (1.3, 2.0, 0.7)


def test_a_few_bright_voxels_do_not_set_the_scale():
    array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    array[0, 0, 0] = 1e6
    steps = [ClipPercentiles(step="clip_percentiles", low=1, high=99)]
    image = to_grid(Volume(array), steps).image
    assert (image.min(), image.max()) == pytest.approx(np.percentile(array, (1, 99)))
    assert np.array_equal(image[5], array[5])
