"""Slices of a series for the page: in anatomical order, decoded one at a time, windowed to small PNGs.

The stack that a model would read decides the order. A series that no model could read (a gap, mixed sizes, no
positions) is shown all the same, by Instance Number, with a word about why: whoever looks wants to see it.
"""

import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from db.instances import ByteStore
from db.records import InstanceRecord
from models.explanation.attention import heat_over
from pipeline.reading.assemble import Stack, StackRules, assemble
from pipeline.reading.headers import read_header
from pipeline.reading.image_planes import ImagePlane, planes_of
from pipeline.reading.pixels import Plane, functional_groups, read_pixels
from pipeline.reading.refusals import Refusal
from preread.web.recent import Recent

FRAME_BYTES_MAX: Final = 256 << 20
PLANES_BYTES: Final = 192 << 20  # a CT of 180 slices stays decoded while its window is dragged
RAW_BYTES: Final = 256 << 20  # so that each frame of a multi-frame instance does not read all of it again
SERIES_KEPT: Final = 16
DECODERS_MAX: Final = 4
SIDE_MAX: Final = 1600  # px of a picture; mammograms are reduced to it
ATTENTION_SIDE: Final = 640
_TILT_ANY: Final = 90.0
_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))  # towards rising x, y, z of LPS, and back
_LETTER_COSINE_MIN: Final = 0.35


@dataclass(frozen=True)
class Edges:
    """Where the sides of a picture lie: L R P A H F, two letters when oblique (PS3.3 C.7.6.1.1.1)."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class SliceRef:
    """One slice: an instance and the 0-based frame in it."""

    instance: InstanceRecord
    frame_index: int
    is_multi_frame: bool

    @property
    def key(self) -> tuple[str, int | None]:
        """SOP Instance UID and 1-based frame number (None: a single-frame instance), as results cite it."""
        return self.instance.sop_uid, self.frame_index + 1 if self.is_multi_frame else None


@dataclass(frozen=True)
class SeriesSlices:
    """The slices of one series in the order they are shown.

    Parameters
    ----------
    aspect : height of a pixel by its width
    center, width : window that shows a slice well at first, in rescaled values
    edges : sides of the picture in the patient; None without orientation
    note : why the order is that of the Instance Number; None when it is anatomical
    """

    series_uid: str
    slices: tuple[SliceRef, ...]
    rows: int
    columns: int
    aspect: float
    center: float
    width: float
    edges: Edges | None
    note: str | None

    def index_of(self, sop_uid: str, frame_number: int | None) -> int | None:
        """Where an image cited by a result is shown."""
        wanted = {(sop_uid, frame_number), (sop_uid, None)}
        return next((i for i, ref in enumerate(self.slices) if ref.key in wanted), None)


class SliceReader:
    """Reads slices of stored series and keeps what was asked for last, within bounds. Thread-safe."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._series: Recent[SeriesSlices | Refusal] = Recent(SERIES_KEPT, lambda _: 1)
        self._planes: Recent[Plane] = Recent(PLANES_BYTES, lambda plane: plane.nbytes)
        self._raw: Recent[bytes] = Recent(RAW_BYTES, len)
        self._decoders = threading.BoundedSemaphore(DECODERS_MAX)

    def series(self, instances: Sequence[InstanceRecord]) -> SeriesSlices | Refusal:
        """The slices of one series, or why it has none that can be shown.

        Raises
        ------
        db.spool_records.BytesMissing
            The bytes of an instance are gone or damaged.
        """
        # With the place of the bytes: housekeeping moves them, and a fresh row says where to.
        key = tuple(sorted((instance.id, instance.location.owner) for instance in instances))
        return self._series.get(key, lambda: self._order(instances))

    def plane(self, ref: SliceRef) -> Plane | Refusal:
        """Values of a slice, (rows, columns) float32, bright is bright; or why it cannot be read."""
        key = (ref.instance.id, ref.frame_index)
        found = self._planes.peek(key)
        if found is not None:
            return found
        with self._decoders:
            raw = self._bytes(ref)
            header = read_header(raw, ref.instance.transfer_syntax, sop_uid=ref.instance.sop_uid)
            if isinstance(header, Refusal):
                return header
            planes = read_pixels(
                raw,
                ref.instance.transfer_syntax,
                header,
                frame_indices=[ref.frame_index],
                bytes_max=FRAME_BYTES_MAX,
            )
        if isinstance(planes, Refusal):
            return planes
        return self._planes.put(key, planes[0])

    def _bytes(self, ref: SliceRef) -> bytes:
        location = ref.instance.location
        if not ref.is_multi_frame:
            return self._store.read(location)
        return self._raw.get(ref.instance.id, lambda: self._store.read(location))

    def _order(self, instances: Sequence[InstanceRecord]) -> SeriesSlices | Refusal:
        headers: list[Dataset] = []
        refusal: Refusal | None = None
        kept: list[InstanceRecord] = []
        for instance in sorted(instances, key=_number_of):
            header = read_header(
                self._store.read(instance.location), instance.transfer_syntax, sop_uid=instance.sop_uid
            )
            if isinstance(header, Refusal):
                refusal = refusal or header
                continue
            headers.append(header)
            kept.append(instance)
        if not kept:
            return refusal or Refusal("NO-PIXELS", "The series holds no image", "Nothing to do.")
        planes, note = _ordered_planes(headers)
        slices = tuple(SliceRef(kept[p.instance], p.frame_index, p.is_multi_frame) for p in planes)
        middle = len(slices) // 2
        shown = self.plane(slices[middle])
        center, width = default_window(headers[planes[middle].instance], planes[middle].frame_index, shown)
        first = planes[middle]
        spacing = first.pixel_spacing_mm
        return SeriesSlices(
            series_uid=kept[0].series_uid,
            slices=slices,
            rows=first.rows,
            columns=first.columns,
            aspect=spacing[0] / spacing[1] if spacing else 1.0,
            center=center,
            width=width,
            edges=edges_of(first),
            note=note,
        )


def _number_of(instance: InstanceRecord) -> tuple[int, str]:
    return (instance.instance_number if instance.instance_number is not None else 1 << 30, instance.sop_uid)


def _ordered_planes(headers: Sequence[Dataset]) -> tuple[Sequence[ImagePlane], str | None]:
    planes = planes_of(headers)
    if len(planes) == 1 or not any(plane.is_placed for plane in planes):
        return planes, None
    stack = assemble(headers, StackRules(tilt_degrees_max=_TILT_ANY))
    if isinstance(stack, Stack) and len(stack.planes) == len(planes):
        return stack.planes, None
    why = stack.sentence if isinstance(stack, Refusal) else "Some images lie outside the main stack"
    return planes, f"{why.rstrip('.')}. Shown in the order of the Instance Number."


def default_window(header: Dataset, frame_index: int, plane: Plane | Refusal) -> tuple[float, float]:
    """(center, width) that shows a slice well: the device's own where it fits, else by its values.

    The device's window of a MONOCHROME1 image is for inverted values, which `plane` no longer holds.
    """
    if str(header.get("PhotometricInterpretation", "")) == "MONOCHROME2":
        groups = functional_groups(header, frame_index)
        tables = [group.FrameVOILUTSequence[0] for group in groups if group.get("FrameVOILUTSequence")]
        for dataset in (*tables, header):
            center, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
            if center is not None and width is not None and width > 0:
                return center, width
    if int(header.get("SamplesPerPixel") or 1) == 3:
        return 127.5, 255.0
    if isinstance(plane, Refusal):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(plane, (1.0, 99.5)))
    return (low + high) / 2.0, max(high - low, 1e-6)


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    """The first of the numbers of an attribute (a device may offer several windows)."""
    value = dataset.get(keyword)
    try:
        number = float(value[0] if isinstance(value, MultiValue | list | tuple) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def edges_of(plane: ImagePlane) -> Edges | None:
    """Where the sides of a picture lie in the patient; None without orientation."""
    if plane.row_direction is None or plane.column_direction is None:
        return None
    return Edges(
        left=_letters(-plane.row_direction),
        right=_letters(plane.row_direction),
        top=_letters(-plane.column_direction),
        bottom=_letters(plane.column_direction),
    )


def _letters(direction: NDArray[np.float64]) -> str:
    by_size = sorted(range(3), key=lambda axis: -abs(float(direction[axis])))
    return "".join(
        _LETTERS[axis][0 if direction[axis] > 0 else 1]
        for axis in by_size
        if abs(float(direction[axis])) >= _LETTER_COSINE_MIN
    )


def slice_png(plane: Plane, *, center: float, width: float) -> bytes:
    """A grey PNG of one slice at a window (LINEAR_EXACT of PS3.3 C.11.2.1.3.2), at most SIDE_MAX px long."""
    grey = np.clip((plane - (center - width / 2.0)) * (255.0 / width), 0.0, 255.0)
    image = Image.fromarray(np.rint(grey).astype(np.uint8))
    if max(image.size) > SIDE_MAX:
        image.thumbnail((SIDE_MAX, SIDE_MAX), Image.Resampling.BOX)
    return png(image)


def heat_png(plane: Plane, heat: NDArray[np.float32], *, center: float, width: float, aspect: float) -> bytes:
    """One slice with the heat of a class over it, pixels square, at most ATTENTION_SIDE px long.

    Parameters
    ----------
    heat : (rows, columns) of the slice, 0 to 1
    aspect : height of a pixel by its width
    """
    rows, columns = plane.shape[0] * aspect, float(plane.shape[1])
    scale = ATTENTION_SIDE / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    levels = np.clip((plane - (center - width / 2.0)) * (255.0 / width), 0.0, 255.0)
    grey = Image.fromarray(np.rint(levels).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    warm = Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR)
    return png(Image.fromarray(heat_over(np.asarray(grey), np.asarray(warm))))


def png(image: Image.Image) -> bytes:
    """A picture as PNG, packed fast rather than small: it goes over a local network, once."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()
