"""The main job between strangers: DCMTK sends, our services read, and a real Orthanc gets the results."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from orthanc_process import ORTHANC_AE, Orthanc, need_installed, running_orthanc
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.identity import is_own_uid
from db.views import StudyView
from db.worklist import study as study_view
from preread.demo.masks import segments_of
from preread.demo.node import DemoNode
from preread.demo.phantom_dicom import demo_studies
from preread.demo.phantom_study import GeneratedStudy, part10
from preread.demo.retrieve import retrieve
from preread.demo.truth_table import Truth, judge
from preread.owned import house

READER_AE = "READER"
OUTCOME_SECONDS = 240.0
SEG, SR, SC = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.7",
)


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def _peers() -> None:
    need_installed("Orthanc", "storescu", "findscu", "dciodvfy")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), may_ask=[READER_AE]) as archive:
        yield archive


@pytest.fixture(scope="module")
def studies() -> list[GeneratedStudy]:
    """A brain with lesions and a breast with a lesion."""
    found = [one for one in demo_studies(45) if one.expected.outcome == "delivered" and one.expected.lesions]
    return [next(one for one in found if one.kind == kind) for kind in ("brain", "breast")]


@dataclass(frozen=True)
class Finished:
    """The studies after the services were done with them, and the archive that holds everything."""

    views: Sequence[StudyView]
    studies: Sequence[GeneratedStudy]
    orthanc: Orthanc


@pytest.fixture(scope="module")
def finished(
    orthanc: Orthanc, studies: list[GeneratedStudy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("studies")
    for number, study in enumerate(studies):
        for index, dataset in enumerate(study.datasets):
            (folder / f"{number}-{index:03d}.dcm").write_bytes(part10(dataset))
    run("storescu", "-R", "+sd", "-aec", ORTHANC_AE, "127.0.0.1", str(orthanc.dicom_port), folder)
    pacs = {"name": "pacs", "ae_title": ORTHANC_AE, "host": "127.0.0.1", "port": orthanc.dicom_port}
    tree = {"peers": [pacs], "listener": {"quiet_seconds": 2, "reserve_gib": 0.2}}
    with DemoNode(tree, tmp_path_factory.mktemp("node")) as node:
        # As the PACS itself would push them: under its AE title, so that results return to it.
        to = ("127.0.0.1", str(node.address().port))
        run("storescu", "-R", "+sd", "-aet", ORTHANC_AE, "-aec", node.address().ae_title, *to, folder)
        with closing(node.open_database()) as database:
            until = time.monotonic() + OUTCOME_SECONDS
            views: list[StudyView] = []
            while len(views) < len(studies):
                node.check_alive()
                seen = [study_view(database, study.study_uid) for study in studies]
                views = [view for view in seen if view is not None and view.study.state == "done"]
                assert time.monotonic() < until, f"no outcome: {[v and v.study.state for v in seen]}"
                time.sleep(0.2)
        yield Finished(views, studies, orthanc)


def results_in(orthanc: Orthanc, study_uid: str, folder: Path) -> dict[str, list[Path]]:
    """Files of our results as Orthanc gives them back by REST, by SOP class."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}, "Expand": False}
    found: dict[str, list[Path]] = {}
    for instance in orthanc.rest("/tools/find", query):
        path = folder / f"{instance}.dcm"
        path.write_bytes(orthanc.raw(f"/instances/{instance}/file"))
        header = dcmread(path, stop_before_pixels=True)
        if is_own_uid(header.SOPInstanceUID):
            found.setdefault(str(header.SOPClassUID), []).append(path)
    return found


def test_every_study_is_delivered(finished: Finished) -> None:
    ended = [(view.study.outcome, view.study.reason) for view in finished.views]
    assert [outcome for outcome, _ in ended] == ["delivered", "delivered"], ended


def test_segmentation_report_and_picture_stand_in_orthanc(finished: Finished, tmp_path: Path) -> None:
    for study in finished.studies:
        found = results_in(finished.orthanc, study.study_uid, tmp_path)
        assert {kind: len(paths) for kind, paths in found.items()} == {SEG: 1, SR: 1, SC: 1}


def test_orthanc_gives_back_what_was_sent(finished: Finished, tmp_path: Path) -> None:
    for view in finished.views:
        kept: dict[str, bytes] = {}
        problem = retrieve(
            view.study.study_uid,
            view.results,
            archive=finished.orthanc.address,
            calling_ae=READER_AE,
            keep=kept.__setitem__,
        )
        assert problem is None
        assert kept.keys() == {result.sop_uid for result in view.results}
        for content in kept.values():
            (tmp_path / "one.dcm").write_bytes(content)
            assert dcmread(tmp_path / "one.dcm").StudyInstanceUID == view.study.study_uid


def test_the_results_are_valid_objects(finished: Finished, tmp_path: Path) -> None:
    for study in finished.studies:
        for paths in results_in(finished.orthanc, study.study_uid, tmp_path).values():
            for path in paths:
                checked = subprocess.run(
                    ["dciodvfy", "-new", path], capture_output=True, text=True, check=False
                )
                said = (checked.stdout + checked.stderr).splitlines()
                assert [line for line in said if line.startswith("Error")] == []


def test_the_results_are_found_by_c_find_as_series_of_the_study(finished: Finished) -> None:
    for study in finished.studies:
        keys = [
            part
            for key in (f"StudyInstanceUID={study.study_uid}", "SeriesInstanceUID", "Modality")
            for part in ("-k", key)
        ]
        call = ("findscu", "-S", "-aet", READER_AE, "-aec", ORTHANC_AE)
        said = run(
            *call, "127.0.0.1", str(finished.orthanc.dicom_port), "-k", "QueryRetrieveLevel=SERIES", *keys
        )
        modalities = {
            line.split("[")[1].split("]")[0].strip() for line in said.splitlines() if "Modality" in line
        }
        assert {"SEG", "SR"} <= modalities


def test_the_results_belong_to_patient_and_study_of_the_images(finished: Finished, tmp_path: Path) -> None:
    same = ("PatientID", "PatientName", "PatientBirthDate", "StudyDate", "AccessionNumber", "StudyID")
    for study in finished.studies:
        source: Dataset = study.datasets[0]
        for paths in results_in(finished.orthanc, study.study_uid, tmp_path).values():
            for path in paths:
                header = dcmread(path, stop_before_pixels=True)
                assert [str(header.get(k, "")) for k in same] == [str(source.get(k, "")) for k in same]
                assert header.SeriesInstanceUID not in {d.SeriesInstanceUID for d in study.datasets}


def test_the_lesions_are_found_where_they_are(finished: Finished, tmp_path: Path) -> None:
    for study in finished.studies:
        found = results_in(finished.orthanc, study.study_uid, tmp_path)
        truth = Truth(study.description, study.labels)
        verdict = judge(truth, segments_of(found[SEG]), outcome="delivered", reason=None, class_name=None)
        assert verdict.found == verdict.lesions == study.expected.lesions
        assert verdict.dice is not None
        assert verdict.dice > 0.5


def test_the_demo_delivers_to_a_real_archive(orthanc: Orthanc, tmp_path: Path) -> None:
    study = next(one for one in demo_studies(45) if one.expected.class_name == "malignant")
    folder, out = tmp_path / "studies", tmp_path / "out"
    folder.mkdir()
    (folder / "image.dcm").write_bytes(part10(study.datasets[0]))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "preread", "demo", "--json"),
            *("--studies", folder, "--archive", str(orthanc.address), "--out", out),
        ],
        cwd=house(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["outcome"] == "delivered"
    # This Orthanc lets only READER retrieve: the demo says so and keeps what was sent.
    assert "did not give back the results" in done.stderr
    (tmp_path / "there").mkdir()
    there = results_in(orthanc, study.study_uid, tmp_path / "there")
    sent = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in line["results"].values()}
    stored = {dcmread(p, stop_before_pixels=True).SOPInstanceUID for paths in there.values() for p in paths}
    assert sent == stored
    assert there.keys() == {SEG, SR, SC}
