"""The overlay of a slice: read back from the stored SEG itself, drawn as a transparent PNG.

What is shown is what was sent: masks come from the SEG's bits, laid on slices by their source image reference
(frames of a SEG are not in source order). Outlines run through the middles of pixel edges, as in the reports.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.errors import PrereadError
from db.instances import ByteStore
from db.records import ResultRecord
from models.screen_colours import Rgb, to_rgb
from pipeline.results.outline import outlines
from preread.web.recent import Recent
from preread.web.slices import png

SourceKey = tuple[str, int | None]
Mask = NDArray[np.bool_]
BITS_MAX: Final = 4 << 30
PICTURE_SIDE: Final = 1024  # px: contours stay sharp on a large screen over a small image
SCALE_MAX: Final = 8.0
SEGMENTATION_BYTES: Final = 128 << 20
FILL_ALPHA: Final = 88
HALO: Final = (0, 0, 0, 190)
NO_COLOUR: Final = (255, 194, 77)


@dataclass(frozen=True, eq=False)
class SegmentMask:
    """One segment on one slice; `packed` holds (rows x columns) bits, `colour` is the SEG's own."""

    segment_number: int
    colour: Rgb
    tracking_uid: str
    shape: tuple[int, int]
    packed: NDArray[np.uint8]

    @property
    def mask(self) -> Mask:
        """(rows, columns)."""
        rows, columns = self.shape
        return np.unpackbits(self.packed, count=rows * columns).reshape(self.shape).astype(bool)


Segmentation = Mapping[SourceKey, tuple[SegmentMask, ...]]


class Segmentations:
    """Reads stored SEG objects and keeps the last ones. Thread-safe."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._kept: Recent[Segmentation] = Recent(SEGMENTATION_BYTES, _weight)

    def read(self, result: ResultRecord) -> Segmentation:
        """Masks of a result of the kind SEG; raises as `read_segmentation` and `ByteStore.read`."""
        return self._kept.get(result.id, lambda: read_segmentation(self._store.read(result.location)))


def _weight(segmentation: Segmentation) -> int:
    return 1 + sum(mask.packed.nbytes for masks in segmentation.values() for mask in masks)


def read_segmentation(part10: bytes) -> Segmentation:
    """Masks of a stored BINARY SEG by the image they lie on (PS3.3 C.8.20, PS3.5 8.1.1: bits, lowest first).

    Raises
    ------
    PrereadError
        The object is no binary segmentation, or its bits do not fill its frames.
    """
    seg = dcmread(io.BytesIO(part10))
    rows, columns = int(seg.get("Rows", 0)), int(seg.get("Columns", 0))
    frames = seg.get("PerFrameFunctionalGroupsSequence") or []
    bits = rows * columns * len(frames)
    raw = np.frombuffer(seg.get("PixelData", b""), dtype=np.uint8)
    if seg.get("BitsAllocated") != 1 or bits > BITS_MAX or raw.size * 8 < bits:
        raise PrereadError(
            "the stored segmentation cannot be drawn: it is not binary, or shorter than its frames",
            where=str(seg.get("SOPInstanceUID", "")),
            remedy="Download the object and look at it in another viewer.",
        )
    segments = {int(segment.SegmentNumber): segment for segment in seg.SegmentSequence}
    pixels = np.unpackbits(raw, count=bits, bitorder="little").reshape(len(frames), rows, columns)
    found: dict[SourceKey, list[SegmentMask]] = {}
    for frame, mask in zip(frames, pixels, strict=True):
        number = _segment_number(frame, seg)
        if mask.any():
            uid, colour = str(segments[number].get("TrackingUID", "")), _colour_of(segments[number])
            found.setdefault(_source_of(frame), []).append(
                SegmentMask(number, colour, uid, (rows, columns), np.packbits(mask))
            )
    return {key: tuple(masks) for key, masks in found.items()}


def _segment_number(frame: Dataset, seg: Dataset) -> int:
    shared = seg.get("SharedFunctionalGroupsSequence") or [Dataset()]
    holder = frame.get("SegmentIdentificationSequence") or shared[0].SegmentIdentificationSequence
    return int(holder[0].ReferencedSegmentNumber)


def _source_of(frame: Dataset) -> SourceKey:
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    number = source.get("ReferencedFrameNumber")
    if number is not None and not isinstance(number, int):
        number = number[0]
    return str(source.ReferencedSOPInstanceUID), int(number) if number is not None else None


def _colour_of(segment: Dataset) -> Rgb:
    """Recommended Display CIELab Value, 16 bits per part (PS3.3 C.10.7.1.1), as a screen shows it."""
    value = segment.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return NO_COLOUR
    light, a, b = (float(part) / 65535.0 for part in value)
    return to_rgb((light * 100.0, a * 255.0 - 128.0, b * 255.0 - 128.0))


def overlay_png(lesions: Sequence[tuple[int, SegmentMask]], *, shape: tuple[int, int], filled: bool) -> bytes:
    """A transparent PNG of the lesions on one slice, each with its number beside it.

    Parameters
    ----------
    lesions : (number of the lesion, its segment on this slice)
    shape : (rows, columns) of the slice
    filled : translucent areas with a thin outline, instead of outlines alone
    """
    scale = min(SCALE_MAX, PICTURE_SIDE / max(shape))
    size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    drawn = [(number, segment.colour, segment.mask) for number, segment in lesions]
    if filled:
        for _, colour, mask in drawn:
            area = Image.fromarray(mask.astype(np.uint8) * FILL_ALPHA).resize(size, Image.Resampling.NEAREST)
            picture.alpha_composite(_tinted(area, colour))
    draw = ImageDraw.Draw(picture)
    line = 2 if filled else 3
    for width, is_halo in ((line + 3, True), (line, False)):
        for _, colour, mask in drawn:
            for outline in outlines(mask):
                # The centre of pixel 0 lies half a pixel inside the picture.
                points = [((c + 0.5) * scale, (r + 0.5) * scale) for r, c in outline.tolist()]
                ink = HALO if is_halo else (*colour, 255)
                draw.line([*points, points[0], points[1]], fill=ink, width=width, joint="curve")
    for number, colour, mask in drawn:
        _write_number(draw, number, colour, mask, scale, size)
    return png(picture)


def _tinted(alpha: Image.Image, colour: Rgb) -> Image.Image:
    tint = Image.new("RGBA", alpha.size, (*colour, 0))
    tint.putalpha(alpha)
    return tint


def _write_number(
    draw: ImageDraw.ImageDraw, number: int, colour: Rgb, mask: Mask, scale: float, size: tuple[int, int]
) -> None:
    """The number to the upper right of a lesion, inside the picture."""
    rows, columns = np.nonzero(mask)
    font = ImageFont.load_default(26)
    x = min((float(columns.max()) + 1.0) * scale + 8.0, size[0] - 26.0)
    y = max(float(rows.min()) * scale - 26.0, 2.0)
    draw.text((x, y), str(number), font=font, fill=(*colour, 255), stroke_width=3, stroke_fill=HALO)
