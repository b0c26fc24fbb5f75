"""What an analysis reads: the chosen series of a study as one volume, or as still images one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pydicom.dataset import Dataset

from models.manifest import ModelInput
from pipeline.assignment import StudyImages
from pipeline.reading.applicability import extent_refusal, judge, spacing_refusal, stack_rules
from pipeline.reading.assemble import Stack, assemble, single_images
from pipeline.reading.headers import read_header
from pipeline.reading.read_series import read_series
from pipeline.reading.refusals import Refusal, refuse
from pipeline.reading.source_series import SourceSeries
from pipeline.reading.study_series import ReadBytes, headers_of, images_of

# From header, stored bytes and transfer syntax of a still image to a header without gaps.
Complete = Callable[[Dataset, bytes, str], Dataset]
IMAGES_MAX: Final = 64  # still images read in one job; a breast examination has 10 to 40


def stack_of(
    study: StudyImages, series_uid: str, reading: ModelInput, read_bytes: ReadBytes
) -> tuple[Stack, list[Dataset]] | Refusal:
    """The stack of a series with the headers its planes index; or why the model cannot have it."""
    headers: list[Dataset] = []
    for header in headers_of(images_of(study, series_uid), read_bytes):
        if isinstance(header, Refusal):
            return header
        headers.append(header)
    stack = assemble(headers, stack_rules(reading.applicability))
    if isinstance(stack, Refusal):
        return stack
    outside = _outside(reading, stack)
    return outside if outside is not None else (stack, headers)


def read_volume(
    study: StudyImages, series_uid: str, reading: ModelInput, read_bytes: ReadBytes, *, bytes_max: int
) -> list[SourceSeries] | Refusal:
    """One series as one volume of at most `bytes_max`."""
    found = stack_of(study, series_uid, reading, read_bytes)
    if isinstance(found, Refusal):
        return found
    stack, headers = found
    images = images_of(study, series_uid)

    def instance_bytes(index: int) -> tuple[bytes, str]:
        return read_bytes(images[index].location), images[index].transfer_syntax

    source = read_series(stack, headers, instance_bytes, bytes_max=bytes_max)
    return source if isinstance(source, Refusal) else [source]


def read_images(
    study: StudyImages,
    series_uids: tuple[str, ...],
    reading: ModelInput,
    read_bytes: ReadBytes,
    *,
    bytes_max: int,
    complete: Complete | None = None,
) -> list[SourceSeries] | Refusal:
    """Every still image of the series that fits and can be read; the first refusal if none does.

    Images of one device may be a mixture of stills, loops and pages with text; what is left out is noted.

    Parameters
    ----------
    complete : asked about an image whose header does not fit; it is held against the rules again
    """
    images = [image for uid in series_uids for image in images_of(study, uid)]
    sources: list[SourceSeries] = []
    refusals: list[Refusal] = []
    for image in images:
        raw = read_bytes(image.location)
        header = read_header(raw, image.transfer_syntax, sop_uid=image.sop_uid)
        if isinstance(header, Dataset):
            source = _read_image(header, raw, image.transfer_syntax, reading, bytes_max, complete)
        else:
            source = header
        if isinstance(source, Refusal):
            refusals.append(source)
        else:
            sources.append(source)
        if len(sources) > IMAGES_MAX:
            return refuse("TOO-MANY-IMAGES", images=len(images), most=IMAGES_MAX)
    if not sources:
        nothing = refuse("NOT-AN-IMAGE", what="The study", kinds="nothing")
        return refusals[0] if refusals else nothing
    if refusals:
        note = f"{len(refusals)} of {len(images)} images were not read; the first: {refusals[0].sentence}"
        sources[0] = replace(sources[0], notes=(*sources[0].notes, note))
    return sources


def _read_image(
    header: Dataset,
    raw: bytes,
    transfer_syntax: str,
    reading: ModelInput,
    bytes_max: int,
    complete: Complete | None,
) -> SourceSeries | Refusal:
    verdict = judge(reading.applicability, header)
    if verdict.refusal is not None and complete is not None:
        verdict = judge(reading.applicability, complete(header, raw, transfer_syntax))
    if verdict.refusal is not None:
        return verdict.refusal
    (stack,) = single_images([header])
    if isinstance(stack, Refusal):
        return stack
    outside = _outside(reading, stack)
    if outside is not None:
        return outside
    return read_series(stack, [header], lambda _: (raw, transfer_syntax), bytes_max=bytes_max)


def _outside(reading: ModelInput, stack: Stack) -> Refusal | None:
    """Whether spacings or extents of a stack are not those the model reads."""
    first = stack.planes[0]
    shape = (len(stack.planes), first.rows, first.columns)
    pixel_mm, slice_mm = stack.pixel_spacing_mm, stack.slice_spacing_mm
    return spacing_refusal(reading.applicability, pixel_mm, slice_mm) or extent_refusal(
        reading.applicability, shape, pixel_mm, slice_mm
    )
