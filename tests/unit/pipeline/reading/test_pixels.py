"""Which values a model sees, and what is refused before it costs memory."""

import csv
import struct
import tracemalloc

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from pipeline.reading.headers import Parsed, parse, read_header
from pipeline.reading.pixels import codestream_size, read_pixels
from pipeline.reading.refusals import Refusal

EXPLICIT = "1.2.840.10008.1.2.1"
J2K = "1.2.840.10008.1.2.4.90"
LIMIT = 64 << 20


def planes_of(image, encoded, *, syntax=EXPLICIT, limit=LIMIT, frames=None):
    raw = encoded(image, syntax)
    header = read_header(raw, syntax, sop_uid="1.2")
    return read_pixels(raw, syntax, header, frame_indices=frames, bytes_max=limit)


def test_rescale_is_applied_to_signed_samples(make_slice, encoded):
    stored = np.array([[-5, 7], [0, 32767]], np.int16)
    (plane,) = planes_of(
        make_slice((0, 0, 0), pixels=stored, RescaleSlope=2, RescaleIntercept=-1024), encoded
    )
    assert plane.dtype == np.float32
    assert np.array_equal(plane, stored * 2.0 - 1024)


def test_monochrome1_is_inverted_within_its_stored_range(make_slice, encoded):
    stored = np.array([[0, 4095]], np.uint16)
    image = make_slice(
        (0, 0, 0), pixels=stored, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11
    )
    (plane,) = planes_of(image, encoded)
    assert plane.tolist() == [[4095, 0]]


def test_colour_becomes_luminance_whatever_the_plane_order(make_slice, encoded):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    image = make_slice((0, 0, 0), pixels=colours, PhotometricInterpretation="RGB")
    image.SamplesPerPixel, image.BitsAllocated, image.BitsStored, image.HighBit = 3, 8, 8, 7
    image.PlanarConfiguration = 0
    (one,) = planes_of(image, encoded)
    image.PlanarConfiguration = 1
    image.PixelData = np.ascontiguousarray(colours.transpose(2, 0, 1)).tobytes()
    (other,) = planes_of(image, encoded)
    assert np.allclose(one, [[76.245, 149.685, 29.07, 255]])
    assert np.array_equal(one, other)


def test_palette_becomes_luminance(make_slice, encoded):
    image = make_slice((0, 0, 0), pixels=np.array([[0, 1, 2]], np.uint8), BitsAllocated=8, BitsStored=8)
    image.PhotometricInterpretation, image.HighBit = "PALETTE COLOR", 7
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        table = np.array([0, 100, 200], "<u2").tobytes()
        image[f"{colour}PaletteColorLookupTableData"] = pydicom.DataElement(
            pydicom.datadict.tag_for_keyword(f"{colour}PaletteColorLookupTableData"), "OW", table
        )
    (plane,) = planes_of(image, encoded)
    assert np.allclose(plane, [[0, 100, 200]])


@pytest.mark.parametrize("padding", [-2000, 63536])
def test_padding_becomes_the_smallest_real_value_whichever_sign_it_was_written_with(
    padding, make_slice, encoded
):
    stored = np.array([[-2000, -1000, 40]], np.int16)
    image = make_slice((0, 0, 0), pixels=stored, RescaleSlope=1, RescaleIntercept=0)
    image.add_new(0x00280120, "SS" if padding < 0 else "US", padding)
    (plane,) = planes_of(image, encoded)
    assert plane.tolist() == [[-1000, -1000, 40]]


def test_overlay_bits_above_the_stored_ones_do_not_reach_the_values(make_slice, encoded):
    stored = np.array([[0xF123, 0x0123]], np.uint16)
    (plane,) = planes_of(make_slice((0, 0, 0), pixels=stored, BitsStored=12, HighBit=11), encoded)
    assert plane.tolist() == [[0x123, 0x123]]


def test_frames_come_in_the_order_asked_for(make_stack, make_enhanced, encoded):
    enhanced = make_enhanced(make_stack(4))
    planes = planes_of(enhanced, encoded, frames=[3, 0])
    assert [plane[0, 0] for plane in planes] == [3, 0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Rows": 0}, "NO-PIXELS"),
        ({"Columns": None}, "NO-PIXELS"),
        ({"PixelData": None}, "NO-PIXELS"),
        ({"BitsAllocated": 13}, "PHOTOMETRIC"),
        ({"PhotometricInterpretation": "CMYK"}, "PHOTOMETRIC"),
        ({"SamplesPerPixel": 4}, "PHOTOMETRIC"),
        ({"Rows": 65535, "Columns": 65535}, "PIXELS-TOO-LARGE"),
        ({"NumberOfFrames": 2_000_000}, "PIXELS-TOO-LARGE"),
        ({"Rows": 7}, "PIXELS-UNREADABLE"),
    ],
)
def test_pixels_that_cannot_be_read_are_refused_with_their_reason(change, code, make_slice, encoded):
    image = make_slice((0, 0, 0))
    for keyword, value in change.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    refusal = planes_of(image, encoded)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


@pytest.mark.parametrize(
    "name", ["2026-05-26-oob-monochrome-65535.dcm", "2026-05-26-oob-monochrome-46341.dcm"]
)
def test_file_that_claims_gigabytes_is_refused_without_taking_them(name, odd_folder, dataset_of_file):
    raw, syntax = dataset_of_file(odd_folder / "orthanc-tests" / name)
    header = read_header(raw, syntax, sop_uid="1.2")
    tracemalloc.start()
    refusal = read_pixels(raw, syntax, header, bytes_max=LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(refusal, Refusal)
    assert refusal.code == "PIXELS-TOO-LARGE"
    assert peak < 1 << 20


def test_code_stream_that_claims_more_than_the_header_is_refused_before_decoding(make_slice, encoded):
    stream = b"\xff\x4f\xff\x51" + struct.pack(">HH8L", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0)
    image = make_slice((0, 0, 0))
    image.PixelData = encapsulate([stream + bytes(40)])
    image["PixelData"].is_undefined_length = True
    image["PixelData"].VR = "OB"
    refusal = planes_of(image, encoded, syntax=J2K)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "PIXELS-TOO-LARGE"


def test_size_of_a_code_stream_is_read_from_its_head():
    jpeg = b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xc1\x00\x0b\x0c\x01\x02\x03\x04\x01\x01\x11\x00"
    assert codestream_size(jpeg) == (0x0102, 0x0304)
    jpeg_ls = b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x40\x00\x20\x01\x01\x11\x00"
    assert codestream_size(jpeg_ls) == (64, 32)
    assert codestream_size(b"\x00\x01\x02") is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64).map(lambda tail: b"\xff\xd8" + tail))
def test_size_of_a_damaged_code_stream_never_raises(stream):
    codestream_size(stream)


# (file, smallest, largest value), as DCMTK's dcmdjpeg, dcmdjpls and dcmdrle decoded them once.
KNOWN = [
    ("orthanc-tests/ts-1.2.840.10008.1.2.4.51.dcm", 0, 3970),
    ("pydicom/JPEG-lossy.dcm", 0, 264),
    ("pydicom/MR_small_RLE.dcm", 127, 2145),
    ("pydicom/MR_small_jpeg_ls_lossless.dcm", 127, 2145),
    ("pydicom/MR_small_jp2klossless.dcm", 127, 2145),
    ("pydicom/MR_small_bigendian.dcm", 127, 2145),
    ("pydicom/MR_small_implicit.dcm", 127, 2145),
    ("pydicom/J2K_pixelrep_mismatch.dcm", -2000, 1896),
    ("pydicom-data/JPGLosslessP14SV1_1s_1f_8b.dcm", 0, 255),
    ("orthanc-tests/2022-03-08-RicSmi.dcm", 4, 12033),
]


@pytest.mark.parametrize(("name", "smallest", "largest"), KNOWN)
def test_each_transfer_syntax_gives_the_known_values(name, smallest, largest, odd_folder, dataset_of_file):
    raw, syntax = dataset_of_file(odd_folder / name)
    header = read_header(raw, syntax, sop_uid="1.2")
    (plane,) = read_pixels(raw, syntax, header, bytes_max=LIMIT)
    assert (plane.min(), plane.max()) == (smallest, largest)


def test_same_picture_in_six_encodings_has_the_same_values(odd_folder, dataset_of_file):
    names = [
        "MR_small_RLE",
        "MR_small_bigendian",
        "MR_small_implicit",
        "MR_small_padded",
        "MR_small_jpeg_ls_lossless",
        "MR_small_jp2klossless",
    ]
    planes = []
    for name in names:
        raw, syntax = dataset_of_file(odd_folder / "pydicom" / f"{name}.dcm")
        (plane,) = read_pixels(raw, syntax, read_header(raw, syntax, sop_uid="1.2"), bytes_max=LIMIT)
        planes.append(plane)
    assert all(np.array_equal(plane, planes[0]) for plane in planes)


def test_every_awkward_file_gives_finite_planes_or_a_coded_reason(odd_folder, dataset_of_file):
    with (odd_folder / "index.csv").open(encoding="utf-8", newline="") as stream:
        names = [row["file"] for row in csv.DictReader(stream)]
    read = 0
    for name in names:
        if (odd_folder / name).read_bytes()[128:132] != b"DICM":
            continue
        raw, syntax = dataset_of_file(odd_folder / name)
        parsed = parse(raw, syntax, sop_uid="1.2")
        if isinstance(parsed, Refusal):
            continue
        assert isinstance(parsed, Parsed)
        assert isinstance(parsed.header, Dataset)
        planes = read_pixels(raw, syntax, parsed.header, bytes_max=LIMIT)
        if not isinstance(planes, Refusal):
            assert all(np.isfinite(plane).all() for plane in planes), name
            read += 1
    assert read > 60
