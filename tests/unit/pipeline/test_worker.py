"""A worker with its analyst process: jobs end, limits hold, and what is given up is given back."""

import hashlib
import os
import signal
import struct
import threading

import pytest
from pipeline_node import (
    BRAIN,
    TEST_BRAIN,
    TEST_BREAST,
    breast_image,
    file_dataset,
    flair_slices,
    make_node,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from db.engine import Database
from db.instances import ByteStore
from db.requests import cancel
from db.starting_early import queue_early_plan
from db.worklist import study as study_view
from pipeline import worker as worker_module
from pipeline.worker import run_worker
from pipeline.write_results import EARLY_NOTE, PARTIAL_NOTE

J2K = "1.2.840.10008.1.2.4.90"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, packages, _sqlite_template):
    """Many studies read by one worker, once."""
    import shutil

    folder = tmp_path_factory.mktemp("worker")
    (folder / "state").mkdir()
    shutil.copy(_sqlite_template, folder / "state" / "preread.db")
    node = make_node(folder, f"sqlite:///{folder / 'state' / 'preread.db'}", package_folder=packages)
    node.receive(flair_slices("1.2.1"))
    node.receive([breast_image("1.2.2")])
    ct = flair_slices("1.2.3")
    for image in ct:
        image.Modality, image.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
    node.receive(ct)
    gap = flair_slices("1.2.4")
    del gap[3]
    node.receive(gap)
    node.receive([bomb("1.2.5")])
    node.receive([breast_image("1.2.6")], partial=True)
    assert run_worker(node.settings, name="w", once=True) == 0
    yield node
    node.close()


def bomb(study_uid: str) -> tuple[bytes, str]:
    """A breast image whose code stream claims 60000 x 60000 pixels under a modest header."""
    from pipeline_node import encoded

    image = breast_image(study_uid)
    stream = b"\xff\x4f\xff\x51" + struct.pack(">HH8L", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0)
    image.PixelData = encapsulate([stream + struct.pack(">H3B", 1, 7, 1, 1)])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    return encoded(image, J2K), J2K


def test_study_is_read_and_its_results_are_kept_when_nobody_gets_them(finished):
    view = finished.view("1.2.1")
    assert (view.study.state, view.study.outcome) == ("done", "delivered")
    (analysis,) = [job for job in view.jobs if job.kind == "analyse"]
    assert (analysis.model, analysis.outcome) == (TEST_BRAIN, "analysed")
    assert analysis.findings["lesions"]
    assert {result.kind for result in view.results} == {"SEG", "SR", "SC"}


def test_stored_results_are_the_bytes_their_rows_promise(finished):
    stored = ByteStore(finished.settings.spool_folder)
    for result in finished.view("1.2.1").results:
        part10 = stored.read(result.location)
        assert len(part10) == result.bytes
        assert hashlib.sha256(part10).hexdigest() == result.sha256
        assert result.location.store == "results-0"


def test_results_of_a_study_closed_as_partial_say_so_and_no_others(finished):
    store = ByteStore(finished.settings.spool_folder)
    for study_uid, is_partial in (("1.2.6", True), ("1.2.2", False)):
        view = finished.view(study_uid)
        (job,) = [job for job in view.jobs if job.kind == "analyse"]
        assert (PARTIAL_NOTE in job.findings["notes"]) is is_partial
        (report,) = [result for result in view.results if result.kind == "SR"]
        assert (PARTIAL_NOTE.encode() in store.read(report.location)) is is_partial


def test_each_model_reads_what_is_meant_for_it(finished):
    (analysis,) = [job for job in finished.view("1.2.2").jobs if job.kind == "analyse"]
    assert analysis.model == TEST_BREAST
    assert analysis.findings["class"] in ("benign", "malignant", "normal")


def test_study_no_model_wants_ends_as_not_analysed_with_its_reason(finished):
    view = finished.view("1.2.3")
    assert (view.study.outcome, view.study.reason_code) == ("not_analysed", "NO-MODEL")
    assert {s.code for s in view.selections} == {"WRONG-MODALITY"}
    assert view.results == ()


def test_study_with_a_missing_slice_ends_as_not_analysed_by_the_model_that_wanted_it(finished):
    view = finished.view("1.2.4")
    assert (view.study.outcome, view.study.reason_code) == ("not_analysed", "MISSING-SLICE")
    assert [job.model for job in view.jobs if job.kind == "analyse"] == [TEST_BRAIN]


def test_image_that_claims_gigabytes_costs_one_refusal_and_not_the_worker(finished):
    view = finished.view("1.2.5")
    assert (view.study.outcome, view.study.reason_code) == ("not_analysed", "PIXELS-TOO-LARGE")


def test_whole_series_is_read_while_its_study_receives_and_not_again_unless_another_is_preferred(node):
    def receive_and_work(*datasets, closes):
        node.receive([image for images in datasets for image in images], closes=closes)
        if not closes:
            for study_uid in ("1.2.1", "1.2.2"):
                series_uid = f"{study_uid}.1"
                study_id = node.view(study_uid).study.id
                told = {"because": "its step ended", "source": "mpps"}
                assert queue_early_plan(node.database, study_id, 1, series_uid, whole={series_uid: 5}, **told)
        assert run_worker(node.settings, name="w", once=True) == 0

    short = [flair_slices(study_uid)[:5] for study_uid in ("1.2.1", "1.2.2")]
    receive_and_work(*short, closes=False)
    for study_uid in ("1.2.1", "1.2.2"):
        view = node.view(study_uid)
        (job,) = [job for job in view.jobs if job.kind == "analyse"]
        assert (view.study.state, job.outcome) == ("receiving", "analysed")
        assert job.findings["notes"].count(EARLY_NOTE) == 1
        assert {result.kind for result in view.results} == {"SEG", "SR", "SC"}
    # Seven slices are preferred to five; T1 is not wanted.
    receive_and_work(flair_slices("1.2.1", series=2), closes=True)
    receive_and_work(flair_slices("1.2.2", series=2, description="AX T1"), closes=True)
    anew, stood = node.view("1.2.1"), node.view("1.2.2")
    assert [job.revision for job in anew.jobs if job.kind == "analyse"] == [1, 2]
    assert [job.revision for job in stood.jobs if job.kind == "analyse"] == [1]
    assert [view.study.outcome for view in (anew, stood)] == ["delivered", "delivered"]
    (before, report) = [result for result in anew.results if result.kind == "SR"]
    assert report.predecessor_sop_uid == before.sop_uid
    (again,) = [job for job in anew.jobs if job.kind == "analyse" and job.revision == 2]
    assert EARLY_NOTE not in again.findings["notes"]
    assert again.parameters == {"series": ["1.2.1.2"]}


def test_job_over_its_time_is_failed_with_the_remedy(tmp_path, sqlite_url, packages):
    limits = {"device": "cpu", "threads": 1, "job_seconds_max": 0.001, "poll_seconds": 0.1}
    node = make_node(tmp_path, sqlite_url, package_folder=packages, worker=limits)
    node.receive(flair_slices("1.2.1"))
    assert run_worker(node.settings, name="w", once=True) == 0
    (job,) = node.view("1.2.1").jobs
    assert job.state in ("queued", "failed")
    assert "longer than 0.001 s" in job.error
    assert "job_seconds_max" in job.remedy
    node.close()


def test_job_beyond_the_memory_limit_costs_one_attempt_of_that_job(tmp_path, sqlite_url, packages):
    limits = {"device": "cpu", "threads": 1, "memory_gib": 0.75, "poll_seconds": 0.1}
    node = make_node(tmp_path, sqlite_url, package_folder=packages, worker=limits)
    image = breast_image("1.2.1")
    # Small enough to be let in, too large to be rescaled beside the libraries.
    image.Rows = image.Columns = 4900
    image.PixelData = bytes(4900 * 4900)
    node.receive([image])
    node.receive([breast_image("1.2.2")])
    assert run_worker(node.settings, name="w", once=True) == 0
    (failed,) = [job for job in node.view("1.2.1").jobs if job.kind == "analyse"]
    assert failed.state in ("queued", "failed")  # by how often it was tried in the meantime
    assert "out of memory while reading (limit 0.75 GiB)" in failed.error
    assert "memory_gib" in failed.remedy
    assert node.view("1.2.2").study.outcome == "delivered"
    node.close()


def test_package_that_cannot_be_tried_does_not_run_and_the_study_says_so(tmp_path, sqlite_url, packages):
    limits = {"device": "cpu", "threads": 1, "memory_gib": 0.51, "poll_seconds": 0.1}
    node = make_node(tmp_path, sqlite_url, package_folder=packages, worker=limits)
    node.receive(flair_slices("1.2.1"))
    assert run_worker(node.settings, name="w", once=True) == 0
    assert node.view("1.2.1").study.reason_code in ("NO-MODEL", "NO-PACKAGE")
    node.close()


def while_job_runs(url, act):
    """Call `act(database, job_id)` in a thread as soon as an analysis is under way."""

    def watch():
        database = Database.open(url)
        try:
            while True:
                view = study_view(database, "1.2.1")
                if view.study.state == "done":
                    return  # too late: the test says so
                running = [job for job in view.jobs if job.kind == "analyse" and job.state == "running"]
                if running and running[0].stage is not None:
                    act(database, running[0].id)
                    return
                database.wait_for("jobs", 0.01)
        finally:
            database.close()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_worker_told_to_stop_gives_its_job_back_without_counting_the_attempt(node, monkeypatch):
    monkeypatch.setattr(worker_module, "GRACE_SECONDS", 0.0)
    node.receive(flair_slices("1.2.1"))
    stopper = while_job_runs(node.settings.database_url, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert run_worker(node.settings, name="w") == 0
    stopper.join()
    (analysis,) = [job for job in node.view("1.2.1").jobs if job.kind == "analyse"]
    assert (analysis.state, analysis.attempts, analysis.worker) == ("queued", 0, None)
    assert node.view("1.2.1").results == ()


def test_result_of_a_cancelled_job_is_dropped(node):
    node.receive(flair_slices("1.2.1"))
    canceller = while_job_runs(node.settings.database_url, lambda db, job: cancel(db, job))
    assert run_worker(node.settings, name="w", once=True) == 0
    canceller.join()
    view = node.view("1.2.1")
    assert [job.state for job in view.jobs] == ["done", "cancelled"]
    assert view.results == ()


def test_late_image_makes_a_second_result_set_that_names_the_first(node):
    slices = flair_slices("1.2.1")
    node.receive(slices[:6])
    run_worker(node.settings, name="w", once=True)
    node.receive(slices[6:])
    run_worker(node.settings, name="w", once=True)
    view = node.view("1.2.1")
    assert view.study.revision == 2
    first = {r.kind: r for r in view.results if r.revision == 1}
    second = {r.kind: r for r in view.results if r.revision == 2}
    assert second["SR"].predecessor_sop_uid == first["SR"].sop_uid
    assert second["SR"].series_uid == first["SR"].series_uid
    assert second["SR"].sop_uid != first["SR"].sop_uid


def test_tampered_package_does_not_run_and_the_study_says_so(tmp_path, sqlite_url, packages):
    import shutil

    copies = tmp_path / "packages"
    shutil.copytree(packages / BRAIN, copies / BRAIN)
    node = make_node(tmp_path, sqlite_url, package_folder=copies)
    with (copies / BRAIN / "weights.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x7f")
    node.receive(flair_slices("1.2.1"))
    run_worker(node.settings, name="w", once=True)
    assert node.view("1.2.1").study.reason_code in ("NO-PACKAGE", "NO-MODEL")
    node.close()


def test_awkward_files_all_end_with_an_outcome(tmp_path, sqlite_url, packages, odd_files):
    node = make_node(tmp_path, sqlite_url, package_folder=packages)
    studies = node.receive(odd_files)
    assert len(studies) > 40
    assert run_worker(node.settings, name="w", once=True) == 0
    for study_uid in studies:
        study = node.view(study_uid).study
        assert (study.state, study.outcome) in (("done", "not_analysed"), ("done", "delivered")), study_uid
        assert study.outcome == "delivered" or study.reason_code
    node.close()


@pytest.fixture
def odd_files(odd_folder):
    """Awkward files as far as a listener would take them: with the UIDs that a C-STORE needs."""
    from pipeline.reading.headers import read_header

    taken, seen = [], set()
    for path in sorted(odd_folder.glob("*/*")):
        if path.read_bytes()[128:132] != b"DICM":
            continue
        try:
            raw, syntax = file_dataset(path)
        except AttributeError:
            continue
        header = read_header(raw, syntax, sop_uid="?")
        keywords = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        if isinstance(header, Dataset) and all(header.get(k) for k in keywords):
            uid = (header.StudyInstanceUID, header.SOPInstanceUID)
            if uid not in seen:
                seen.add(uid)
                taken.append((raw, syntax))
    return taken
