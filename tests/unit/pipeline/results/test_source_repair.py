"""The quirk table: what is mended on the copy, and what is refused with which code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reading.refusals import REASONS, Refusal
from pipeline.results.source_repair import bare_copy, repair_source

WHITELIST = set(
    """
    SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality Rows Columns
    PatientID PatientName PatientBirthDate PatientSex PatientAge IssuerOfPatientID StudyID AccessionNumber
    StudyDate StudyTime StudyDescription ReferringPhysicianName Manufacturer ManufacturerModelName
    InstitutionName FrameOfReferenceUID PositionReferenceIndicator InstanceNumber ImagePositionPatient
    ImageOrientationPatient PixelSpacing SliceThickness LossyImageCompression LossyImageCompressionRatio
    LossyImageCompressionMethod
    """.split()  # noqa: SIM905 - a list of names is easier to read without quotes
)

decimals = st.decimals(-99999, 99999, places=8)


def repaired(sources, name):
    found = repair_source(sources.series(sources.mended[name]()))
    assert not isinstance(found, Refusal), found
    return found


def test_mended_source_keeps_only_the_whitelist_and_leaves_the_headers_alone(sources, mended_name):
    headers = sources.mended[mended_name]()
    before = [str(one) for one in headers]
    found = repair_source(sources.series(headers))
    assert not isinstance(found, Refusal), found
    for one in (*found.slices, *found.instances):
        assert {element.keyword for element in one} <= WHITELIST
        assert one.SpecificCharacterSet == "ISO_IR 192"
    assert [str(one) for one in headers] == before
    assert len(found.slices) == len(headers)
    assert [one.sop_uid for one in found.references] == [str(h.SOPInstanceUID) for h in headers]


def test_unusable_source_is_refused_by_its_code(sources, refused_name):
    make, code = sources.refused[refused_name]
    found = repair_source(sources.series(make()))
    assert isinstance(found, Refusal)
    assert found.code == code
    assert code in REASONS


@pytest.mark.parametrize(
    ("name", "keyword", "value"),
    [
        ("sex unknown", "PatientSex", ""),
        ("sex lower case", "PatientSex", "F"),
        ("birth date with hyphens", "PatientBirthDate", "19500101"),
        ("birth date is a year", "PatientBirthDate", ""),
        ("study date of zeros", "StudyDate", ""),
        ("study time with colons", "StudyTime", "101112"),
        ("study time with seven decimals", "StudyTime", "101112.123456"),
        ("study time impossible", "StudyTime", ""),
        ("study time with zone", "StudyTime", "101112"),
        ("accession too long", "AccessionNumber", "A" * 16),
        ("name in kanji", "PatientName", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("name with umlauts", "PatientName", "Müller^Jörg"),
        ("description with a line break", "StudyDescription", "twolines"),
        ("leading zeros in the UIDs", "StudyInstanceUID", "1.2.826.0.1.03.004"),
        ("thickness absent", "SliceThickness", 5.0),
        ("thickness empty", "SliceThickness", 5.0),
        ("thickness zero", "SliceThickness", 5.0),
        ("lossy", "LossyImageCompressionMethod", "ISO_10918_1"),
    ],
)
def test_value_is_mended(sources, name, keyword, value):
    assert all(one[keyword].value == value for one in repaired(sources, name).slices)


def test_faulty_age_is_left_out(sources):
    assert all("PatientAge" not in one for one in repaired(sources, "age without unit").slices)


@pytest.mark.parametrize("name", ["frame of reference absent", "frame of reference empty"])
def test_missing_frame_of_reference_is_derived_once_for_the_series_and_noted(sources, name):
    one, other = repaired(sources, name), repaired(sources, name)
    uids = {str(s.FrameOfReferenceUID) for s in (*one.slices, *other.slices)}
    assert len(uids) == 1
    assert any("frame of reference" in note for note in one.notes)


def test_orientation_is_the_same_for_all_slices_and_orthonormal(sources):
    for name in ("orientation differs in the seventh digit", "orientation of two digits"):
        found = repaired(sources, name)
        cosines = {tuple(float(v) for v in s.ImageOrientationPatient) for s in found.slices}
        assert len(cosines) == 1
        row, column = np.array(cosines.pop()).reshape(2, 3)
        assert np.allclose((row @ row, column @ column, row @ column), (1, 1, 0), atol=1e-9)


def test_lossy_ratio_without_its_method_is_left_out(sources):
    (one, *_) = repaired(sources, "lossy with two methods and one ratio").slices
    assert one.LossyImageCompression == "01"
    assert "LossyImageCompressionRatio" not in one


@given(decimals, decimals)
def test_positions_are_written_in_sixteen_characters_and_keep_their_place(sources_class, x, z):
    headers = sources_class.stack(1)
    headers[0].ImagePositionPatient = [str(x), "0", str(z)]
    expected = [float(v) for v in headers[0].ImagePositionPatient]
    found = repair_source(sources_class.series(headers))
    values = found.slices[0].ImagePositionPatient
    assert all(len(str(v)) <= 16 for v in values)
    assert np.allclose([float(v) for v in values], expected, rtol=1e-9, atol=1e-9)


def test_enhanced_frames_become_single_slices_with_their_true_reference(sources):
    found = repair_source(sources.series([sources.enhanced(5)], frames=(5, 3, 2)))
    assert [(one.sop_uid, one.frame_number) for one in found.references] == [
        ("1.2.826.0.1.3680043.8.1.3.1", 5),
        ("1.2.826.0.1.3680043.8.1.3.1", 3),
        ("1.2.826.0.1.3680043.8.1.3.1", 2),
    ]
    assert [float(one.ImagePositionPatient[2]) for one in found.slices] == [50.0, 40.0, 35.0]
    assert len(found.instances) == 1
    assert len({str(one.SOPInstanceUID) for one in found.slices}) == 3


def test_image_without_coordinates_has_no_geometry_to_measure_on(sources):
    found = repair_source(sources.series([sources.header("US")], placed=False))
    assert not found.is_placed
    assert found.slice_spacing_mm is None
    assert "PixelSpacing" not in found.slices[0]


def test_bare_copy_of_a_header_without_uid_is_refused(sources):
    assert bare_copy(sources.put([sources.header()], "SOPInstanceUID", "")[0]).code == "MISSING-UID"
