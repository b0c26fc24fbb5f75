"""DICOM studies with SEG as training cases; highdicom writes the SEG, the generator the studies."""

import csv

import highdicom
import numpy as np
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from models.training.prepared import FoundCase, LeftOut
from models.training.sections import DicomSegData
from pipeline.training_cases import read_dicom_seg
from preread.demo.phantom_dicom import brain_study, breast_study
from preread.demo.phantom_study import PhantomPatient, part10

ABOUT = {"name": "x", "licence": "x", "citation": "x", "unit": "patients"}


def brain(seed=1, **values):
    return brain_study(seed, slices=6, rows=64, columns=48, pixel_spacing_mm=4.0, **values)


def images_of(study):
    return sorted(
        (one for one in study.datasets if one.SeriesInstanceUID == study.annotated_series_uid),
        key=lambda one: float(one.ImagePositionPatient[2]) if "ImagePositionPatient" in one else 0,
    )


def seg_of(images, mask, *, labels=("Lesion",), kind="BINARY"):
    """`mask`: (slices, rows, columns), values 1 .. n of the segments, in the order of the images."""
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(labels, 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=100,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Reader",
        manufacturer_model_name="Hand",
        software_versions="1",
        device_serial_number="1",
    )


@pytest.fixture
def folder(tmp_path):
    """Writes datasets in an order that says nothing, and reads the folder."""

    def read(*datasets, unit="series", **settings):
        for number, dataset in enumerate(sorted(datasets, key=lambda one: str(one.SOPInstanceUID)[::-1])):
            (tmp_path / f"{number:03d}").write_bytes(part10(dataset))
        return list(read_dicom_seg(DicomSegData(reader="dicom-seg", **ABOUT, **settings), tmp_path, unit))

    read.path = tmp_path
    return read


def only(found):
    (case,) = [one for one in found if isinstance(one, FoundCase)]
    return case


def fault(found):
    (one,) = [one for one in found if isinstance(one, LeftOut) and one.is_fault]
    return one.why


def truth_of(study, images):
    return np.stack([study.truth[one.SOPInstanceUID] for one in images])


def test_mask_and_volume_are_those_of_the_study(folder):
    study = brain()
    images = images_of(study)
    truth = truth_of(study, images)
    assert truth.any()
    found = folder(*study.datasets, seg_of(images, truth.astype(np.uint8)))
    case = only(found)
    order = np.argsort([float(one.ImagePositionPatient[2]) for one in images])
    assert np.array_equal(case.mask, truth[order])
    assert case.volume.pixel_spacing_mm == pytest.approx((4.0, 4.0))
    assert {one.why for one in found if isinstance(one, LeftOut)} == {"no SEG outlines this series"}


def test_an_oblique_series_is_matched_too(folder):
    study = brain(tilt_degrees=15.0)
    images = images_of(study)
    truth = truth_of(study, images)
    case = only(folder(*images, seg_of(images, truth.astype(np.uint8))))
    assert case.mask.sum() == truth.sum()
    drawn = case.volume.array[case.mask].mean()
    assert drawn > 1.2 * np.median(
        case.volume.array[case.volume.array > 100]
    )  # lesions are bright: the right place


def test_without_references_frames_are_matched_by_their_position(folder):
    study = brain()
    images = images_of(study)
    truth = truth_of(study, images)
    seg = seg_of(images, truth.astype(np.uint8))
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    assert np.array_equal(only(folder(*images, seg)).mask, truth)
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[2] += 1.5
    assert "lies on no slice of the series" in fault(folder(*images, seg))


def test_a_frame_that_lies_beside_the_image_it_names_is_a_fault(folder):
    study = brain()
    images = images_of(study)
    seg = seg_of(images, truth_of(study, images).astype(np.uint8))
    sequence = seg.PerFrameFunctionalGroupsSequence
    first, last = (group.PlanePositionSequence[0] for group in (sequence[0], sequence[-1]))
    first.ImagePositionPatient, last.ImagePositionPatient = (
        last.ImagePositionPatient,
        first.ImagePositionPatient,
    )
    assert "does not lie on the image it names" in fault(folder(*images, seg))


def test_named_segments_are_taken_and_others_left(folder):
    study = brain()
    images = images_of(study)
    mask = np.zeros((6, 64, 48), np.uint8)
    mask[1, 5:9, 5:9], mask[2, 20:30, 5:9] = 1, 2
    seg = seg_of(images, mask, labels=("Lesion", "Oedema"))
    assert only(folder(*images, seg, segments=("Oedema",))).mask.sum() == 40
    assert only(folder(*images, seg)).mask.sum() == 56
    assert "none of Cyst" in fault(folder(*images, seg, segments=("Cyst",)))


def test_a_patient_is_a_hash_and_the_same_one_in_all_studies(folder):
    patient = PhantomPatient("Doe^Jane", "SECRET-17")
    studies = [brain(seed, patient=patient) for seed in (1, 2)]
    written = [
        dataset
        for study in studies
        for images in [images_of(study)]
        for dataset in (*images, seg_of(images, truth_of(study, images).astype(np.uint8)))
    ]
    cases = [one for one in folder(*written) if isinstance(one, FoundCase)]
    assert len({one.group for one in cases}) == 1
    assert len({one.name for one in cases}) == 2
    assert not any("SECRET" in one.name + one.group for one in cases)


def test_what_cannot_be_matched_is_named(folder):
    study, other = brain(1), brain(2)
    images, strangers = images_of(study), images_of(other)
    mask = np.zeros((6, 64, 48), np.uint8)
    mask[2, 5:9, 5:9] = 1
    (folder.path / "notes.txt").write_text("no DICOM")
    found = folder(*images, seg_of(strangers, mask))
    assert "the images it refers to are not in the folder" in fault(found)
    assert ("notes.txt", "it is no DICOM file") in [
        (one.name, one.why) for one in found if isinstance(one, LeftOut)
    ]


def test_two_truths_for_one_series_are_a_fault(folder):
    study = brain()
    images = images_of(study)
    segs = [seg_of(images, truth_of(study, images).astype(np.uint8)) for _ in range(2)]
    assert "2 SEG objects outline it" in fault(folder(*images, *segs))


def test_single_images_are_cases_of_their_own_with_their_class(folder):
    study = breast_study(3, kind="malignant", rows=80, columns=96)
    (image,) = study.datasets
    truth = study.truth[image.SOPInstanceUID].astype(np.uint8)
    with (folder.path / "classes.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("uid", "class"), (image.StudyInstanceUID, "malignant")])
    case = only(folder(image, seg_of([image], truth[None]), unit="image", classes="classes.csv"))
    assert case.class_name == "malignant"
    assert case.volume.array.shape == (1, 80, 96)
    assert np.array_equal(case.mask[0], truth > 0)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_named_segments_are_numbered_as_they_are_named(folder, kind):
    study = brain()
    images = images_of(study)
    truth = truth_of(study, images)
    halves = np.where(truth, 1 + (np.arange(truth.shape[2]) % 2), 0).astype(np.uint8)
    seg = seg_of(images, halves, labels=("Core", "Oedema"), kind=kind)
    case = only(folder(*images, seg, segments=("Oedema", "Core")))
    assert (halves == 1).any()
    assert (halves == 2).any()
    assert np.array_equal(case.labels, np.array([0, 2, 1])[halves])
