"""Which stack a series makes, and why sometimes none."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement

from pipeline.reading.assemble import Stack, StackRules, assemble, single_images
from pipeline.reading.read_series import read_series
from pipeline.reading.refusals import Refusal

TILT = StackRules(tilt_degrees_max=30.0)
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def taken(outcome: Stack | Refusal) -> Stack:
    assert isinstance(outcome, Stack), outcome
    return outcome


def refused(outcome: Stack | Refusal) -> Refusal:
    assert isinstance(outcome, Refusal), outcome
    return outcome


@relaxed
@given(
    order=st.permutations(range(9)),
    turn=st.floats(-179, 179),
    tilt=st.floats(-89, 89),
    step=st.floats(0.3, 12),
)
def test_any_order_of_arrival_makes_the_same_volume(
    order, turn, tilt, step, make_stack, make_oblique, encoded
):
    slices = make_stack(9, step_mm=step, orientation=make_oblique(turn, tilt))
    shuffled = [slices[i] for i in order]

    def volume(headers):
        stack = taken(assemble(headers, StackRules()))
        syntax = "1.2.840.10008.1.2.1"
        return read_series(stack, headers, lambda i: (encoded(headers[i]), syntax), bytes_max=1 << 20).volume

    one, other = volume(slices), volume(shuffled)
    assert np.array_equal(one.array, other.array)
    assert np.array_equal(one.affine, other.affine)
    assert sorted(one.array[:, 0, 0].tolist()) == list(range(9))


@relaxed
@given(turn=st.floats(-179, 179), tilt=st.floats(-180, 180), step=st.floats(0.3, 12), shear=st.floats(-1, 1))
def test_affine_takes_the_first_voxel_of_slice_k_to_its_position(
    turn, tilt, step, shear, make_stack, make_oblique
):
    slices = make_stack(
        7, step_mm=step, orientation=make_oblique(turn, tilt), shear=np.array([0, 1, 0]) * shear * step * 0.3
    )
    stack = taken(assemble(slices, TILT))
    for k, plane in enumerate(stack.planes):
        header = slices[plane.instance]
        where = stack.affine @ (0, 0, k, 1)
        assert np.allclose(where[:3], [float(v) for v in header.ImagePositionPatient], atol=1e-6)
        # One column to the right is one column spacing along the row direction (PS3.3 C.7.6.2.1.1).
        right = (stack.affine @ (1, 0, k, 1) - where)[:3]
        assert np.allclose(right, 0.8 * np.array(header.ImageOrientationPatient[:3], float), atol=1e-6)
        down = (stack.affine @ (0, 1, k, 1) - where)[:3]
        assert np.allclose(down, 0.9 * np.array(header.ImageOrientationPatient[3:], float), atol=1e-6)


@relaxed
@given(turn=st.floats(-179, 179), tilt=st.floats(-89, 89), count=st.integers(2, 8))
def test_enhanced_multi_frame_equals_the_single_frames(
    turn, tilt, count, make_stack, make_oblique, make_enhanced, encoded
):
    slices = make_stack(count, orientation=make_oblique(turn, tilt), RescaleSlope=2, RescaleIntercept=-5)
    enhanced = make_enhanced(list(reversed(slices)))
    syntax = "1.2.840.10008.1.2.1"
    classic = read_series(
        taken(assemble(slices, StackRules())),
        slices,
        lambda i: (encoded(slices[i]), syntax),
        bytes_max=1 << 20,
    )
    modern = read_series(
        taken(assemble([enhanced], StackRules())),
        [enhanced],
        lambda i: (encoded(enhanced), syntax),
        bytes_max=1 << 20,
    )
    assert np.array_equal(classic.volume.array, modern.volume.array)
    assert np.allclose(classic.volume.affine, modern.volume.affine)
    assert classic.frames[0].frame_number is None
    rising = [float(v) for v in classic.volume.array[:, 0, 0]]
    assert [f.frame_number for f in modern.frames] == [count - round((v + 5) / 2) for v in rising]


def test_slice_spacing_is_the_distance_of_positions_and_not_the_thickness(make_stack):
    stack = taken(assemble(make_stack(5, step_mm=6.5, thickness=5.0), StackRules()))
    assert stack.slice_spacing_mm == pytest.approx(6.5)
    assert stack.pixel_spacing_mm == (0.9, 0.8)


@pytest.mark.parametrize("lost", [1, 4, 7])
def test_missing_slice_is_refused_naming_both_neighbours_and_the_gap(lost, make_stack):
    slices = make_stack(9, step_mm=6.0)
    del slices[lost]
    refusal = refused(assemble(slices, StackRules()))
    assert refusal.code == "MISSING-SLICE"
    assert f"1.2.3.10.{lost} and 1.2.3.10.{lost + 2}" in refusal.sentence
    assert "12.00 mm" in refusal.sentence
    assert "1 slice(s)" in refusal.sentence


def test_two_missing_neighbours_are_counted(make_stack):
    slices = make_stack(10)
    del slices[4:6]
    assert "2 slice(s)" in refused(assemble(slices, StackRules())).sentence


def test_changing_slice_distance_is_uneven_and_not_missing(make_slice):
    heights = [0, 4.2, 8.4, 12.6, 13.8, 21.2, 28.6, 36.0]
    slices = [make_slice((0, 0, z)) for z in heights]
    assert refused(assemble(slices, StackRules())).code == "UNEVEN-SPACING"


def test_slice_beside_the_line_is_refused(make_slice):
    slices = [make_slice((3.0 if k == 2 else 0.0, 0, 5 * k)) for k in range(6)]
    assert refused(assemble(slices, StackRules())).code == "UNEVEN-POSITIONS"


def test_gantry_tilt_is_refused_unless_allowed_and_then_kept_in_the_affine(make_stack):
    shear = (0.0, 6.0 * math.tan(math.radians(18)), 0.0)
    slices = make_stack(6, step_mm=6.0, shear=shear)
    refusal = refused(assemble(slices, StackRules()))
    assert refusal.code == "GANTRY-TILT"
    assert "18.0 degrees" in refusal.sentence
    stack = taken(assemble(slices, TILT))
    assert np.allclose(stack.affine[:3, 2], (0, shear[1], 6.0))
    assert stack.slice_spacing_mm == pytest.approx(6.0)
    assert "tilted by 18.0 degrees" in stack.notes[0]


def test_localizer_inside_the_series_is_set_aside_with_a_note(make_stack, make_slice):
    slices = make_stack(8)
    scout = make_slice((0, 0, 0), orientation=(0, 1, 0, 0, 0, -1))
    stack = taken(assemble([scout, *slices], StackRules()))
    assert len(stack.planes) == 8
    assert scout.SOPInstanceUID not in {p.sop_uid for p in stack.planes}
    assert stack.notes == ("1 image(s) of another orientation or size in the series were set aside.",)


def test_three_plane_localizer_is_refused_as_mixed_orientation(make_stack):
    slices = [
        image
        for i, orientation in enumerate([(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)])
        for image in make_stack(3, orientation=orientation)
    ]
    for number, image in enumerate(slices):
        image.SOPInstanceUID = f"1.2.{number}"
    assert refused(assemble(slices, StackRules())).code == "MIXED-ORIENTATION"


def test_axis_rule_picks_the_stack_of_that_axis_out_of_several(make_stack):
    sagittal = make_stack(9, orientation=(0, 1, 0, 0, 0, -1))
    for number, image in enumerate(sagittal):
        image.SOPInstanceUID = f"1.2.77.{number + 1}"
    rules = StackRules(axis=(0.0, 0.0, 1.0), axis_degrees_max=45.0)
    stack = taken(assemble([*sagittal, *make_stack(8)], rules))
    assert len(stack.planes) == 8


def test_images_of_two_sizes_are_refused_when_neither_is_clearly_the_series(make_stack, make_slice):
    small = make_stack(5)
    large = [make_slice((0, 0, 100 + 5 * k), pixels=np.zeros((8, 8), np.uint16)) for k in range(5)]
    assert refused(assemble([*small, *large], StackRules())).code == "MIXED-SIZE"


@pytest.mark.parametrize(
    ("keyword", "first", "second", "name"),
    [
        ("AcquisitionNumber", 1, 2, "acquisition"),
        ("TemporalPositionIdentifier", 9, 10, "temporal position"),
        ("EchoTime", 20.0, 120.0, "echo time"),
        ("DiffusionBValue", 0.0, 1000.0, "b-value"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"], "image type"),
    ],
)
def test_repeated_positions_are_split_by_what_tells_them_apart(keyword, first, second, name, make_stack):
    one = make_stack(6, **{keyword: first})
    two = make_stack(6, **{keyword: second})
    for number, image in enumerate(two):
        image.SOPInstanceUID = f"1.2.50.{number + 1}"
    stack = taken(assemble([*two, *one], StackRules()))
    assert [p.sop_uid for p in stack.planes] == [f"1.2.3.10.{k + 1}" for k in range(6)]
    assert f"2 stacks told apart by {name}" in stack.notes[0]


def test_more_complete_of_two_repeats_is_taken(make_stack):
    one = make_stack(6, AcquisitionNumber=1)[:5]
    two = make_stack(6, AcquisitionNumber=2)
    for number, image in enumerate(two):
        image.SOPInstanceUID = f"1.2.50.{number + 1}"
    stack = taken(assemble([*one, *two], StackRules()))
    assert stack.planes[0].sop_uid == "1.2.50.1"


def test_repeats_that_nothing_tells_apart_are_refused(make_stack, make_slice):
    slices = make_stack(6)
    twin = make_slice([float(v) for v in slices[2].ImagePositionPatient], sop_uid="1.2.3.99.1")
    refusal = refused(assemble([*slices, twin], StackRules()))
    assert refusal.code == "DUPLICATE-SLICES"
    assert "1.2.3.10.3" in refusal.sentence
    assert "1.2.3.99.1" in refusal.sentence


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"PixelSpacing": [0.9, 0.85]}, "MIXED-SPACING"),
        ({"SliceThickness": 3.0}, "MIXED-SPACING"),
        ({"PixelSpacing": None}, "NO-SPACING"),
        ({"PixelSpacing": [0, 0]}, "NO-SPACING"),
        ({"PatientName": "Other^One"}, "MIXED-PATIENTS"),
        ({"SOPInstanceUID": "1.2.3.10.2"}, "SAME-UID-TWICE"),
        ({"SOPInstanceUID": ""}, "MISSING-UID"),
        ({"StudyInstanceUID": ""}, "MISSING-UID"),
        ({"SeriesInstanceUID": "1." + "2" * 64}, "UID-INVALID"),
        ({"SOPInstanceUID": "../../etc"}, "UID-INVALID"),
    ],
)
def test_one_odd_header_refuses_the_series(change, code, make_stack):
    slices = make_stack(5)
    for keyword, value in change.items():
        element = slices[3][keyword]
        slices[3][keyword] = DataElement(element.tag, element.VR, value, validation_mode=IGNORE)
    refusal = refused(assemble(slices, StackRules()))
    assert refusal.code == code
    assert "Phantom" not in refusal.sentence
    assert "Other" not in refusal.sentence


def test_spacing_within_one_percent_is_one_spacing(make_stack):
    slices = make_stack(5)
    slices[3].PixelSpacing = [0.905, 0.8]
    taken(assemble(slices, StackRules()))


def test_series_without_positions_is_refused(make_stack):
    slices = make_stack(5)
    for image in slices:
        del image.ImagePositionPatient
    assert refused(assemble(slices, StackRules())).code == "NO-POSITION"


def test_single_image_without_position_inside_a_series_is_set_aside(make_stack):
    slices = make_stack(8)
    slices[0].ImageOrientationPatient = None
    stack = taken(assemble(slices, StackRules()))
    assert len(stack.planes) == 7
    assert "without position" in stack.notes[0]


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (StackRules(slices_min=6), "TOO-FEW-SLICES"),
        (StackRules(slices_max=4), "TOO-MANY-SLICES"),
    ],
)
def test_number_of_slices_is_bounded(rules, code, make_stack):
    refusal = refused(assemble(make_stack(5), rules))
    assert refusal.code == code
    assert "5 slices" in refusal.sentence


def test_still_image_makes_a_stack_of_its_own_without_affine(make_slice):
    image = make_slice((0, 0, 0), PixelSpacing=None)
    (stack,) = single_images([image])
    assert taken(stack).affine is None
    assert taken(stack).pixel_spacing_mm is None


def test_ultrasound_region_in_centimetres_calibrates_the_image(make_slice):
    from pydicom.dataset import Dataset

    region = Dataset()
    region.RegionSpatialFormat, region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 1, 3, 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.01, 0.02
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 5, 6
    image = make_slice((0, 0, 0), SequenceOfUltrasoundRegions=[region])
    (stack,) = single_images([image])
    assert taken(stack).pixel_spacing_mm == pytest.approx((0.2, 0.1))


def test_detector_spacing_is_divided_by_the_magnification_or_noted(make_slice):
    image = make_slice((0, 0, 0), PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.2])
    (plain,) = single_images([image])
    assert "at the detector" in taken(plain).notes[0]
    image.EstimatedRadiographicMagnificationFactor = 2.0
    (magnified,) = single_images([image])
    assert taken(magnified).pixel_spacing_mm == pytest.approx((0.1, 0.1))


def test_cine_loop_is_not_a_still_image(make_slice):
    (outcome,) = single_images([make_slice((0, 0, 0), NumberOfFrames=30)])
    assert refused(outcome).code == "MULTI-FRAME"
