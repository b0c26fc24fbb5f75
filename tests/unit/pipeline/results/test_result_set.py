"""The result set: which objects there are, that a repeat is the same, and what a revision inherits."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from config.identity import is_own_uid
from config.settings import NodeSettings
from pipeline.reading.refusals import Refusal, refuse
from pipeline.results.predecessors import Predecessor
from pipeline.results.result_set import build_not_analysed_set, build_result_set

COPIED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "ReferringPhysicianName",
)
BENIGN = {"benign": 0.8, "malignant": 0.15, "normal": 0.05}
MALIGNANT = {"benign": 0.2, "malignant": 0.7, "normal": 0.1}


def build(sources, all_sources, predictions, model="brain-flair-lesion", **options):
    options = {"node": NodeSettings(), "revision": 1, "job_created_at": sources.created, **options}
    return build_result_set(all_sources, predictions, sources.package_of(model), **options)


def brain(sources, labels=None, **options):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source) if labels is None else labels
    return build(sources, [source], [sources.prediction_of(labels)], **options)


def breast_images(sources, count):
    return [
        sources.series([sources.header("US", index=index, ImageLaterality="R")], placed=False)
        for index in range(count)
    ]


def read(result):
    return dcmread(BytesIO(result.part10))


def predecessors_of(result_set):
    return [Predecessor(one.kind, one.part10) for one in result_set.objects]


def test_volume_with_lesions_gives_one_of_each_kind(sources):
    found = brain(sources)
    assert [one.kind for one in found.objects] == ["SEG", "SR", "SC"]
    for one in found.objects:
        dataset = read(one)
        assert (one.sop_uid, one.sop_class, one.series_uid) == (
            dataset.SOPInstanceUID,
            dataset.SOPClassUID,
            dataset.SeriesInstanceUID,
        )
        assert is_own_uid(one.sop_uid)
        assert is_own_uid(one.series_uid)
        assert one.part10[128:132] == b"DICM"
    assert len({one.series_uid for one in found.objects}) == 3


def test_no_lesion_gives_report_and_picture_and_no_segmentation(sources):
    found = brain(sources, np.zeros((8, 48, 40), np.uint16))
    assert [one.kind for one in found.objects] == ["SR", "SC"]
    assert found.findings["headline"] == "no lesion found"
    assert found.findings["lesions"] == []


def test_no_lesion_gives_an_empty_segmentation_where_the_site_wants_one(sources):
    nothing = np.zeros((8, 48, 40), np.uint16)
    found = brain(sources, nothing, empty_segmentation=True)
    assert [one.kind for one in found.objects] == ["SEG", "SR", "SC"]
    assert found.findings == brain(sources, nothing).findings
    # A lesion of the next revision is new: nothing was tracked before.
    later = brain(sources, revision=2, predecessors=predecessors_of(found))
    assert later.findings == brain(sources, revision=2).findings
    assert [one.kind for one in brain(sources, empty_segmentation=True).objects] == ["SEG", "SR", "SC"]


def test_picture_is_left_out_on_request(sources):
    assert [one.kind for one in brain(sources, secondary_capture=False).objects] == ["SEG", "SR"]


def test_objects_belong_to_the_patient_and_study_of_the_images(sources):
    header = sources.stack(1)[0]
    for one in brain(sources).objects:
        dataset = read(one)
        for keyword in COPIED:
            assert dataset[keyword].value == header[keyword].value, keyword
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.ContentQualification == "RESEARCH"
        assert dataset.DeviceSerialNumber == "preread-1"


def test_names_that_libraries_dislike_are_never_quoted_in_a_warning(sources, recwarn, caplog):
    warnings.simplefilter("always")
    source = sources.series(sources.put(sources.stack(3), "PatientName", "SINGLECOMPONENT"))
    found = build(sources, [source], [sources.prediction_of(sources.lesion_labels(source))])
    assert {str(read(one).PatientName) for one in found.objects} == {"SINGLECOMPONENT"}
    assert "SINGLECOMPONENT" not in caplog.text
    assert not any("SINGLECOMPONENT" in str(warning.message) for warning in recwarn)


def test_series_numbers_leave_room_for_each_model_and_kind(sources):
    assert [read(one).SeriesNumber for one in brain(sources).objects] == [9001, 9002, 9003]
    assert [read(one).SeriesNumber for one in brain(sources, slot=3).objects] == [9031, 9032, 9033]


def test_times_are_those_of_the_job_in_the_zone_of_the_source(sources):
    source = sources.series(sources.stack(4, TimezoneOffsetFromUTC="+0530"))
    found = build(sources, [source], [sources.prediction_of(sources.lesion_labels(source))])
    for one in found.objects:
        dataset = read(one)
        assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("20260301", "180015")
        assert dataset.TimezoneOffsetFromUTC == "+0530"


def test_repeat_in_another_process_makes_the_same_bytes(sources, tmp_path):
    """Hashes of strings differ between processes, so an order taken from a set would show."""
    script = tmp_path / "build.py"
    script.write_text(
        "import hashlib\n"
        "from config.settings import NodeSettings\n"
        "from pipeline.results.result_set import build_result_set\n"
        "from result_sources import Sources as made\n"
        "source = made.series(made.stack())\n"
        "prediction = made.prediction_of(made.lesion_labels(source))\n"
        "package = made.package_of('brain-flair-lesion')\n"
        "options = dict(node=NodeSettings(), revision=1, job_created_at=made.created)\n"
        "for one in build_result_set([source], [prediction], package, **options).objects:\n"
        "    print(hashlib.sha256(one.part10).hexdigest())\n"
    )
    tests = Path(__file__).parents[3]
    printed = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.split() == [hashlib.sha256(one.part10).hexdigest() for one in brain(sources).objects]


def test_repeat_differs_in_nothing_but_the_time_of_the_job(sources):
    later = sources.created.replace(day=2)
    for one, other in zip(brain(sources).objects, brain(sources, job_created_at=later).objects, strict=True):
        assert one.sop_uid == other.sop_uid
        dates = ("InstanceCreationDate", "ContentDate", "SeriesDate", "DateOfSecondaryCapture")
        first, second = read(one), read(other)
        for dataset in (first, second):
            for item in dataset.ContributingEquipmentSequence:
                item.ContributionDateTime = None
            for keyword in dates:
                if keyword in dataset:
                    del dataset[keyword]
        for item in (first, second):
            walk_away_dates(item)
        assert first == second


def walk_away_dates(dataset):
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "ObservationDateTime" in item:
                    del item.ObservationDateTime
                walk_away_dates(item)


def test_revision_lands_in_the_same_series_with_a_later_instance(sources):
    first = brain(sources)
    second = brain(sources, revision=2, predecessors=predecessors_of(first))
    for one, other in zip(first.objects, second.objects, strict=True):
        assert one.series_uid == other.series_uid
        assert one.sop_uid != other.sop_uid
        assert (read(one).InstanceNumber, read(other).InstanceNumber) == (1, 2)


def test_lesion_found_again_keeps_its_tracking_and_a_new_one_gets_its_own(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    first = brain(sources, labels)
    # The numbers change places, one lesion shrinks, and a third appears.
    again = np.where(labels == 1, 2, np.where(labels == 2, 1, 0)).astype(np.uint16)
    again[:, :10][again[:, :10] == 2] = 0
    again[6:, 2:6, 30:36] = 3
    second = brain(sources, again, revision=2, predecessors=predecessors_of(first))
    old = [lesion["tracking_uid"] for lesion in first.findings["lesions"]]
    new = [lesion["tracking_uid"] for lesion in second.findings["lesions"]]
    assert new[:2] == old[::-1]
    assert new[2] not in old
    seg = read(second.objects[0])
    assert [segment.TrackingUID for segment in seg.SegmentSequence] == new


def test_earlier_lesion_that_fell_apart_passes_its_tracking_on_once(sources):
    source = sources.series(sources.stack())
    whole = np.zeros(source.volume.shape, np.uint16)
    whole[2:5, 10:30, 10:20] = 1
    parts = whole.copy()
    parts[:, 20:22] = 0
    parts[:, 22:][parts[:, 22:] == 1] = 2
    first = brain(sources, whole)
    second = brain(sources, parts, revision=2, predecessors=predecessors_of(first))
    (old,) = (lesion["tracking_uid"] for lesion in first.findings["lesions"])
    new = [lesion["tracking_uid"] for lesion in second.findings["lesions"]]
    assert new[0] == old
    assert new[1] != old


def test_findings_of_a_volume_are_its_measures(sources):
    found = brain(sources)
    json.dumps(found.findings)
    assert found.findings["series_uid"] == "1.2.826.0.1.3680043.8.1.2"
    assert found.findings["headline"].startswith("2 lesions · ")
    lesion = found.findings["lesions"][0]
    assert set(lesion) == {
        "number",
        "volume_ml",
        "long_axis_mm",
        "short_axis_mm",
        "score",
        "tracking_uid",
        "key_sop_uid",
        "key_frame",
    }
    assert lesion["key_frame"] is None


def test_study_is_urgent_by_volume_or_by_class_as_the_package_says(sources):
    source = sources.series(sources.stack())
    package = sources.package_of("brain-flair-lesion")
    limited = package.manifest.findings.model_copy(update={"urgent_ml": 1.0})
    strict = replace(package, manifest=package.manifest.model_copy(update={"findings": limited}))
    options = {"node": NodeSettings(), "revision": 1, "job_created_at": sources.created}
    prediction = sources.prediction_of(sources.lesion_labels(source))
    assert build_result_set([source], [prediction], strict, **options).findings["urgent"]
    small = sources.prediction_of(np.zeros(source.volume.shape, np.uint16))
    assert not build_result_set([source], [small], strict, **options).findings["urgent"]
    for scores, name in ((BENIGN, "benign"), (MALIGNANT, "malignant")):
        (image,) = breast_images(sources, 1)
        told = sources.prediction_of(sources.lesion_labels(image), name, scores)
        found = build(sources, [image], [told], "breast-us-lesion")
        assert found.findings["urgent"] == (name == "malignant")
        assert found.findings["headline"].startswith(f"{name} ")


def test_images_of_a_study_share_a_report_and_the_most_suspicious_one_decides(sources):
    images = breast_images(sources, 3)
    labels = [sources.lesion_labels(image) for image in images]
    predictions = [
        sources.prediction_of(labels[0], "benign", BENIGN),
        sources.prediction_of(labels[1] * 0, "malignant", MALIGNANT),
        sources.prediction_of((labels[2] == 1).astype(np.uint16), "benign", BENIGN),
    ]
    found = build(sources, images, predictions, "breast-us-lesion")
    assert [one.kind for one in found.objects] == ["SEG", "SEG", "SR", "SC"]
    segs = [read(one) for one in found.objects[:2]]
    assert len({seg.SeriesInstanceUID for seg in segs}) == 2
    assert [len(seg.SegmentSequence) for seg in segs] == [2, 1]
    assert found.findings["class"] == "malignant"
    assert [lesion["number"] for lesion in found.findings["lesions"]] == [1, 2, 3]
    assert [segment.TrackingID for seg in segs for segment in seg.SegmentSequence] == [
        "lesion 1",
        "lesion 2",
        "lesion 3",
    ]
    picture = read(found.objects[3])
    (shown,) = picture.SourceImageSequence
    assert shown.ReferencedSOPInstanceUID == images[1].frames[0].sop_uid
    assert picture.Laterality == "R"


def test_image_that_cannot_be_cited_is_named_and_the_others_are_reported(sources):
    images = breast_images(sources, 2)
    sources.put([images[0].headers[0]], "StudyInstanceUID", None)
    labels = [sources.lesion_labels(image) for image in images]
    predictions = [sources.prediction_of(one, "benign", BENIGN) for one in labels]
    found = build(sources, images, predictions, "breast-us-lesion")
    assert any("left out" in note and "StudyInstanceUID" in note for note in found.findings["notes"])
    assert len(found.findings["lesions"]) == 2


def test_source_that_cannot_be_cited_is_refused(sources, refused_name):
    make, code = sources.refused[refused_name]
    source = sources.series(make())
    found = build(sources, [source], [sources.prediction_of(sources.lesion_labels(source))])
    assert isinstance(found, Refusal)
    assert found.code == code


def test_not_analysed_report_cites_what_it_can(sources):
    headers = [sources.header(index=0), sources.put([sources.header(index=1)], "SOPInstanceUID", "")[0]]
    options = {"node": NodeSettings(), "revision": 1, "job_created_at": sources.created, "package": None}
    refusal = refuse("NO-PACKAGE")
    found = build_not_analysed_set(headers, refusal, **options)
    assert [one.kind for one in found.objects] == ["SR"]
    assert found.findings == {}
    assert build_not_analysed_set(headers[1:], refusal, **options).code == "MISSING-UID"


@pytest.mark.parametrize("sr_class", ["comprehensive-3d", "comprehensive", "enhanced"])
def test_report_has_the_class_the_archive_takes(sources, sr_class):
    classes = {"comprehensive-3d": "34", "comprehensive": "33", "enhanced": "22"}
    report = brain(sources, sr_class=sr_class).objects[1]
    assert report.sop_class.endswith(f".88.{classes[sr_class]}")
