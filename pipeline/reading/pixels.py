"""Pixels of one instance as float32 planes: decoded, rescaled, grey, bright is bright.

The size is judged from the header, and for compressed frames from the code stream's own head as well, before
any decoder allocates. What cannot be decoded is a refusal that names the image and what the decoder said.
Source: PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT), PS3.5 section 8 and annex A (encodings)
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.uid import UID, JPEGExtended12Bit

from pipeline.reading.headers import UNREADABLE, PixelElement, parse
from pipeline.reading.refusals import Refusal, refuse

Plane = NDArray[np.float32]

_MIB: Final = 1 << 20
_LUMINANCE: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_GREY: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOUR: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"})
_CONTAINERS: Final = frozenset({1, 8, 16, 32})
_SIDE_MAX: Final = 65535


@dataclass(frozen=True)
class PixelForm:
    """How the samples of an image are laid out, checked (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.rows * self.columns * self.samples * max(1, self.bits_allocated // 8)


def frames_of(header: Dataset) -> int:
    """Number of Frames; 1 where it is absent or not a positive number."""
    value = header.get("NumberOfFrames")
    return int(value) if isinstance(value, int) and value > 0 else 1


def pixel_form(header: Dataset) -> PixelForm | Refusal:
    """The layout of the samples, or why it cannot be read (NO-PIXELS, PHOTOMETRIC)."""
    sop = str(header.get("SOPInstanceUID", ""))
    rows, columns = _count(header, "Rows"), _count(header, "Columns")
    if not rows or not columns:
        return refuse("NO-PIXELS", sop=sop, what="usable number of rows and columns")
    samples = _count(header, "SamplesPerPixel") or 1
    allocated = _count(header, "BitsAllocated") or 0
    photometric = str(header.get("PhotometricInterpretation") or ("RGB" if samples == 3 else "MONOCHROME2"))
    grey = photometric in _GREY or photometric == "PALETTE COLOR"
    if allocated not in _CONTAINERS and allocated != 64:
        return refuse("PHOTOMETRIC", sop=sop, form=f"{allocated} bits per sample")
    if (samples, grey) not in {(1, True), (3, False)} or (not grey and photometric not in _COLOUR):
        return refuse("PHOTOMETRIC", sop=sop, form=f"{photometric[:16]} with {samples} sample(s)")
    stored = _count(header, "BitsStored") or allocated
    return PixelForm(
        rows=rows,
        columns=columns,
        frames=frames_of(header),
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored if stored <= allocated else allocated,
        signed=_count(header, "PixelRepresentation") == 1,
        photometric=photometric,
        planar=1 if _count(header, "PlanarConfiguration") == 1 else 0,
    )


def read_pixels(
    raw: bytes,
    transfer_syntax: str,
    header: Dataset,
    *,
    frame_indices: Sequence[int] | None = None,
    bytes_max: int,
) -> list[Plane] | Refusal:
    """Frames of one instance, ready for a model.

    Parameters
    ----------
    raw : the encoded dataset as received
    transfer_syntax : its UID
    header : its header, as `pipeline.reading.headers.read_header` gives it
    frame_indices : 0-based frames wanted, in this order; None: all
    bytes_max : most memory that the decoded samples or the planes may take

    Returns
    -------
    one (rows, columns) float32 plane per frame: rescaled by the modality LUT, MONOCHROME1 inverted, colour as
    luminance, padding replaced by the smallest real value; or NO-PIXELS, PHOTOMETRIC, TRANSFER-SYNTAX,
    PIXELS-TOO-LARGE, PIXELS-UNREADABLE
    """
    sop = str(header.get("SOPInstanceUID", ""))
    form = pixel_form(header)
    if isinstance(form, Refusal):
        return form
    wanted = list(range(form.frames)) if frame_indices is None else list(frame_indices)
    need = max(form.frame_bytes, form.rows * form.columns * 4) * max(1, len(wanted))
    if need > bytes_max:
        return refuse("PIXELS-TOO-LARGE", what=f"image {sop}", mib=need / _MIB, limit_mib=bytes_max / _MIB)
    parsed = parse(raw, transfer_syntax, sop_uid=sop)
    if isinstance(parsed, Refusal):
        return parsed
    if parsed.pixels is None:
        return refuse("NO-PIXELS", sop=sop, what="pixel data")
    with warnings.catch_warnings():
        # Decoders warn of paddings and of odd lengths that do not touch the samples.
        warnings.simplefilter("ignore")
        try:
            samples = _decoded(parsed.pixels, UID(transfer_syntax), form, wanted, bytes_max)
            return [_plane(frame, form, header, index) for index, frame in zip(wanted, samples, strict=True)]
        except NotImplementedError:
            return refuse("TRANSFER-SYNTAX", sop=sop, name=UID(transfer_syntax).name[:80])
        except _TooLarge as error:
            return refuse(
                "PIXELS-TOO-LARGE", what=f"image {sop}", mib=error.args[0] / _MIB, limit_mib=bytes_max / _MIB
            )
        except (*UNREADABLE, RuntimeError) as error:
            return refuse("PIXELS-UNREADABLE", sop=sop, why=_said(error))


class _TooLarge(Exception):
    """A code stream claims more than the header did; args[0] is the bytes it would take."""


def _count(header: Dataset, keyword: str) -> int | None:
    value = header.get(keyword)
    return value if isinstance(value, int) and 0 <= value <= _SIDE_MAX else None


def _said(error: BaseException) -> str:
    """The decoder's words in one line; they speak of bits and lengths, never of a patient."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".")


def _decoded(
    pixels: PixelElement, syntax: UID, form: PixelForm, wanted: Sequence[int], bytes_max: int
) -> list[NDArray[Any]]:
    """Samples of the wanted frames, (rows, columns) or (rows, columns, 3) as RGB."""
    decoder = get_decoder(syntax)
    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": form.frames,
        "samples_per_pixel": form.samples,
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "photometric_interpretation": form.photometric,
        "pixel_keyword": pixels.keyword,
        "pixel_representation": int(form.signed),
        "planar_configuration": form.planar,
        "pixel_vr": pixels.vr if pixels.vr in ("OB", "OW") else "OW",
    }
    if not syntax.is_encapsulated:
        expected = form.frame_bytes * form.frames if form.bits_allocated > 1 else 0
        if len(pixels.value) < expected and form.photometric != "YBR_FULL_422":
            raise ValueError(f"{len(pixels.value)} bytes are there, {expected} are needed")
        return [decoder.as_array(pixels.value, index=index, **options)[0] for index in wanted]
    encoded = list(generate_frames(bytes(pixels.value), number_of_frames=form.frames))
    options["number_of_frames"] = 1
    found = []
    for index in wanted:
        if index >= len(encoded):
            raise ValueError(f"{len(encoded)} encoded frames are there, {form.frames} are needed")
        frame = encoded[index]
        _check_claim(frame, form, bytes_max)
        if syntax == JPEGExtended12Bit and form.bits_stored > 8:
            found.append(_jpeg_12_bit(frame, form))
        else:
            found.append(decoder.as_array(encapsulate([frame]), index=0, **options)[0])
    return found


def _check_claim(frame: bytes, form: PixelForm, bytes_max: int) -> None:
    """Refuse a code stream whose own head claims another size than the header, before it is decoded."""
    claim = codestream_size(frame)
    if claim is None:
        return
    rows, columns = claim
    need = rows * columns * form.samples * max(1, form.bits_allocated // 8)
    if need > bytes_max:
        raise _TooLarge(need)
    if (rows, columns) != (form.rows, form.columns):
        raise ValueError(
            f"the code stream is {rows} x {columns}, the header says {form.rows} x {form.columns}"
        )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 code stream declares; None when it declares none.

    Source: ISO/IEC 10918-1 B.2.2 (frame header), 14495-1 C.2.2, 15444-1 A.5.1 (SIZ)
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:
        x_end, y_end, x_start, y_start = struct.unpack_from(">4L", frame, 8)
        return max(0, y_end - y_start), max(0, x_end - x_start)
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        elif marker == 0xDA:
            return None
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _jpeg_12_bit(frame: bytes, form: PixelForm) -> NDArray[np.uint16]:
    """Decode JPEG process 4 with 12 bits by GDCM, which pydicom does not ask to; equal to DCMTK's result."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(form.photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    image.SetPixelFormat(gdcm.PixelFormat(form.samples, 16, 12, 11, 0))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    shape = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)
    if len(decoded) != 2 * int(np.prod(shape)):
        raise ValueError(f"GDCM gave {len(decoded)} bytes for {2 * int(np.prod(shape))}")
    return np.frombuffer(decoded, dtype="<u2").reshape(shape)


def _plane(samples: NDArray[Any], form: PixelForm, header: Dataset, frame_index: int) -> Plane:
    """Stored samples of one frame to the plane a model sees."""
    if form.photometric == "PALETTE COLOR":
        samples = apply_color_lut(samples, header)
    if samples.ndim == 3:
        return (samples.astype(np.float32) @ _LUMINANCE).astype(np.float32)
    padding = _padding(samples, form, header)
    if form.photometric == "MONOCHROME1" and samples.dtype.kind in "iu":
        # The complement within the stored range keeps the values whole and the order reversed.
        lowest = -(1 << (form.bits_stored - 1)) if form.signed else 0
        highest = lowest + (1 << form.bits_stored) - 1
        values = (lowest + highest) - samples.astype(np.float64)
    else:
        values = samples.astype(np.float64)
    slope, intercept = _rescale(header, frame_index)
    if "ModalityLUTSequence" in header and samples.dtype.kind in "iu":
        values = np.asarray(apply_modality_lut(samples, header), dtype=np.float64)
    else:
        values = values * slope + intercept
    if not np.isfinite(values).all():
        # A float parametric image may mark places without a value by NaN.
        padding = ~np.isfinite(values) if padding is None else padding | ~np.isfinite(values)
    if padding is not None and padding.any():
        values[padding] = values[~padding].min() if not padding.all() else 0.0
    return values.astype(np.float32)


def _padding(samples: NDArray[Any], form: PixelForm, header: Dataset) -> NDArray[np.bool_] | None:
    """Where the image was padded to a rectangle (PS3.3 C.7.5.1.1.2); None without any declared."""
    value = header.get("PixelPaddingValue")
    if not isinstance(value, int) or samples.dtype.kind not in "iu":
        return None
    limit = header.get("PixelPaddingRangeLimit")
    ends = [_in_range(value, form), _in_range(limit if isinstance(limit, int) else value, form)]
    return (samples >= min(ends)) & (samples <= max(ends))


def _in_range(value: int, form: PixelForm) -> int:
    """A padding value written with the other sign than the samples, brought into their range."""
    span = 1 << form.bits_allocated
    value %= span
    return value - span if form.signed and value >= span // 2 else value


def _rescale(header: Dataset, frame_index: int) -> tuple[float, float]:
    """(slope, intercept) of a frame: its own, the shared one or the instance's; identity without any."""
    for group in functional_groups(header, frame_index):
        transformation = group.get("PixelValueTransformationSequence")
        if transformation:
            return _number(transformation[0], "RescaleSlope", 1.0), _number(
                transformation[0], "RescaleIntercept", 0.0
            )
    return _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)


def functional_groups(header: Dataset, frame_index: int) -> list[Dataset]:
    """The functional groups of a frame, its own before the shared ones (PS3.3 C.7.6.16)."""
    groups: list[Dataset] = []
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if per_frame and frame_index < len(per_frame):
        groups.append(per_frame[frame_index])
    shared = header.get("SharedFunctionalGroupsSequence")
    if shared:
        groups.append(shared[0])
    return groups


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    value = dataset.get(keyword)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if np.isfinite(number) and (number != 0 or keyword != "RescaleSlope") else default
