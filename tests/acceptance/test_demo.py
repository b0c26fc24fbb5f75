"""`preread demo`, whole: every line of its JSON, the kept objects, and folders full of other things."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from config.identity import is_own_uid
from preread.demo.phantom_dicom import demo_studies
from preread.demo.phantom_study import GeneratedStudy, part10
from preread.owned import house

SEED = 45
KEYS = {
    *("study_uid", "outcome", "reason", "message", "model", "series_uid", "results", "findings", "seconds"),
}
SOP_CLASSES = {
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "SR": "1.2.840.10008.5.1.4.1.1.88.34",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
}

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Said:
    """What a demo printed."""

    code: int
    lines: list[dict[str, Any]]
    errors: str


def demo(*arguments: str | Path) -> Said:
    clean = {name: value for name, value in os.environ.items() if name != "PREREAD_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-m", "preread", "demo", "--json", *(str(part) for part in arguments)],
        cwd=house(),
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return Said(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


@pytest.fixture(scope="module")
def generated() -> list[GeneratedStudy]:
    return demo_studies(SEED)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def said(out: Path) -> Said:
    return demo("--seed", str(SEED), "--out", out)


def test_the_demo_succeeds_with_one_line_for_each_study(said: Said, generated: list[GeneratedStudy]) -> None:
    assert said.code == 0, said.errors
    assert [line["study_uid"] for line in said.lines] == [study.study_uid for study in generated]


def test_each_study_ends_as_its_truth_demands(said: Said, generated: list[GeneratedStudy]) -> None:
    for line, study in zip(said.lines, generated, strict=True):
        expected = study.expected
        ended = (line["outcome"], line["reason"], line["model"])
        assert ended == (expected.outcome, expected.reason, expected.model), study.description


def test_each_line_has_the_documented_names(said: Said) -> None:
    for line in said.lines:
        assert line.keys() == KEYS
        assert line["findings"].keys() == {"lesions", "class", "scores"}
        assert line["message"]
        assert line["seconds"] >= 0


def test_lesions_and_classes_are_found(said: Said, generated: list[GeneratedStudy]) -> None:
    for line, study in zip(said.lines, generated, strict=True):
        findings = line["findings"]
        if study.expected.outcome == "not_analysed":
            assert findings == {"lesions": [], "class": None, "scores": {}}
            continue
        assert findings["class"] == study.expected.class_name, study.description
        assert bool(findings["lesions"]) == bool(study.expected.lesions), study.description
        for lesion in findings["lesions"]:
            assert 0 <= lesion["score"] <= 1
            assert len({"volume_ml", "area_mm2", "area_px"} & lesion.keys()) == 1
            assert "long_axis_mm" in lesion


def test_the_results_are_kept_under_names_of_ours(said: Said, out: Path) -> None:
    for line in said.lines:
        for kind, place in line["results"].items():
            path = Path(place)
            assert path.is_relative_to(out)
            header = dcmread(path, stop_before_pixels=True)
            assert header.SOPClassUID == SOP_CLASSES[kind]
            assert header.StudyInstanceUID == line["study_uid"]
            assert path.name == f"{kind}-{header.SOPInstanceUID}.dcm"
            assert is_own_uid(header.SOPInstanceUID)
            assert line["study_uid"] not in place
    delivered = [line for line in said.lines if line["outcome"] == "delivered"]
    assert delivered
    assert all({"SR", "SC"} <= line["results"].keys() for line in delivered)
    assert all("SEG" in line["results"] for line in delivered if line["findings"]["lesions"])


def test_the_truth_table_stands_on_standard_error(said: Said) -> None:
    for word in ("What was there and what was found", "found", "refused: MISSING-SLICE", "Dice"):
        assert word in said.errors
    assert "✗" not in said.errors


def test_other_studies_and_other_files(generated: list[GeneratedStudy], tmp_path: Path) -> None:
    breast, ct = (next(s for s in generated if s.kind == kind) for kind in ("breast", "ct"))
    folder = tmp_path / "studies"
    (folder / "deep" / "down").mkdir(parents=True)
    (folder / "deep" / "down" / "image").write_bytes(part10(breast.datasets[0]))
    with zipfile.ZipFile(folder / "ct.zip", "w") as archive:
        for number, dataset in enumerate(ct.datasets):
            archive.writestr(f"CT/{number}.dcm", part10(dataset))
    (folder / "README.md").write_text("No image.\n")
    anonymous = dcmread(folder / "deep" / "down" / "image")
    anonymous.StudyInstanceUID = ""
    anonymous.save_as(folder / "no-study.dcm")

    said = demo("--studies", folder)

    assert said.code == 0, said.errors
    ended = {line["study_uid"]: line["outcome"] for line in said.lines}
    assert ended == {breast.study_uid: "delivered", ct.study_uid: "not_analysed"}
    [wanted_by_none] = [line for line in said.lines if line["study_uid"] == ct.study_uid]
    assert (wanted_by_none["model"], wanted_by_none["reason"]) == (None, "NO-MODEL")
    [delivered] = [line for line in said.lines if line["study_uid"] == breast.study_uid]
    assert set(delivered["results"].values()) == {None}, "nothing is kept without --out"
    assert "README.md: not sent: it is not DICOM" in said.errors
    assert "no-study.dcm: not sent: it has no StudyInstanceUID" in said.errors


@pytest.mark.parametrize(
    ("last_line", "number"),
    [("starting the services", signal.SIGTERM), ("making the studies", signal.SIGINT)],
)
def test_a_demo_that_is_told_to_stop_leaves_nothing_behind(
    tmp_path: Path, last_line: str, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "preread", "demo"],
        cwd=house(),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        assert last_line in iter(lambda: process.stderr.readline().rstrip(), "")
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()  # until it has ended
    assert process.wait() != 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_studies_is_a_failure_that_names_every_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("No image.\n")
    said = demo("--studies", tmp_path)
    assert (said.code, said.lines) == (1, [])
    assert "notes.txt: not sent: it is not DICOM" in said.errors
    assert "No DICOM study was found" in said.errors
