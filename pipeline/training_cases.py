"""DICOM studies with SEG objects as labelled cases for training, so that models never see DICOM.

A SEG says which images it outlines (see reading.seg_mask). Patients are named by a hash. What does not fit is
given back with the reason, never guessed.
Source: PS3.3 A.51 (segmentation IOD)
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from models.training.cases import CasesError
from models.training.prepared import FoundCase, LeftOut
from models.training.sections import DataSection, DicomSegData
from pipeline.reading.assemble import Stack, StackRules, assemble, single_images
from pipeline.reading.headers import read_header
from pipeline.reading.read_series import read_series
from pipeline.reading.refusals import Refusal
from pipeline.reading.seg_mask import SegFault, labels_of, referred_images, sources_of
from pipeline.reading.source_series import SourceSeries

SEGMENTATIONS: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # and label map
PREAMBLE_BYTES: Final = 144  # preamble, DICM and the group length element (PS3.10 7.1)
VOLUME_BYTES_MAX: Final = 8 << 30
HASH_CHARACTERS: Final = 12


@dataclass(frozen=True)
class _File:
    """An image or SEG on disk."""

    path: Path
    sop_uid: str
    series_uid: str
    patient: str  # PatientID, or the study where there is none; never leaves this module but as a hash


def read_dicom_seg(section: DataSection, folder: Path, unit: str) -> Iterator[FoundCase | LeftOut]:
    """Every series (or image) of a folder that a SEG outlines.

    Raises
    ------
    CasesError
        The table of classes is missing or malformed.
    """
    assert isinstance(section, DicomSegData)
    classes = _classes(folder / section.classes) if section.classes is not None else {}
    images: dict[str, list[_File]] = defaultdict(list)
    segs: list[_File] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = _identified(path)
        if isinstance(found, LeftOut):
            yield found
            continue
        file, is_seg = found
        if is_seg:
            segs.append(file)
        else:
            images[file.series_uid].append(file)
    series_of = {file.sop_uid: uid for uid, files in images.items() for file in files}
    outlines: dict[str, list[_File]] = defaultdict(list)
    for seg in segs:
        try:
            outlines[_outlined_series(dcmread(seg.path, stop_before_pixels=True), images, series_of)].append(
                seg
            )
        except SegFault as fault:
            yield LeftOut(seg.sop_uid, f"SEG {seg.path.name}: {fault}", is_fault=True)
    for uid, files in sorted(images.items()):
        if not outlines[uid]:
            yield LeftOut(uid, "no SEG outlines this series", is_fault=False)
            continue
        try:
            yield from _cases(files, outlines[uid], section.segments, unit, classes)
        except SegFault as fault:
            yield LeftOut(uid, f"series {uid}: {fault}", is_fault=True)


def _identified(path: Path) -> tuple[_File, bool] | LeftOut:
    """What a file is, or why it is left out."""
    tags = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Rows"]
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=tags)
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return LeftOut(path.name, "it is no DICOM file", is_fault=False)
    sop, series = str(header.get("SOPInstanceUID") or ""), str(header.get("SeriesInstanceUID") or "")
    if header.get("Rows") is None:  # reports, presentation states, a DICOMDIR
        return LeftOut(path.name, "it is no image", is_fault=False)
    if not sop or not series:
        return LeftOut(path.name, "it has no SOP or Series Instance UID", is_fault=True)
    patient = str(header.get("PatientID") or "") or str(header.get("StudyInstanceUID") or series)
    return _File(path, sop, series, patient), str(header.get("SOPClassUID")) in SEGMENTATIONS


def _outlined_series(
    seg: Dataset, images: Mapping[str, Sequence[_File]], series_of: Mapping[str, str]
) -> str:
    """Series Instance UID of the images that a SEG was drawn on."""
    named = {
        series_of[source]
        for index in range(int(seg.get("NumberOfFrames") or 1))
        for source, _ in sources_of(seg, index)
        if source in series_of
    }
    if not named:
        named = {str(item.SeriesInstanceUID) for item in seg.get("ReferencedSeriesSequence") or ()}
        named &= images.keys()
    if not named:
        raise SegFault("the images it refers to are not in the folder")
    if len(named) > 1:
        raise SegFault(f"it refers to {len(named)} series; give each series a SEG of its own")
    return named.pop()


def _cases(
    files: Sequence[_File],
    segs: Sequence[_File],
    names: Sequence[str],
    unit: str,
    classes: Mapping[str, str],
) -> Iterator[FoundCase | LeftOut]:
    if len(segs) > 1:
        raise SegFault(f"{len(segs)} SEG objects outline it; leave the one that is the truth")
    patients = {file.patient for file in files}
    if len(patients) > 1:
        raise SegFault("its images name several patients")
    seg = dcmread(segs[0].path)
    if unit == "image":
        referred = referred_images(seg)
        for file in files:
            if file.sop_uid not in referred:
                yield LeftOut(file.sop_uid, "no SEG refers to this image", is_fault=False)
        files = [file for file in files if file.sop_uid in referred]
    for source in _volumes(files, unit):
        labels = labels_of(seg, source, names)
        header = source.headers[0]
        uids = [str(header.SOPInstanceUID), source.series_uid, str(header.get("StudyInstanceUID") or "")]
        name = _hashed(uids[1] if unit == "series" else uids[0])
        group = _hashed(files[0].patient)
        class_name = next((classes[uid] for uid in (*uids, files[0].patient) if uid in classes), None)
        yield FoundCase(f"{group}-{name}", group, class_name, source.volume, labels)


def _volumes(files: Sequence[_File], unit: str) -> Iterator[SourceSeries]:
    """The series as one volume, or each image by itself."""
    stored = [_stored(file.path) for file in files]
    headers: list[Dataset] = []
    for file, (raw, syntax) in zip(files, stored, strict=True):
        header = read_header(raw, syntax, sop_uid=file.sop_uid)
        if isinstance(header, Refusal):
            raise SegFault(header.sentence)
        headers.append(header)
    if unit == "series":
        yield _volume(assemble(headers, StackRules()), headers, stored)
        return
    for header, one in zip(headers, stored, strict=True):
        (stack,) = single_images([header])
        yield _volume(stack, [header], [one])


def _volume(
    stack: Stack | Refusal, headers: Sequence[Dataset], stored: Sequence[tuple[bytes, str]]
) -> SourceSeries:
    source = (
        stack
        if isinstance(stack, Refusal)
        else read_series(stack, headers, lambda index: stored[index], bytes_max=VOLUME_BYTES_MAX)
    )
    if isinstance(source, Refusal):
        raise SegFault(f"{source.sentence}. {source.remedy}")
    return source


def _stored(path: Path) -> tuple[bytes, str]:
    """The dataset of a file without its head, and its transfer syntax (PS3.10 7.1)."""
    meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).file_meta
    raw = path.read_bytes()
    return raw[PREAMBLE_BYTES + int(meta.FileMetaInformationGroupLength) :], str(meta.TransferSyntaxUID)


def _classes(table: Path) -> dict[str, str]:
    """Class by UID (of an image, series or study) or Patient ID."""
    if not table.is_file():
        raise CasesError(f"{table} is missing", remedy="Write it with the columns uid,class.")
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames is None or not {"uid", "class"} <= set(reader.fieldnames):
            raise CasesError(f"{table} must have the columns uid and class", remedy="Correct its first line.")
        return {row["uid"]: row["class"] for row in reader}


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]
