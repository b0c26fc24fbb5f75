"""A zip is read within bounds, and one that lies is refused."""

import io
import struct
import zipfile

import pytest

from preread.web.zips import DIRECTORY_BYTES_MAX, MEMBER_ERRORS, OpenZip, ZipRefused


def zipped(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as writing:
        for name, content in files.items():
            writing.writestr(name, content)
    made.seek(0)
    return made


def contents(file: io.BytesIO, *, bytes_max: int = 1 << 20) -> dict[str, bytes]:
    opened = OpenZip(file, bytes_max=bytes_max)
    return {member.filename: b"".join(opened.pieces(member)) for member in opened.members()}


def test_files_come_out_as_they_went_in_and_folders_are_none() -> None:
    files = {"a/1.dcm": b"one" * 1000, "a/b/2.dcm": b"", "3": b"three"}
    assert contents(zipped({**files, "empty/": b""})) == files


def test_bytes_that_come_out_are_counted_whatever_the_zip_says_of_them() -> None:
    bomb = zipped({"a": bytes(600_000), "b": bytes(600_000)})
    assert len(bomb.getvalue()) < 5000
    with pytest.raises(ZipRefused, match="upload_gib_max"):
        contents(bomb)


def test_a_directory_larger_than_any_honest_one_is_not_read() -> None:
    raw = bytearray(zipped({"a": b"x"}).getvalue())
    at = raw.rfind(b"PK\x05\x06")
    struct.pack_into("<L", raw, at + 12, DIRECTORY_BYTES_MAX + 1)
    with pytest.raises(ZipRefused, match="directory"):
        contents(io.BytesIO(bytes(raw)))


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"PK\x05\x06" + bytes(5)])
def test_what_only_begins_like_a_zip_is_refused(content: bytes) -> None:
    with pytest.raises(ZipRefused, match="damaged"):
        contents(io.BytesIO(content))


def test_a_damaged_file_in_it_is_one_error_of_that_file() -> None:
    raw = (
        zipped({"a": b"x" * 100, "b": b"y"}, method=zipfile.ZIP_STORED)
        .getvalue()
        .replace(b"x" * 10, b"z" * 10, 1)
    )
    opened = OpenZip(io.BytesIO(raw), bytes_max=1 << 20)
    damaged, sound = opened.members()
    with pytest.raises(MEMBER_ERRORS):
        list(opened.pieces(damaged))
    assert list(opened.pieces(sound)) == [b"y"]
