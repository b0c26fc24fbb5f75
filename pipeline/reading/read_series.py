"""A chosen stack and the stored bytes of its instances in, a SourceSeries out: pixels in slice order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from models.volume import Volume
from pipeline.reading.assemble import Stack
from pipeline.reading.pixels import read_pixels
from pipeline.reading.refusals import Refusal, refuse
from pipeline.reading.source_series import SourceFrame, SourceSeries

_MIB: Final = 1 << 20

# Bytes of the instance at an index of `headers`, and their transfer syntax.
InstanceBytes = Callable[[int], tuple[bytes, str]]


def read_series(
    stack: Stack, headers: Sequence[Dataset], instance_bytes: InstanceBytes, *, bytes_max: int
) -> SourceSeries | Refusal:
    """Decode the planes of a stack into one volume.

    Parameters
    ----------
    stack : of `pipeline.reading.assemble`, whose planes index `headers`
    headers : of the instances the stack was made from
    instance_bytes : gives the stored dataset of an instance; called once per instance
    bytes_max : most memory of the volume, in float32

    Returns
    -------
    the series as read, or the refusal of the first image that cannot be read (see
    `pipeline.reading.pixels.read_pixels`)
    """
    first = stack.planes[0]
    need = len(stack.planes) * first.rows * first.columns * 4
    if need > bytes_max:
        return refuse("PIXELS-TOO-LARGE", what="the series", mib=need / _MIB, limit_mib=bytes_max / _MIB)
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None
    by_instance: dict[int, list[int]] = {}
    for slice_index, plane in enumerate(stack.planes):
        by_instance.setdefault(plane.instance, []).append(slice_index)
    for instance, slice_indices in by_instance.items():
        raw, transfer_syntax = instance_bytes(instance)
        planes = read_pixels(
            raw,
            transfer_syntax,
            headers[instance],
            frame_indices=[stack.planes[i].frame_index for i in slice_indices],
            bytes_max=bytes_max,
        )
        if isinstance(planes, Refusal):
            return planes
        if array is None:
            # Not before the first image was decoded: a header alone must not cost memory.
            array = np.empty((len(stack.planes), first.rows, first.columns), dtype=np.float32)
        for slice_index, pixels in zip(slice_indices, planes, strict=True):
            array[slice_index] = pixels
    if array is None:
        raise ValueError("a stack has at least one plane")
    volume = Volume(array, stack.affine, stack.pixel_spacing_mm, stack.slice_spacing_mm)
    frames = tuple(
        SourceFrame(
            sop_uid=plane.sop_uid,
            sop_class=str(headers[plane.instance].SOPClassUID),
            frame_number=plane.frame_index + 1 if plane.is_multi_frame else None,
            header=headers[plane.instance],
        )
        for plane in stack.planes
    )
    return SourceSeries(volume, frames, tuple(headers[i] for i in by_instance), stack.notes)
