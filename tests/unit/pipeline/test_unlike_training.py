"""Studies unlike what their model was trained on: far ends as not analysed, near is said everywhere."""

import json
import shutil
from io import BytesIO

import numpy as np
import pytest
from generated_inputs import OTHERS, breast_cases, breast_like
from pipeline_node import BREAST, TEST_BREAST, breast_image, make_node, put_pixels
from pipeline_packages import write_package
from pydicom import dcmread

from db.instances import ByteStore
from db.worklist import studies
from models.ood.making import add_ood
from models.package import load_package
from pipeline.results.words import UNUSUAL_WORDS
from pipeline.worker import run_worker

FAR, USUAL, MIXED, NEAR = "1.2.11", "1.2.12", "1.2.13", "1.2.14"


def showing(study_uid, volume, number=1):
    """What its header calls an ultrasound image of the breast, with other pixels."""
    image = breast_image(study_uid, sop_uid=f"{study_uid}.1.{number}")
    image.InstanceNumber = number
    put_pixels(image, volume.array[0])
    return image


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A package that knows its cases."""
    bare = write_package(tmp_path_factory.mktemp("bare") / BREAST, BREAST)
    files = tmp_path_factory.mktemp("cases")
    for case in breast_cases(24):
        np.savez(files / f"{case.name}.npz", image=case.volume.array, mask=case.mask)
    folder = tmp_path_factory.mktemp("taught") / BREAST
    return add_ood(bare, files, folder, version=None, released="2026-11-22")[0]


def read_by_a_worker(tmp_path_factory, template, folder, studies_of):
    """What one worker makes of studies."""
    place = tmp_path_factory.mktemp("node")
    (place / "state").mkdir()
    shutil.copy(template, place / "state" / "preread.db")
    node = make_node(
        place,
        f"sqlite:///{place / 'state' / 'preread.db'}",
        package_folder=folder,
        results={"not_analysed_report": True},
    )
    for images in studies_of:
        node.receive(images)
    assert run_worker(node.settings, name="w", once=True) == 0
    return node


@pytest.fixture(scope="module")
def finished(tmp_path_factory, taught, _sqlite_template):
    trunks = [showing(MIXED, OTHERS["trunk"](seed), seed) for seed in (2, 3)]
    node = read_by_a_worker(
        tmp_path_factory,
        _sqlite_template,
        taught.folder.parent,
        [
            [showing(FAR, OTHERS["trunk"](1))],
            [showing(USUAL, breast_like(2))],
            [showing(MIXED, breast_like(3), 1), *trunks],
        ],
    )
    yield node
    node.close()


@pytest.fixture(scope="module")
def flagged(tmp_path_factory, taught, _sqlite_template):
    """As `finished`, by the same package with limits that leave everything near."""
    folder = shutil.copytree(taught.folder, tmp_path_factory.mktemp("near") / BREAST)
    content = json.loads((folder / "model.json").read_text())
    content["ood"]["limits"] = {"near": 1e-6, "far": 1e5}
    (folder / "model.json").write_text(json.dumps(content))
    load_package(folder)
    node = read_by_a_worker(
        tmp_path_factory, _sqlite_template, folder.parent, [[showing(NEAR, breast_like(4))]]
    )
    yield node
    node.close()


def job_of(node, study_uid):
    (job,) = [job for job in node.view(study_uid).jobs if job.kind == "analyse"]
    return job


def report_of(node, study_uid):
    (record,) = [result for result in node.view(study_uid).results if result.kind == "SR"]
    return dcmread(BytesIO(ByteStore(node.settings.spool_folder).read(record.location)))


def walk(item):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def texts(report):
    """Every text of a report."""
    return "\n".join(item.TextValue for item in walk(report) if "TextValue" in item)


def coded(report):
    """(name, value) of every coded evaluation."""
    return {
        (item.ConceptNameCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeValue)
        for item in walk(report)
        if item.get("ConceptCodeSequence") and item.get("ConceptNameCodeSequence")
    }


def test_far_study_ends_as_not_analysed_with_its_reason(finished):
    view = finished.view(FAR)
    assert (view.study.state, view.study.outcome) == ("done", "not_analysed")
    assert job_of(finished, FAR).reason_code == "UNLIKE-TRAINING"
    assert TEST_BREAST in job_of(finished, FAR).reason
    assert {result.kind for result in view.results} == {"SR"}


def test_report_of_a_far_study_says_the_coded_reason_and_no_finding(finished):
    report = report_of(finished, FAR)
    assert ("REASON", "UNLIKE-TRAINING") in coded(report)
    assert report.CompletionFlag == "PARTIAL"


def test_usual_study_is_analysed_and_its_report_says_that_it_was_looked_at(finished):
    assert finished.view(USUAL).study.outcome == "delivered"
    assert ("LIKENESS", "USUAL") in coded(report_of(finished, USUAL))
    assert UNUSUAL_WORDS not in job_of(finished, USUAL).findings["headline"]
    assert job_of(finished, USUAL).findings["unusual"] is False


def test_far_images_of_a_study_are_left_out_and_counted_not_passed_over_in_silence(finished):
    job = job_of(finished, MIXED)
    assert job.outcome == "analysed"
    assert any(note.startswith("2 of 3 images were left out") for note in job.findings["notes"])
    assert "2 of 3 images were left out" in texts(report_of(finished, MIXED))


def test_near_study_is_analysed_and_flagged_in_report_headline_and_notes(flagged):
    job = job_of(flagged, NEAR)
    assert job.outcome == "analysed"
    assert job.findings["unusual"] is True
    assert job.findings["headline"].endswith(UNUSUAL_WORDS)
    assert any("read with caution" in note for note in job.findings["notes"])
    report = report_of(flagged, NEAR)
    assert ("LIKENESS", "UNUSUAL") in coded(report)
    assert "Unlike the cases the model was trained on" in texts(report)


def test_worklist_line_of_a_near_study_is_flagged(flagged):
    (row,) = studies(flagged.database)
    assert row.headline.endswith(UNUSUAL_WORDS)
