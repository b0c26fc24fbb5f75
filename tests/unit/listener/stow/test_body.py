"""Bodies of STOW-RS requests are split into files, whatever the pieces they come in."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.stow.body import (
    BodyError,
    MultipartBody,
    PartBegins,
    PartBytes,
    PartEnds,
    body_of,
)

RELATED = 'multipart/related; type="application/dicom"; boundary="a limit"'


def multipart(*parts: bytes, media_type: str = "application/dicom", before: bytes = b"") -> bytes:
    head = f"Content-Type: {media_type}\r\n\r\n".encode()
    return before + b"".join(b"--a limit\r\n" + head + part + b"\r\n" for part in parts) + b"--a limit--"


def files(content: bytes, *, content_type: str = RELATED, piece: int = 1 << 20) -> list[tuple[str, bytes]]:
    body = body_of(content_type)
    found: list[tuple[str, bytes]] = []
    events = [e for at in range(0, len(content), piece) for e in body.feed(content[at : at + piece])]
    is_open = False
    for event in [*events, *body.finish()]:
        if isinstance(event, PartBegins):
            assert not is_open
            is_open = True
            found.append((event.media_type, b""))
        elif isinstance(event, PartBytes):
            found[-1] = (found[-1][0], found[-1][1] + event.content)
        else:
            assert isinstance(event, PartEnds)
            is_open = False
    assert not is_open
    return found


def test_a_single_part_is_one_file() -> None:
    assert files(b"DICM", content_type="application/dicom") == [("application/dicom", b"DICM")]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.integers(1, 90), st.booleans())
def test_parts_come_out_as_they_went_in_whatever_the_pieces(
    parts: list[bytes], piece: int, has_line: bool
) -> None:
    parts = [part for part in parts if b"--a limit" not in part]
    if parts:
        content = multipart(*parts, before=b"\r\n" if has_line else b"")
        assert files(content, piece=piece) == [("application/dicom", part) for part in parts]


def test_bytes_that_begin_like_a_boundary_belong_to_their_file() -> None:
    part = b"\r\n--a limi\r\n--a limi\r\n-\r\r\n--a lim"
    for piece in (1, 2, 7, 1000):
        assert files(multipart(part, part), piece=piece) == [("application/dicom", part)] * 2


def test_the_type_of_a_part_is_told() -> None:
    assert files(multipart(b"x", media_type="text/plain; charset=utf-8")) == [("text/plain", b"x")]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ("multipart/form-data; boundary=x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', 415),
        ('multipart/related; type="application/dicom"', 400),
        (f'multipart/related; type="application/dicom"; boundary="{"x" * 129}"', 400),
    ],
)
def test_another_type_of_body_is_refused(content_type: str, status: int) -> None:
    with pytest.raises(BodyError) as refused:
        body_of(content_type)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "content", [b"", b"no boundary at all", b"--a limit\r\n", multipart(b"x")[:-3], b"--a limitx\r\n"]
)
def test_a_body_that_breaks_off_or_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(BodyError):
        files(content)
    with pytest.raises(BodyError):
        files(b"", content_type="application/dicom")


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_input_is_events_or_a_body_error(pieces: list[bytes]) -> None:
    body = MultipartBody(b"x")
    with suppress(BodyError):
        for piece in [b"--x\r\n", *pieces]:
            body.feed(piece)
        body.finish()


def test_headers_without_end_are_refused() -> None:
    body = body_of(RELATED)
    body.feed(b"--a limit\r\nContent-Type: " + b"x" * 1000)
    with pytest.raises(BodyError):
        body.feed(b"x" * 2000)
