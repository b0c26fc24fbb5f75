"""The series of a study from rows and bytes to headers: a few of each for selection, all for a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from db.records import InstanceRecord, Location
from pipeline.assignment import StudyImages
from pipeline.reading.headers import read_header
from pipeline.reading.pixels import frames_of
from pipeline.reading.refusals import Refusal
from pipeline.reading.selection import SeriesHeaders, representatives

ReadBytes = Callable[[Location], bytes]
"""The stored dataset at a location, verified; raises when it is not there."""


def images_of(study: StudyImages, series_uid: str) -> list[InstanceRecord]:
    """The images of a series in an order that does not depend on how they arrived."""
    images = [i for i in study.instances if i.series_uid == series_uid and i.is_image and not i.own]
    return sorted(images, key=lambda image: (image.instance_number or 0, image.sop_uid))


def headers_of(images: Sequence[InstanceRecord], read_bytes: ReadBytes) -> list[Dataset | Refusal]:
    """The header of each image, or why it cannot be read."""
    return [
        read_header(read_bytes(image.location), image.transfer_syntax, sop_uid=image.sop_uid)
        for image in images
    ]


def series_headers(study: StudyImages, read_bytes: ReadBytes) -> list[SeriesHeaders]:
    """Every series of a study as selection sees it, in the order they came."""
    return [_sampled(study, series.series_uid, read_bytes) for series in study.series]


def _sampled(study: StudyImages, series_uid: str, read_bytes: ReadBytes) -> SeriesHeaders:
    images = images_of(study, series_uid)
    others = [i for i in study.instances if i.series_uid == series_uid and not i.is_image]
    if not images and not others:
        # Only results of ours that came back are left out of the instances.
        return SeriesHeaders(series_uid, (), 0, own=True)
    found = headers_of([images[i] for i in representatives(len(images))], read_bytes)
    readable = tuple(header for header in found if isinstance(header, Dataset))
    unreadable = next((header for header in found if isinstance(header, Refusal)), None)
    return SeriesHeaders(
        series_uid,
        readable,
        # A multi-frame series is one of instances alike: what the sample holds stands for the rest.
        sum(map(frames_of, readable)) * len(images) // len(readable) if readable else len(images),
        other_classes=tuple(other.sop_class for other in others),
        unreadable=unreadable if not readable else None,
    )
