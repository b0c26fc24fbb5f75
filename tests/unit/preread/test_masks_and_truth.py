"""The truth table compares what was there with masks read back from SEG objects."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from preread.demo.masks import dice, overlap, segments_of, union, voxels
from preread.demo.truth_table import Truth, judge

SHAPE = (6, 16, 24)


def sources() -> list[Dataset]:
    images = []
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    for number in range(SHAPE[0]):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.FrameOfReferenceUID = frame_of_reference
        image.Modality, image.Rows, image.Columns = "MR", SHAPE[1], SHAPE[2]
        for keyword in (
            *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"),
            *(
                "StudyDate",
                "StudyTime",
                "ReferringPhysicianName",
                "Manufacturer",
                "PositionReferenceIndicator",
            ),
        ):
            setattr(image, keyword, "")
        image.PixelSpacing, image.SliceThickness = [1.0, 1.0], 5.0
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [0, 0, 5.0 * number]
        images.append(image)
    return images


def written(mask: NDArray[np.bool_], images: list[Dataset], path: Path) -> Path:
    """A SEG by highdicom; `mask` is (slices, rows, columns, segments)."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number + 1,
            segment_label=f"lesion {number + 1}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(mask.shape[3])
    ]
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path)
    return path


@settings(max_examples=15, deadline=None)
@given(mask=arrays(np.bool_, (*SHAPE, 2)))
def test_the_mask_read_back_equals_the_mask_written(
    mask: NDArray[np.bool_], tmp_path_factory: pytest.TempPathFactory
) -> None:
    mask[2, 3, 4, 0] = mask[3, 3, 4, 1] = True  # neither segment is empty
    images = sources()
    path = written(mask, images, tmp_path_factory.mktemp("seg") / "seg.dcm")
    segments = segments_of([path])
    assert len(segments) == 2
    for number, segment in enumerate(segments):
        for index, image in enumerate(images):
            expected = mask[index, :, :, number]
            found = segment.get(str(image.SOPInstanceUID), np.zeros(SHAPE[1:], bool))
            assert np.array_equal(found, expected)
    assert voxels(union(segments)) == int(np.count_nonzero(mask.any(axis=3)))


def test_a_seg_that_is_not_binary_is_refused_by_name(tmp_path: Path) -> None:
    mask = np.zeros((*SHAPE, 1), bool)
    mask[1, 1, 1, 0] = True
    path = written(mask, sources(), tmp_path / "one.dcm")
    from pydicom import dcmread

    seg = dcmread(path)
    seg.SegmentationType = "FRACTIONAL"
    seg.save_as(path)
    with pytest.raises(ValueError, match=r"one\.dcm is not a BINARY segmentation"):
        segments_of([path])


def box(rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE[1:], bool)
    mask[rows, columns] = True
    return mask


def test_dice_counts_all_images_together() -> None:
    truth = {"a": box(slice(0, 4), slice(0, 4)), "b": box(slice(0, 2), slice(0, 2))}
    found = {"a": box(slice(0, 4), slice(2, 6)), "c": box(slice(0, 2), slice(0, 2))}
    assert overlap(truth, found) == 8
    assert dice(truth, found) == 2 * 8 / (16 + 4 + 16 + 4)
    assert dice({}, {}) is None
    assert dice(truth, truth) == 1.0


def labels(*lesions: tuple[slice, slice]) -> NDArray[np.uint8]:
    image = np.zeros(SHAPE[1:], np.uint8)
    for number, (rows, columns) in enumerate(lesions):
        image[rows, columns] = number + 1
    return image


TWO = Truth("two", {"a": labels((slice(0, 4), slice(0, 4)), (slice(8, 12), slice(8, 12)))})


def test_a_lesion_is_found_when_a_tenth_of_it_is_outlined() -> None:
    grazed = {"a": box(slice(0, 1), slice(0, 2))}  # 2 of 16
    missed = {"a": box(slice(0, 1), slice(0, 1))}  # 1 of 16
    assert judge(TWO, [grazed], outcome="delivered", reason=None, class_name=None).found == 1
    assert judge(TWO, [missed], outcome="delivered", reason=None, class_name=None).found == 0


def test_an_outline_where_nothing_is_counts_as_false() -> None:
    verdict = judge(
        TWO,
        [{"a": TWO.lesions["a"] == 1}, {"a": TWO.lesions["a"] == 2}, {"b": box(slice(0, 2), slice(0, 2))}],
        outcome="delivered",
        reason=None,
        class_name=None,
    )
    assert (verdict.found, verdict.false, verdict.is_right) == (2, 1, False)
    assert verdict.words == "found 2 of 2, 1 false"


@pytest.mark.parametrize(
    ("truth", "said", "is_right", "words"),
    [
        (TWO, ("delivered", None, None), False, "missed"),
        (Truth("none", {}), ("delivered", None, None), True, "nothing there, nothing found"),
        (Truth("class", {}, class_name="normal"), ("delivered", None, "normal"), True, None),
        (Truth("class", {}, class_name="normal"), ("delivered", None, "benign"), False, None),
        (Truth("gap", {}, refusal="MISSING-SLICE"), ("not_analysed", "MISSING-SLICE", None), True, None),
        (Truth("gap", {}, refusal="MISSING-SLICE"), ("not_analysed", "NO-MODEL", None), False, None),
        (Truth("gap", {}, refusal="MISSING-SLICE"), ("delivered", None, None), False, "NOT refused: None"),
        (Truth("none", {}), ("failed", "JOB-FAILED", None), False, "failed: JOB-FAILED"),
    ],
)
def test_a_verdict_is_right_only_when_the_study_ended_as_it_must(
    truth: Truth, said: tuple[str, str | None, str | None], is_right: bool, words: str | None
) -> None:
    outcome, reason, class_name = said
    verdict = judge(truth, [], outcome=outcome, reason=reason, class_name=class_name)
    assert verdict.is_right == is_right
    assert words is None or verdict.words == words


@given(st.integers(0, 40))
def test_dice_is_symmetric(shift: int) -> None:
    one, other = {"a": box(slice(0, 8), slice(0, 8))}, {"a": np.roll(box(slice(0, 8), slice(0, 8)), shift)}
    assert dice(one, other) == dice(other, one)
