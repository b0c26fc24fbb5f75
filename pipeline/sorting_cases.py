"""Real DICOM series as cases of the series sorter: CT and MR in zips, and single odd files.

Too few for folds: one CT is always trained on, everything else is only ever judged. What the series of
brain-mr-real show stands in their descriptions; what the odd files show was read by eye and stands in a table
beside this page, with what nobody could tell left out.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from models.sorting.cases import ALWAYS_TRAINED, ONLY_JUDGED, QUALITY, SortingCase
from models.sorting.degraded import FINE
from models.sorting.real_cases import BODY, CONTRAST, CT, FLAIR, HEAD, MODALITY, T1, TRUNK
from pipeline.reading.headers import read_header
from pipeline.reading.image_planes import planes_of
from pipeline.reading.pixels import Plane, read_pixels
from pipeline.reading.refusals import Refusal

PREAMBLE_BYTES: Final = 144  # preamble, DICM and the group length element (PS3.10 7.1)
IMAGE_BYTES_MAX: Final = 64 << 20
FILE_BYTES_MAX: Final = 256 << 20
ODD_TABLE: Final = Path(__file__).parent / "sorting_odd_dicom.csv"


@dataclass(frozen=True)
class _Piece:
    """Images of one series in a zip: members below `inside`."""

    name: str
    archive: str
    inside: str
    fold: int
    truth: dict[str, str]


CT_PIECES: Final = (
    _Piece("totalsegmentator-ct", "totalsegmentator-ct.zip", "", ALWAYS_TRAINED, {BODY: TRUNK, MODALITY: CT}),
    _Piece("dcmqi-ct", "dcmqi-ct-3slice.zip", "ct/", ONLY_JUDGED, {BODY: TRUNK, MODALITY: CT}),
    _Piece("ge-head-ct", "ge-head-tilt.zip", "", ONLY_JUDGED, {BODY: HEAD, MODALITY: CT}),
)
MR_SEQUENCES: Final = (
    ("FLAIR", {MODALITY: FLAIR}),
    ("T1post", {MODALITY: T1, CONTRAST: "with"}),
    ("T1pre", {MODALITY: T1, CONTRAST: "without"}),
)


def dicom_cases(folder: Path) -> Iterator[SortingCase]:
    """The series of ct-real, brain-mr-real and odd-dicom."""
    for piece in CT_PIECES:
        yield _case(folder / "ct-real" / piece.archive, piece, "ct-real")
    for archive in sorted((folder / "brain-mr-real").glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            series = sorted({name.split("/")[0] for name in opened.namelist() if name.endswith(".dcm")})
        for name in series:
            truth = next(dict(truth) for word, truth in MR_SEQUENCES if word in name)
            piece = _Piece(f"{archive.stem}-{name}", "", f"{name}/", ONLY_JUDGED, {BODY: HEAD, **truth})
            yield _case(archive, piece, "brain-mr-real")
    yield from odd_files(folder / "odd-dicom")


def odd_files(folder: Path) -> Iterator[SortingCase]:
    """Every file of the table of odd files, with what was read by eye."""
    with ODD_TABLE.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            truth = {question: row[question] for question in (BODY, MODALITY, CONTRAST) if row[question]}
            found = image_of((folder / row["file"]).read_bytes())
            if found is not None and truth:
                yield SortingCase(
                    row["file"], f"odd-{row['shows']}", "odd-dicom", ONLY_JUDGED, False, found[1][None], truth
                )


def image_of(content: bytes) -> tuple[Dataset, Plane] | None:
    """The header and the first frame of a file; None where it holds no readable image."""
    if len(content) > FILE_BYTES_MAX:
        return None
    tags = ["SOPInstanceUID", "Rows"]
    try:
        meta = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=tags).file_meta
        syntax = str(meta.TransferSyntaxUID)
        raw = content[PREAMBLE_BYTES + int(meta.FileMetaInformationGroupLength) :]
    except (InvalidDicomError, AttributeError, ValueError, EOFError, OSError):
        return None
    header = read_header(raw, syntax, sop_uid="")
    if isinstance(header, Refusal):
        return None
    planes = read_pixels(raw, syntax, header, frame_indices=[0], bytes_max=IMAGE_BYTES_MAX)
    return None if isinstance(planes, Refusal) else (header, planes[0])


def _case(archive: Path, piece: _Piece, kind: str) -> SortingCase:
    with zipfile.ZipFile(archive) as opened:
        names = [n for n in opened.namelist() if n.startswith(piece.inside) and n.endswith(".dcm")]
        if not piece.inside:
            names = [name for name in names if "/" not in name]
        found = [one for name in sorted(names) if (one := image_of(opened.read(name))) is not None]
    found.sort(key=lambda one: _height(one[0]))
    array = np.stack([plane for _, plane in found])
    truth = {**piece.truth, QUALITY: FINE}
    return SortingCase(piece.name, archive.stem, kind, piece.fold, False, array, truth)


def _height(header: Dataset) -> float:
    """Along the normal of the image, mm."""
    plane = planes_of([header])[0]
    return 0.0 if plane.position is None else float(np.dot(plane.position, plane.normal))
