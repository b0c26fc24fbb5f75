"""The phantoms: seeded, of the asked shape, and with a truth that a reader could see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from preread.demo.phantoms import FlairHead, breast_ultrasound, ct_body, flair_head
from preread.demo.phantoms.fields import smooth_noise
from preread.demo.phantoms.tissue import Tissue

SMALL = {"slices": 10, "rows": 96, "columns": 80, "pixel_spacing_mm": 2.6, "slice_spacing_mm": 12.0}


def _head(seed: int, **knobs: object) -> FlairHead:
    return flair_head(np.random.default_rng(seed), **{**SMALL, **knobs})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def head() -> FlairHead:
    """A head at the default resolution, with two lesions."""
    return flair_head(np.random.default_rng(11), lesion_contrast=1.7)


def test_same_seed_makes_the_same_head_and_another_seed_another() -> None:
    np.testing.assert_array_equal(_head(3).array, _head(3).array)
    assert not np.array_equal(_head(3).array, _head(4).array)


def test_labels_number_the_lesions_from_one_and_mask_is_where_they_are(head: FlairHead) -> None:
    assert set(np.unique(head.lesion_labels)) == {0, 1, 2}
    np.testing.assert_array_equal(head.mask, head.lesion_labels > 0)
    for number in (1, 2):
        _, pieces = ndimage.label(head.lesion_labels == number)
        assert pieces == 1


def test_lesions_are_visibly_brighter_than_white_matter(head: FlairHead) -> None:
    white = head.array[(head.anatomy.tissue == Tissue.WHITE) & ~head.mask]
    for number in (1, 2):
        lesion = head.array[head.lesion_labels == number]
        assert lesion.mean() > white.mean() + 3 * white.std()


def test_fluid_and_bone_are_dark_grey_above_white_and_fat_brightest(head: FlairHead) -> None:
    def mean(*tissues: Tissue) -> float:
        # The middle of a tissue only: voxels at its border hold two.
        inside = ndimage.binary_erosion(np.isin(head.anatomy.tissue, tissues), np.ones((1, 3, 3), bool))
        return float(head.array[inside & ~head.mask].mean())

    assert mean(Tissue.AIR) < mean(Tissue.BONE) < 0.5 * mean(Tissue.WHITE)
    assert mean(Tissue.FLUID) < 0.6 * mean(Tissue.WHITE)
    assert mean(Tissue.WHITE) < mean(Tissue.GREY) < mean(Tissue.FAT)


def test_noise_in_air_is_rician(head: FlairHead) -> None:
    air = head.array[:, :16, :16].ravel()
    # Without signal the Rice distribution is Rayleigh's, whose mean is 1.913 times its deviation.
    assert air.min() >= 0
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)


def test_lesions_span_several_slices_and_have_about_the_asked_size() -> None:
    head = flair_head(np.random.default_rng(5), lesions=1, lesion_diameter_mm=(30.0, 30.0))
    volume = head.mask.sum() * np.prod(head.anatomy.spacing_mm)
    ball = 4 / 3 * np.pi * 15.0**3
    assert 0.4 * ball < volume < 2.5 * ball
    assert head.mask.any(axis=(1, 2)).sum() >= 4


def test_head_without_lesions_has_an_empty_truth() -> None:
    assert not _head(1, lesions=0).mask.any()


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    slices=st.integers(1, 9),
    rows=st.integers(40, 96),
    columns=st.integers(40, 96),
    lesions=st.integers(0, 3),
    units=st.floats(20.0, 2000.0),
)
def test_any_knobs_give_a_finite_head_of_the_asked_shape(
    seed: int, slices: int, rows: int, columns: int, lesions: int, units: float
) -> None:
    head = flair_head(
        np.random.default_rng(seed),
        slices=slices,
        rows=rows,
        columns=columns,
        pixel_spacing_mm=240.0 / max(rows, columns),
        slice_spacing_mm=130.0 / slices,
        lesions=lesions,
        white_matter_units=units,
    )
    assert head.array.shape == head.mask.shape == head.lesion_labels.shape == (slices, rows, columns)
    assert (head.array.dtype, head.mask.dtype, head.lesion_labels.dtype) == (np.float32, bool, np.uint8)
    assert np.isfinite(head.array).all()
    assert head.array.min() >= 0
    assert head.lesion_labels.max() <= lesions


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(100, 320),
    columns=st.integers(100, 320),
    kind=st.sampled_from(["benign", "malignant", "normal"]),
)
def test_any_breast_has_the_asked_shape_and_a_lesion_only_if_not_normal(
    seed: int, rows: int, columns: int, kind: str
) -> None:
    image = breast_ultrasound(np.random.default_rng(seed), kind=kind, rows=rows, columns=columns)  # type: ignore[arg-type]
    assert image.array.shape == image.mask.shape == (rows, columns)
    assert image.array.dtype == np.uint8
    assert image.mask.any() == (kind != "normal")
    assert image.mask.mean() < 0.5
    assert image.array.std() > 15


def test_same_seed_makes_the_same_breast() -> None:
    one, two = (breast_ultrasound(np.random.default_rng(8), kind="malignant") for _ in range(2))
    np.testing.assert_array_equal(one.array, two.array)
    np.testing.assert_array_equal(one.mask, two.mask)


@pytest.mark.parametrize("kind", ["benign", "malignant"])
@pytest.mark.parametrize("seed", range(6))
def test_breast_lesion_is_darker_than_the_tissue_beside_it(kind: str, seed: int) -> None:
    image = breast_ultrasound(np.random.default_rng(seed), kind=kind, probe="linear")  # type: ignore[arg-type]
    # Beside, not above or below: there layers, shadow and enhancement differ.
    beside = ndimage.binary_dilation(image.mask, np.ones((1, 3), bool), iterations=40)
    beside &= ~ndimage.binary_dilation(image.mask, iterations=6)
    assert image.array[image.mask].mean() < image.array[beside].mean() - 20


def test_benign_lesions_are_wider_than_tall_and_smoother_than_malignant_ones() -> None:
    def extents(kind: str) -> tuple[float, float]:
        flat, rough = [], []
        for seed in range(12):
            image = breast_ultrasound(
                np.random.default_rng(seed),
                kind=kind,
                probe="linear",
                rows=235,
                columns=280,  # type: ignore[arg-type]
            )
            mask = image.mask
            rows, columns = np.nonzero(mask)
            flat.append(np.ptp(columns) / np.ptp(rows))
            edge = mask & ~ndimage.binary_erosion(mask)
            rough.append(edge.sum() / np.sqrt(mask.sum()))
        return float(np.median(flat)), float(np.median(rough))

    benign, malignant = extents("benign"), extents("malignant")
    assert benign[0] > 1.2 > malignant[0]
    assert malignant[1] > 1.1 * benign[1]


def test_sound_is_stronger_behind_benign_and_weaker_behind_malignant_lesions() -> None:
    def behind(kind: str) -> float:
        differences = []
        for seed in range(12):
            image = breast_ultrasound(
                np.random.default_rng(seed),
                kind=kind,
                probe="linear",
                lesion_width_fraction=(0.2, 0.25),  # type: ignore[arg-type]
            )
            rows, columns = np.nonzero(image.mask)
            below = slice(rows.max() + 6, rows.max() + 50)
            middle = (columns.min() + columns.max()) // 2
            under = image.array[below, middle - 20 : middle + 20]
            besides = np.delete(image.array[below], np.s_[columns.min() - 10 : columns.max() + 10], axis=1)
            differences.append(float(under.mean()) - float(besides.mean()))
        return float(np.mean(differences))

    assert behind("benign") > 3
    assert behind("malignant") < -10


def test_ct_body_lies_in_air_and_holds_lung_liver_and_bone() -> None:
    body = ct_body(np.random.default_rng(2), slices=10, rows=128, columns=128, pixel_spacing_mm=3.2)
    assert body.array.shape == (10, 128, 128)
    assert body.array.dtype == np.int16
    assert body.array[:, :4, :].mean() == pytest.approx(-1000, abs=10)
    for low, high, part in ((-900, -700, 0.01), (80, 140, 0.05), (300, 600, 0.003)):
        assert ((body.array > low) & (body.array < high)).mean() > part


@given(wavelength=st.floats(1.0, 60.0), seed=st.integers(0, 100))
def test_smooth_noise_has_unit_deviation_and_changes_slowly(wavelength: float, seed: int) -> None:
    noise = smooth_noise(np.random.default_rng(seed), (64, 48), wavelength)
    assert noise.shape == (64, 48)
    assert noise.std() == pytest.approx(1.0, abs=1e-3)
    if wavelength >= 6:
        assert np.abs(np.diff(noise, axis=0)).mean() < 6.0 / wavelength
