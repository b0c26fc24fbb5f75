"""The head of a DICOM file is passed, its dataset left as it is; anything else is refused with a reason."""

import io

import pytest
from dicom_peer import CT, EXPLICIT, ct_dataset, element, new_uid
from hypothesis import given
from hypothesis import strategies as st
from part10_file import dicom_file
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset

from listener.part10 import HEAD_BYTES_MAX, NotPart10Error, Part10Reader


def read(pieces: list[bytes]) -> tuple[Part10Reader, bytes]:
    reader = Part10Reader()
    dataset = b"".join(bytes(reader.feed(piece)) for piece in pieces)
    reader.finish()
    return reader, dataset


def test_the_dataset_comes_out_as_it_stands_in_the_file() -> None:
    uid = new_uid()
    dataset = ct_dataset(uid)
    reader, found = read([dicom_file(uid, dataset)])
    assert found == dataset
    assert reader.meta == (CT.encode(), uid.encode(), EXPLICIT)


def test_a_byte_at_a_time_is_the_same_as_all_at_once() -> None:
    uid = new_uid()
    whole = dicom_file(uid, ct_dataset(uid, pixels=bytes(64)))
    assert read([whole[at : at + 1] for at in range(len(whole))])[1] == read([whole])[1]


def test_what_pydicom_writes_is_read() -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientName = CT, new_uid(), "Doe^Jane"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    reader, found = read([file.getvalue()])
    assert reader.meta is not None
    assert reader.meta.sop_instance.decode() == dataset.SOPInstanceUID
    assert found.startswith(b"\x08\x00\x16\x00UI")


def test_a_wrong_group_length_does_not_matter() -> None:
    uid = new_uid()
    whole = bytearray(dicom_file(uid, ct_dataset(uid)))
    whole[128 + 4 + 8] ^= 0x7F
    assert read([bytes(whole)])[1] == ct_dataset(uid)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no DICM"),
        (b"\x89PNG\r\n" + bytes(200), "no DICM"),
        (ct_dataset("1.2.3"), "no DICM"),
        (bytes(128) + b"DICX" + bytes(20), "no DICM"),
        (bytes(128) + b"DICM", "ends before"),
        (dicom_file("1.2.3", b""), "ends before"),
        (dicom_file("1.2.3", ct_dataset("1.2.3"), syntax=None), "without a Transfer Syntax"),
        (bytes(128) + b"DICM" + b"\x02\x00\x02\x01OB\0\0\xff\xff\xff\x7f", "longer than"),
        (dicom_file("1.2.3", b"", extra=element(2, 0x102, b"OB", bytes(HEAD_BYTES_MAX))), "longer than"),
    ],
)
def test_what_is_no_dicom_file_is_refused_with_the_reason(content: bytes, word: str) -> None:
    with pytest.raises(NotPart10Error, match=word):
        read([content])


@given(st.lists(st.binary(max_size=400), max_size=8), st.booleans())
def test_any_input_is_a_dataset_or_a_reason_and_memory_is_bounded(
    pieces: list[bytes], has_magic: bool
) -> None:
    reader = Part10Reader()
    try:
        for piece in [bytes(128) + b"DICM" if has_magic else b"", *pieces]:
            reader.feed(piece)
            assert len(reader._head) <= HEAD_BYTES_MAX + 400
        reader.finish()
    except NotPart10Error:
        pass
