import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.preprocess import PreprocessError, axial_turn, network_input, prepare, tissue_scaled
from models.steps import StackSlices, Standardise
from models.training.golden import golden_input
from models.training.recipe_file import shipped_recipe
from models.volume import Volume

BRAIN, BREAST = (shipped_recipe(name).run for name in ("brain-flair-lesion", "breast-us-lesion"))


def head(spacing=0.94, factor=1.0, offset=0.0):
    arrays = golden_input("brain-flair")
    return Volume(
        arrays["image"] * factor + offset, np.diag([spacing, spacing, 5.0, 1.0]), (spacing, spacing), 5.0
    )


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(0.02, 40), offset=st.floats(-3000, 3000))
def test_brain_intensities_do_not_depend_on_scanner_units_or_sign(factor, offset):
    expected = prepare(head(), BRAIN.preprocess).image
    found = prepare(head(factor=factor, offset=offset), BRAIN.preprocess).image
    assert np.abs(found - expected).max() < 0.1
    assert np.abs(found - expected).mean() < 0.01


def test_air_becomes_zero_and_the_median_of_tissue_one():
    array = np.concatenate([np.full(600, -20.0), np.full(500, 80.0)]).reshape(1, 20, 55)
    assert set(np.unique(tissue_scaled(array, 4.0))) == {0.0, 1.0}


@pytest.mark.parametrize("spacing", [0.43, 0.69, 0.94, 1.2])
def test_a_mask_survives_the_way_to_the_canvas_and_back_at_any_spacing(spacing):
    volume = head(spacing)
    rows, columns = np.indices(volume.shape[1:])
    mask = np.repeat((np.hypot(rows - 110, columns - 90) < 20)[None], volume.shape[0], 0)
    prepared = prepare(volume, BRAIN.preprocess)
    back = prepared.to_source(prepared.mask_to_canvas(mask).astype(np.float32)) >= 0.5
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.95
    assert prepared.image.shape[1] % 32 == prepared.image.shape[2] % 32 == 0


def test_the_same_head_at_two_matrices_looks_the_same_to_the_network():
    coarse = head(0.94)
    fine = Volume(coarse.array.repeat(2, 1).repeat(2, 2), np.diag([0.47, 0.47, 5.0, 1.0]), (0.47, 0.47), 5.0)
    a, b = prepare(coarse, BRAIN.preprocess).image, prepare(fine, BRAIN.preprocess).image
    assert a.shape == b.shape
    assert min(np.abs(a - np.roll(b, shift, (1, 2))).mean() for shift in (-1, 0, 1)) < 0.05


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (c, r)
        for c, r in itertools.permutations([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)], 2)
        if abs(np.dot(c, r)) == 0
    ],
)
def test_every_axial_orientation_is_turned_to_the_same_picture_and_back(columns, rows):
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = columns, rows
    affine[:3, 2] = (0, 0, 1)
    # The value of a voxel is its place: left is +100 per mm, back is +1 per mm.
    i, j = np.meshgrid(np.arange(5), np.arange(4))
    places = np.stack([i, j, np.zeros_like(i), np.ones_like(i)], -1) @ affine.T
    stack = (100 * places[..., 0] + places[..., 1])[None]
    turn = axial_turn(affine)
    turned = turn.apply(stack)
    assert (np.diff(turned, axis=2) == 100).all()
    assert (np.diff(turned, axis=1) == 1).all()
    assert np.array_equal(turn.undo(turned), stack)


def test_an_ultrasound_image_of_any_shape_fits_the_canvas_and_comes_back():
    for shape in ((470, 560), (600, 300), (90, 800)):
        image = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)[None]
        prepared = prepare(Volume(image), BREAST.preprocess)
        assert prepared.image.shape == (1, 192, 224)
        assert prepared.to_source(prepared.image).shape == (1, *shape)


def test_neighbours_are_stacked_and_the_ends_repeat():
    image = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    steps = (
        StackSlices(step="stack_slices", neighbours=1),
        Standardise(step="standardise", mean=1.0, deviation=0.5),
    )
    stacked = network_input(image, steps)
    assert (stacked[:, :, 0, 0] * 0.5 + 1).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_a_volume_without_spacing_without_tissue_or_too_wide_is_refused_by_step():
    with pytest.raises(PreprocessError, match="no pixel spacing"):
        prepare(Volume(golden_input("brain-flair")["image"]), BRAIN.preprocess)
    with pytest.raises(PreprocessError, match="no tissue"):
        prepare(Volume(np.full((5, 64, 64), 7), None, (1.0, 1.0), 5.0), BRAIN.preprocess)
    with pytest.raises(PreprocessError, match="is this one head"):
        prepare(Volume(golden_input("brain-flair")["image"], None, (2.5, 2.5), 5.0), BRAIN.preprocess)
