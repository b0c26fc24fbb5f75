"""A file that comes by HTTP is judged as it arrives, by the rules of a C-STORE, and leaves nothing behind."""

import os
from pathlib import Path

import pytest
from dicom_peer import CT, EXPLICIT, PDF, ct_dataset, element, new_uid
from part10_file import dicom_file

from config.settings import Settings
from listener.admission import Refusal
from listener.intake import Announced
from listener.received_file import ReceivedFile


def settings(folder: Path, **listener) -> Settings:
    return Settings.model_validate({"state_folder": str(folder), "listener": {"reserve_gib": 0, **listener}})


def judged(folder: Path, content: bytes, *, study: str | None = None, piece: int = 1000, **listener):
    with ReceivedFile(settings(folder, **listener), study_uid=study) as received:
        for at in range(0, len(content), piece):
            received.feed(content[at : at + piece])
        return received.finish()


def test_a_sound_file_is_announced_and_its_dataset_lies_in_the_file(tmp_path: Path) -> None:
    uid = new_uid()
    dataset = ct_dataset(uid)
    with ReceivedFile(settings(tmp_path)) as received:
        received.feed(dicom_file(uid, dataset))
        assert received.finish() == Announced(CT.encode(), uid.encode(), CT, EXPLICIT)
        assert os.pread(received.file.fileno(), received.size + 1, 0) == dataset
        assert list(tmp_path.iterdir()) == []  # it has no name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"GIF89a" + bytes(200), 0xC000),
        (dicom_file("1.2.3", ct_dataset("1.2.3")[:-10]), 0xC000),
        (dicom_file("1.2.3", ct_dataset("1.2.3", extra=b"\x28\0\x30\0??\1\0x")), 0xC000),
        (dicom_file("1.2.3", ct_dataset("1.2.4")), 0xA900),
        (dicom_file("1.2.3", ct_dataset("not a uid")), 0xA900),
        (dicom_file("1.2.3", ct_dataset("1.2.3", sop_class=PDF), sop_class=PDF), 0x0122),
        (dicom_file("1.2.3", ct_dataset("1.2.3"), syntax="1.2.840.10008.1.2.2"), 0xC122),
    ],
)
def test_an_unsound_file_is_refused_with_its_status(tmp_path: Path, content: bytes, status: int) -> None:
    refusal = judged(tmp_path, content)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_a_file_of_another_study_than_the_request_names_is_refused(tmp_path: Path) -> None:
    content = dicom_file("1.2.3", ct_dataset("1.2.3", study="1.2.9"))
    assert isinstance(judged(tmp_path, content, study="1.2.9"), Announced)
    refusal = judged(tmp_path, content, study="1.2.8")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 0xA901


def test_a_file_above_the_limit_is_refused_and_not_kept(tmp_path: Path) -> None:
    content = dicom_file("1.2.3", ct_dataset("1.2.3", pixels=bytes(200_000)))
    with ReceivedFile(settings(tmp_path, instance_gib_max=1e-4)) as received:
        for at in range(0, len(content), 1000):
            received.feed(content[at : at + 1000])
        refusal = received.finish()
        assert isinstance(refusal, Refusal)
        assert (refusal.status, "instance_gib_max" in refusal.comment) == (0xA700, True)
        assert received.size <= 1e-4 * (1 << 30)


def test_below_the_reserve_nothing_is_kept(tmp_path: Path) -> None:
    refusal = judged(tmp_path, dicom_file("1.2.3", ct_dataset("1.2.3")), reserve_gib=1e9)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 0xA700


def test_a_head_without_uids_is_taken_at_the_word_of_the_dataset(tmp_path: Path) -> None:
    head = element(2, 0x10, b"UI", EXPLICIT.encode() + b"\0")
    announced = judged(tmp_path, bytes(128) + b"DICM" + head + ct_dataset("1.2.3"))
    assert isinstance(announced, Announced)
    assert announced.sop_instance == b"1.2.3"
