"""Which files of a folder are sent, and what is said of the others."""

import io
import zipfile
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from preread.demo.found import find_studies

STUDY = "1.2.826.0.1.3680043.8.498.1"


def image(**changed: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = STUDY + ".1"
    dataset.Modality = "MR"
    dataset.BitsAllocated = 16
    dataset.PixelData = bytes(64)
    for keyword, value in changed.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def without_meta(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    del dataset.file_meta
    dataset.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


def test_files_below_the_folder_and_in_zip_files_are_one_study(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(encoded(image()))
    with zipfile.ZipFile(tmp_path / "more.ZIP", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/two.dcm", encoded(image()))
        archive.writestr("three.dcm", encoded(image()))
    [study], unsendable = find_studies(tmp_path)
    assert [found.name for found in study.objects] == [
        "a/b/one",
        "more.ZIP!deep/two.dcm",
        "more.ZIP!three.dcm",
    ]
    assert unsendable == []


def test_what_is_sent_are_the_bytes_of_the_file(tmp_path: Path) -> None:
    content = encoded(image(PatientComments="unusual  padding "))
    (tmp_path / "one.dcm").write_bytes(content)
    [study], _ = find_studies(tmp_path)
    sent = study.objects[0].read()
    assert content.endswith(sent)
    assert (
        dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength
        == len(content) - len(sent) - 144
    )


def test_a_dataset_without_file_meta_is_sent_as_it_is_encoded(tmp_path: Path) -> None:
    content = without_meta(image())
    (tmp_path / "bare").write_bytes(content)
    [study], _ = find_studies(tmp_path)
    assert study.objects[0].transfer_syntax == ImplicitVRLittleEndian
    assert study.objects[0].read() == content


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"just words " * 50, "it is not DICOM"),
        ("empty", b"", "it is not DICOM"),
        ("table.npz", b"PK\x03\x04 no archive", "it is not DICOM"),
        ("broken.zip", b"PK\x03\x04 no archive", "it is not DICOM"),
        ("no-study.dcm", encoded(image(StudyInstanceUID=None)), "it has no StudyInstanceUID"),
        (
            "empty-uids.dcm",
            encoded(image(StudyInstanceUID="", SeriesInstanceUID="")),
            "it has no StudyInstanceUID, no SeriesInstanceUID",
        ),
        ("cut.dcm", encoded(image())[:200], "it has no"),
    ],
)
def test_a_file_that_cannot_be_sent_is_named_with_its_reason(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.dcm").write_bytes(encoded(image()))
    [study], [item] = find_studies(tmp_path)
    assert len(study.objects) == 1
    assert item.name == name
    assert item.reason.startswith(reason)


def test_a_uid_that_is_a_path_is_not_sent(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        (tmp_path / "path.dcm").write_bytes(encoded(image(StudyInstanceUID="../../etc/passwd")))
    studies, [item] = find_studies(tmp_path)
    assert studies == []
    assert item.reason == "not a valid UID: StudyInstanceUID"


def test_a_deflate_bomb_costs_its_head_only(tmp_path: Path) -> None:
    dataset = image()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    plain = encoded(image())
    head = plain[plain.index(b"DICM") + 4 :]
    meta_length = 12 + int.from_bytes(head[8:12], "little")
    bomb = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = bomb.compress(head[meta_length:])
    for _ in range(16):
        body += bomb.compress(bytes(16 << 20))
    body += bomb.flush()
    meta = encoded(dataset)
    start = 132 + 12 + int.from_bytes(meta[140:144], "little")
    (tmp_path / "bomb.dcm").write_bytes(meta[:start] + body)
    [study], _ = find_studies(tmp_path)
    assert study.objects[0].transfer_syntax == DeflatedExplicitVRLittleEndian
    assert study.objects[0].read() == body
