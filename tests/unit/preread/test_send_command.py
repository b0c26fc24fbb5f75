"""`preread send` pushes what lies below a folder and tells what it could not send."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from preread.demo.archive import EmbeddedArchive
from preread.owned import house


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = generate_uid(), generate_uid(), "MR"
    (tmp_path / "studies").mkdir()
    image.save_as(tmp_path / "studies" / "one.dcm", enforce_file_format=True)
    return tmp_path / "studies"


def send(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREREAD_")}
    command = [sys.executable, "-m", "preread", "send", str(folder), *arguments]
    environment = {**clean, "PYTHONPATH": str(house())}
    return subprocess.run(
        command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_a_study_reaches_a_peer_of_the_settings(folder: Path, tmp_path: Path) -> None:
    with EmbeddedArchive(tmp_path / "archive", ae_title="PACS") as archive:
        (tmp_path / "preread.yaml").write_text(
            f"peers:\n  - {{name: pacs, ae_title: PACS, host: 127.0.0.1, port: {archive.port}}}\n"
        )
        done = send(folder, "--to", "pacs", "--json")
        assert len(archive.all_kept()) == 1
    assert done.returncode == 0, done.stderr
    [study] = json.loads(done.stdout)["studies"]
    assert (study["objects"], study["sent"]) == (1, 1)


def test_what_cannot_be_sent_is_named_and_fails_the_command_while_the_rest_goes(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "notes.txt").write_text("No image.\n")
    with EmbeddedArchive(tmp_path / "archive", ae_title="PACS") as archive:
        done = send(folder, "--to", f"PACS@127.0.0.1:{archive.port}")
        assert len(archive.all_kept()) == 1
    assert done.returncode == 1
    assert "notes.txt: not sent: it is not DICOM" in done.stderr
    assert "1 of 1 sent to PACS@127.0.0.1" in done.stdout


def test_an_unknown_peer_is_wrong_use(folder: Path) -> None:
    done = send(folder, "--to", "nobody")
    assert done.returncode == 2
    assert "no peer is called so" in done.stderr
