"""A grid is reached and left without moving anything; windows over it give what the whole would give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference

from models.grid import lesion_probability, nonzero_box, resampled, to_grid
from models.grid_steps import (
    ClipStandardise,
    CropNonzero,
    MapRange,
    OrientGrid,
    ResampleGrid,
    Tiling,
    TransposeGrid,
    ZScore,
)
from models.preprocess import PreprocessError
from models.tiles import blend_weight, sliding_logits, window_starts
from models.volume import Volume

AXIAL = OrientGrid(step="orient_grid", columns="L", rows="P", slices="H")
CPU = torch.device("cpu")


def tiling(
    *window: int, overlap: float = 0.5, blend: str = "gaussian", mirror: tuple[int, ...] = ()
) -> Tiling:
    return Tiling(
        window=window, overlap=overlap, blend=blend, mirror=mirror, activation="sigmoid", lesion_heads=(0,)
    )


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
    logits = gridded.image[None]
    back = gridded.lesion_on_source(logits, tiling(8, 8, 8))
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
    gridded = to_grid(turned_volume("R", "P", "F", array), steps)
    assert gridded.image.shape == (16, 4, 12)
    np.testing.assert_allclose(gridded.image, 7.0, rtol=1e-6)
    found = gridded.lesion_on_source(np.full((1, *gridded.image.shape), 9.0, np.float32), tiling(8, 8, 8))
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


def test_softmax_sums_the_heads_of_the_finding():
    logits = np.random.default_rng(2).normal(size=(4, 3, 3, 3)).astype(np.float32) * 5
    soft = torch.softmax(torch.from_numpy(logits), 0).numpy()
    both = Tiling(window=(8, 8, 8), overlap=0, blend="constant", activation="softmax", lesion_heads=(1, 3))
    np.testing.assert_allclose(lesion_probability(logits, both), soft[1] + soft[3], atol=1e-6)


@given(st.integers(8, 40), st.integers(0, 60), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
@settings(deadline=None)
def test_windows_cover_everything_and_overlap_at_least_as_asked(window, more, overlap):
    starts = window_starts(window + more, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == more
    gaps = np.diff(starts)
    assert not len(gaps) or (gaps.min() > 0 and gaps.max() <= np.ceil(window * (1 - overlap)))


def test_tiling_a_network_that_sees_single_voxels_changes_nothing():
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 1)
    image = np.random.default_rng(3).normal(size=(1, 21, 8, 30)).astype(np.float32)
    with torch.inference_mode():
        whole = network(torch.from_numpy(image)[None])[0].numpy()
    for blend in ("gaussian", "constant"):
        tiles = sliding_logits(
            network, image, tiling(8, 16, 12, blend=blend, mirror=(0, 2)), heads=3, batch=3, device=CPU
        )
        np.testing.assert_allclose(tiles, whole, atol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_the_windows_agree_with_monais_sliding_window(blend):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 7, padding=3)
    image = np.random.default_rng(3).normal(size=(1, 24, 40)).astype(np.float32)
    ours = sliding_logits(network, image, tiling(16, 16, blend=blend), heads=2, batch=4, device=CPU)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None], (16, 16), 4, network, overlap=0.5, mode=blend
        )
    np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-5)


def test_a_small_image_is_padded_and_the_padding_leaves_again():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    image = np.random.default_rng(3).normal(size=(1, 5, 9)).astype(np.float32)
    found = sliding_logits(network, image, tiling(16, 16), heads=1, batch=1, device=CPU)
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(torch.from_numpy(image)[None])[0].numpy(), atol=1e-5)


def test_a_network_of_other_heads_is_said():
    with pytest.raises(ValueError, match="expected 3 heads"):
        sliding_logits(
            torch.nn.Conv2d(1, 2, 1),
            np.zeros((1, 16, 16), np.float32),
            tiling(8, 8),
            heads=3,
            batch=1,
            device=CPU,
        )


def test_the_middle_of_a_window_weighs_most():
    weight = blend_weight((9, 17), "gaussian")
    assert weight[4, 8] == weight.max() == 1
    assert weight.min() == pytest.approx(1e-3)
