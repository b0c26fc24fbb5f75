"""The study generator: valid objects, true geometry, odd sources that are odd in the way they say."""

import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from config.identity import is_own_uid
from preread.demo.phantom_dicom import (
    GeneratedStudy,
    brain_study,
    breast_study,
    ct_study,
    demo_studies,
    part10,
)
from preread.demo.phantom_study import seeded_uid

SMALL = {"slices": 8, "rows": 72, "columns": 64, "pixel_spacing_mm": 3.4, "slice_spacing_mm": 16.0}
FLAIR = ("AX FLAIR",)


def _brain(seed: int = 1, **knobs: object) -> GeneratedStudy:
    return brain_study(seed, **{**SMALL, "series": FLAIR, **knobs})  # type: ignore[arg-type]


def _read(dataset: Dataset) -> Dataset:
    return dcmread(BytesIO(part10(dataset)))


@pytest.fixture(scope="module")
def demo() -> list[GeneratedStudy]:
    """What the demo sends."""
    return demo_studies(1)


def test_demo_has_what_must_be_found_what_must_stay_quiet_and_what_must_be_refused(
    demo: list[GeneratedStudy],
) -> None:
    assert [(s.kind, s.expected.class_name, s.expected.lesions, s.expected.reason) for s in demo] == [
        ("brain", None, 2, None),
        ("brain", None, 0, None),
        ("breast", "benign", 1, None),
        ("breast", "malignant", 1, None),
        ("breast", "normal", 0, None),
        ("ct", None, 0, "NO-MODEL"),
        ("brain", None, 1, "MISSING-SLICE"),
    ]
    assert all((s.expected.outcome == "delivered") == (s.expected.reason is None) for s in demo)
    assert len({s.study_uid for s in demo}) == len(demo)


def test_no_two_instances_of_the_demo_share_a_uid_and_none_is_a_result_of_ours(
    demo: list[GeneratedStudy],
) -> None:
    uids = [str(d.SOPInstanceUID) for s in demo for d in s.datasets]
    assert len(set(uids)) == len(uids)
    assert not any(is_own_uid(uid) for uid in uids)
    assert all(UID(uid).is_valid for uid in uids)


@given(seed=st.integers(), part=st.text())
def test_seeded_uid_is_valid_repeatable_and_never_of_the_length_of_ours(seed: int, part: str) -> None:
    uid = seeded_uid(seed, part)
    assert uid == seeded_uid(seed, part)
    assert UID(uid).is_valid
    assert len(uid) == len("2.25.") + 38


def test_patients_are_plainly_synthetic(demo: list[GeneratedStudy]) -> None:
    for study in demo:
        names = {str(d.PatientName) for d in study.datasets}
        assert len(names) == 1
        assert names.pop().startswith("PHANTOM^")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_validator_finds_no_error_in_any_demo_series_nor_in_multi_frame_sources(
    demo: list[GeneratedStudy], tmp_path: Path
) -> None:
    firsts = {str(d.SeriesInstanceUID): d for s in demo for d in s.datasets}
    odd = [
        _brain(enhanced=True),
        breast_study(2, frames=3, rows=120, columns=140),
        breast_study(2, calibrated=False, rows=120, columns=140),
        ct_study(
            2, gantry_tilt_degrees=14.0, signed=True, slices=3, rows=64, columns=64, pixel_spacing_mm=6.0
        ),
        _brain(transfer_syntax=JPEG2000),
        _brain(tilt_degrees=12.0, turn_degrees=4.0, signed=True, bits=16),
    ]
    for i, dataset in enumerate([*firsts.values(), *(s.datasets[0] for s in odd)]):
        file = tmp_path / f"{i}.dcm"
        file.write_bytes(part10(dataset))
        run = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        said = (run.stdout + run.stderr).splitlines()
        assert said, "the validator said nothing at all"
        assert [line for line in said if line.startswith("Error")] == []


def test_same_seed_makes_the_same_bytes() -> None:
    one, two = _brain(7, lesions=1), _brain(7, lesions=1)
    assert [part10(d) for d in one.datasets] == [part10(d) for d in two.datasets]
    other = _brain(8, lesions=1)
    assert one.study_uid != other.study_uid
    assert part10(one.datasets[3]) != part10(other.datasets[3])


def test_pixels_of_a_series_do_not_depend_on_which_others_are_made() -> None:
    alone = _brain(2)
    among = _brain(2, series=("AX T1", "AX FLAIR"))
    flair = [d for d in among.datasets if d.SeriesDescription == "AX FLAIR"]
    assert [d.PixelData for d in flair] == [d.PixelData for d in alone.datasets]


def test_truth_names_every_flair_instance_and_no_other() -> None:
    study = _brain(series=("AX T1", "AX FLAIR", "AX T1 POST"))
    flair = {str(d.SOPInstanceUID) for d in study.datasets if d.SeriesDescription == "AX FLAIR"}
    assert set(study.truth) == flair == set(study.labels)
    assert all(mask.shape == (72, 64) for mask in study.truth.values())
    assert {d.SeriesInstanceUID for d in study.datasets if d.SOPInstanceUID in flair} == {
        study.annotated_series_uid
    }


def test_truth_lies_on_the_bright_pixels_of_its_instance() -> None:
    study = brain_study(4, lesions=1, series=FLAIR, lesion_contrast=1.8)
    inside = np.concatenate([d.pixel_array[study.truth[d.SOPInstanceUID]] for d in study.datasets])
    middle = study.datasets[len(study.datasets) // 2].pixel_array
    brain = middle[100:156, 100:156]
    assert inside.size > 100
    assert np.median(inside) > 1.25 * np.median(brain)


def test_t1_shows_the_lesion_no_brighter_than_the_brain() -> None:
    study = brain_study(4, lesions=1, series=("AX T1", "AX FLAIR"))
    t1 = np.stack([d.pixel_array for d in study.datasets if d.SeriesDescription == "AX T1"])
    flair = [d for d in study.datasets if d.SeriesDescription == "AX FLAIR"]
    mask = np.stack([study.truth[d.SOPInstanceUID] for d in flair])
    assert np.median(t1[mask]) < np.median(t1[8:16, 100:156, 100:156])


@settings(max_examples=8, deadline=None)
@given(
    tilt=st.floats(-30.0, 30.0),
    turn=st.floats(-20.0, 20.0),
    spacing=st.floats(2.0, 16.0),
    seed=st.integers(0, 99),
)
def test_positions_follow_each_other_along_the_normal_at_the_slice_spacing(
    tilt: float, turn: float, spacing: float, seed: int
) -> None:
    study = _brain(seed, lesions=0, tilt_degrees=tilt, turn_degrees=turn, slice_spacing_mm=spacing)
    orientation = np.array(study.datasets[0].ImageOrientationPatient, dtype=float)
    row, column = orientation[:3], orientation[3:]
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(column) == pytest.approx(1.0, abs=1e-6)
    assert row @ column == pytest.approx(0.0, abs=1e-6)
    positions = np.array([d.ImagePositionPatient for d in study.datasets], dtype=float)
    np.testing.assert_allclose(
        np.diff(positions, axis=0), np.tile(np.cross(row, column) * spacing, (7, 1)), atol=1e-5
    )


def test_gantry_tilt_moves_slices_along_the_table_and_not_along_the_normal() -> None:
    study = ct_study(1, gantry_tilt_degrees=15.0, slices=4, rows=48, columns=48, pixel_spacing_mm=8.0)
    steps = np.diff(np.array([d.ImagePositionPatient for d in study.datasets], dtype=float), axis=0)
    orientation = np.array(study.datasets[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    np.testing.assert_allclose(steps[:, :2], 0.0, atol=1e-6)
    np.testing.assert_allclose(steps @ normal, 5.0, atol=1e-6)
    assert normal[2] == pytest.approx(np.cos(np.deg2rad(15.0)), abs=1e-6)


def test_missing_slice_is_missing_with_its_number_and_leaves_a_gap_of_two() -> None:
    study = _brain(series=("AX T1", "AX FLAIR"), drop_slice=3)
    flair = [d for d in study.datasets if d.SeriesDescription == "AX FLAIR"]
    assert [int(d.InstanceNumber) for d in flair] == [1, 2, 3, 5, 6, 7, 8]
    heights = [float(d.ImagePositionPatient[2]) for d in flair]
    np.testing.assert_allclose(np.diff(heights), [16, 16, 32, 16, 16, 16], atol=1e-6)
    assert len(study.datasets) - len(flair) == 8
    assert study.expected.reason == "MISSING-SLICE"


def test_a_dropped_end_slice_leaves_no_gap_and_is_no_reason_to_refuse() -> None:
    assert _brain(drop_slice=7).expected.outcome == "delivered"


def test_shuffled_instance_numbers_are_a_permutation_that_does_not_follow_position() -> None:
    numbers = [int(d.InstanceNumber) for d in _brain(shuffle_instance_numbers=True).datasets]
    assert sorted(numbers) == list(range(1, 9))
    assert numbers != sorted(numbers)


def test_duplicate_slice_is_another_instance_at_the_same_position_with_the_same_pixels() -> None:
    datasets = _brain(duplicate_slice=2).datasets
    assert len(datasets) == 9
    assert datasets[8].SOPInstanceUID != datasets[2].SOPInstanceUID
    assert datasets[8].ImagePositionPatient == datasets[2].ImagePositionPatient
    assert datasets[8].PixelData == datasets[2].PixelData


def test_what_is_left_out_is_absent_and_nothing_else_changes() -> None:
    whole = _brain().datasets[0]
    for knob, gone in (
        ("with_frame_of_reference", {"FrameOfReferenceUID", "PositionReferenceIndicator"}),
        ("with_pixel_spacing", {"PixelSpacing"}),
        ("with_position", {"ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"}),
    ):
        cut = _brain(**{knob: False}).datasets[0]
        assert {e.keyword for e in whole} - {e.keyword for e in cut} == gone
        assert all(cut[e.tag] == e for e in whole if e.keyword not in gone)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
)
def test_lossless_transfer_syntaxes_carry_the_same_pixels(syntax: UID) -> None:
    plain, encoded = _brain().datasets[3], _read(_brain(transfer_syntax=syntax).datasets[3])
    assert encoded.file_meta.TransferSyntaxUID == syntax
    assert encoded.SOPInstanceUID == plain.SOPInstanceUID
    np.testing.assert_array_equal(encoded.pixel_array, plain.pixel_array)


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless])
def test_lossy_transfer_syntaxes_say_so_and_stay_close(syntax: UID) -> None:
    plain, encoded = _brain().datasets[3], _read(_brain(transfer_syntax=syntax).datasets[3])
    assert encoded.LossyImageCompression == "01"
    assert encoded.ImageType[0] == "DERIVED"
    difference = np.abs(encoded.pixel_array.astype(int) - plain.pixel_array)
    assert 0 < difference.max() < 0.2 * plain.pixel_array.max()


def test_a_transfer_syntax_without_encoder_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="no pixel encoder for JPEG Baseline"):
        _brain(transfer_syntax=UID("1.2.840.10008.1.2.4.50"))


def test_signed_pixels_are_negative_in_air_and_monochrome1_turns_the_scale_over() -> None:
    plain = _brain(bits=16).datasets[3]
    signed = _read(_brain(signed=True, bits=16).datasets[3])
    assert signed.PixelRepresentation == 1
    assert signed.pixel_array.min() < 0
    inverted = _read(_brain(photometric="MONOCHROME1", bits=16).datasets[3])
    assert inverted.PhotometricInterpretation == "MONOCHROME1"
    np.testing.assert_array_equal(inverted.pixel_array, 65535 - plain.pixel_array)


def test_enhanced_instance_holds_the_same_slices_in_the_same_place_as_the_single_frames() -> None:
    single, enhanced = _brain(lesions=1), _brain(lesions=1, enhanced=True)
    (dataset,) = enhanced.datasets
    multi = _read(dataset)
    np.testing.assert_array_equal(multi.pixel_array, np.stack([d.pixel_array for d in single.datasets]))
    for frame, alone in zip(multi.PerFrameFunctionalGroupsSequence, single.datasets, strict=True):
        assert frame.PlanePositionSequence[0].ImagePositionPatient == alone.ImagePositionPatient
    np.testing.assert_array_equal(
        enhanced.truth[dataset.SOPInstanceUID],
        np.stack([single.truth[d.SOPInstanceUID] for d in single.datasets]),
    )


def test_ultrasound_frames_carry_a_truth_for_each_frame_that_moves_with_the_picture() -> None:
    study = breast_study(3, kind="benign", frames=3, rows=200, columns=240)
    (dataset,) = study.datasets
    truth = study.truth[dataset.SOPInstanceUID]
    assert truth.shape == dataset.pixel_array.shape == (3, 200, 240)
    centres = [np.nonzero(mask)[1].mean() for mask in truth]
    np.testing.assert_allclose(np.diff(centres), 3.0, atol=0.01)
    for picture, mask in zip(dataset.pixel_array, truth, strict=True):
        assert picture[mask].mean() < picture[~mask].mean()


def test_calibrated_ultrasound_tells_millimetres_by_its_region_and_uncalibrated_by_nothing() -> None:
    region = breast_study(1, rows=120, columns=140).datasets[0].SequenceOfUltrasoundRegions[0]
    assert region.PhysicalUnitsXDirection == 3
    assert region.PhysicalDeltaX * 10 == pytest.approx(0.1)
    plain = breast_study(1, rows=120, columns=140, calibrated=False).datasets[0]
    assert "SequenceOfUltrasoundRegions" not in plain
    assert "PixelSpacing" not in plain


def test_ct_values_are_hounsfield_units_after_rescaling_signed_or_not() -> None:
    small = {"slices": 3, "rows": 48, "columns": 48, "pixel_spacing_mm": 8.0}
    one = ct_study(1, **small).datasets[1]  # type: ignore[arg-type]
    two = ct_study(1, signed=True, **small).datasets[1]  # type: ignore[arg-type]
    units = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
    np.testing.assert_array_equal(units, two.pixel_array)
    assert one.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert units[0, 0] == pytest.approx(-1000, abs=60)
