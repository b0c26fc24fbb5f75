"""What is read of a header, and within which bounds."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from pipeline.reading.headers import Parsed, parse, read_header
from pipeline.reading.refusals import Refusal

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"


def element(group: int, number: int, vr: str, value: bytes) -> bytes:
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return struct.pack("<HH2s2xL", group, number, vr.encode(), len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def nested(depth: int, *, undefined: bool) -> bytes:
    body = b""
    for _ in range(depth):
        if undefined:
            item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + body + b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
            body = (
                struct.pack("<HH2s2xL", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF)
                + item
                + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
            )
        else:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
            body = element(0x0040, 0xA730, "SQ", item)
    return body


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_header_is_the_same_in_every_encoding_and_holds_no_pixels(syntax, make_slice, encoded):
    image = make_slice((1, 2, 3), SeriesDescription="AX FLAIR")
    header = read_header(encoded(image, syntax), syntax, sop_uid="1.2")
    assert isinstance(header, Dataset)
    assert "PixelData" not in header
    assert header.SeriesDescription == "AX FLAIR"
    assert [float(v) for v in header.ImagePositionPatient] == [1, 2, 3]


def test_pixel_element_is_handed_out_still_encoded(make_slice, encoded):
    image = make_slice((1, 2, 3))
    parsed = parse(encoded(image), EXPLICIT, sop_uid="1.2")
    assert isinstance(parsed, Parsed)
    assert bytes(parsed.pixels.value) == image.PixelData
    assert not parsed.pixels.encapsulated


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("depth", [65, 500, 10_000])
def test_nesting_beyond_the_limit_is_refused_and_does_not_crash(depth, undefined):
    outcome = read_header(nested(depth, undefined=undefined), EXPLICIT, sop_uid="1.2")
    assert isinstance(outcome, Refusal)
    assert outcome.code == "HEADER-UNREADABLE"


@pytest.mark.parametrize("undefined", [True, False])
def test_nesting_within_the_limit_is_read(undefined):
    assert isinstance(read_header(nested(60, undefined=undefined), EXPLICIT, sop_uid="1.2"), Dataset)


def test_deflated_header_is_read(make_slice, encoded):
    packer = zlib.compressobj(wbits=-15)
    raw = packer.compress(encoded(make_slice((0, 0, 0)))) + packer.flush()
    header = read_header(raw, DEFLATED, sop_uid="1.2")
    assert header.Modality == "MR"


def test_deflate_bomb_is_refused_before_it_is_inflated():
    packer = zlib.compressobj(9, wbits=-15)
    raw = packer.compress(element(0x0008, 0x0060, "CS", b"MR") + bytes(200 << 20)) + packer.flush()
    outcome = read_header(raw, DEFLATED, sop_uid="1.2.9")
    assert isinstance(outcome, Refusal)
    assert outcome.code == "TOO-LARGE"
    assert "1.2.9" in outcome.sentence


@pytest.mark.parametrize(
    ("charset", "stored", "text"),
    [
        (b"ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (b"ISO_IR 192", "Müller^Jörg".encode(), "Müller^Jörg"),
        (b"ISO_IR 192", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (None, "Müller^Jörg".encode(), "Müller^Jörg"),
        (None, "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (b"ISO IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (b"NONSENSE", "Müller^Jörg".encode(), "Müller^Jörg"),
        (b"\\ISO 2022 IR 87", b"Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田"),
    ],
)
def test_text_is_decoded_as_declared_and_else_as_it_fits(charset, stored, text):
    raw = b"" if charset is None else element(8, 5, "CS", charset + b" " * (len(charset) % 2))
    raw += element(0x10, 0x10, "PN", stored + b" " * (len(stored) % 2))
    header = read_header(raw, EXPLICIT, sop_uid="1.2")
    assert str(header.PatientName) == text


def test_value_that_cannot_be_read_counts_as_absent():
    raw = element(0x28, 0x10, "US", b"\x01\x02\x03\x04\x05\x06\x07\x08\x09") + element(
        0x28, 0x30, "DS", b"abc\\1 "
    )
    header = read_header(raw, EXPLICIT, sop_uid="1.2")
    assert "PixelSpacing" not in header


def test_decimal_comma_is_read_as_a_point():
    header = read_header(element(0x28, 0x30, "DS", b"0,488\\0,488 "), EXPLICIT, sop_uid="1.2")
    assert [float(v) for v in header.PixelSpacing] == [0.488, 0.488]


def test_private_elements_and_bulk_values_are_left_out():
    raw = (
        element(0x08, 0x60, "CS", b"MR")
        + element(0x09, 0x10, "LO", b"VENDOR")
        + element(0x42, 0x11, "OB", bytes(2 << 20))
    )
    header = read_header(raw, EXPLICIT, sop_uid="1.2")
    assert [e.keyword for e in header] == ["Modality"]


def test_refusal_never_quotes_a_value():
    raw = element(0x10, 0x10, "PN", b"Secret^Name ") + b"\x20\x00\x0d"
    outcome = read_header(raw, EXPLICIT, sop_uid="1.2")
    assert "Secret" not in (outcome.sentence if isinstance(outcome, Refusal) else "")


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=400), syntax=st.sampled_from([EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN]))
def test_any_bytes_give_a_header_or_a_refusal(raw, syntax):
    assert isinstance(read_header(raw, syntax, sop_uid="1.2"), Dataset | Refusal)


@settings(max_examples=300, deadline=None)
@given(where=st.integers(0, 10_000), what=st.binary(min_size=1, max_size=6), cut=st.integers(0, 10_000))
def test_damaged_image_gives_a_header_or_a_refusal(where, what, cut, make_stack, encoded, make_enhanced):
    raw = bytearray(encoded(make_enhanced(make_stack(3))))
    where %= len(raw)
    raw[where : where + len(what)] = what
    outcome = parse(bytes(raw[: len(raw) - cut % 200]), EXPLICIT, sop_uid="1.2")
    assert isinstance(outcome, Parsed | Refusal)
