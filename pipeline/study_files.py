"""Studies from DICOM files on disk, as the reading stage takes them: to try a model without a node."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from config.identity import is_own_uid
from db.records import InstanceRecord, Location, SeriesRecord
from pipeline.assignment import StudyImages

PREAMBLE_BYTES: Final = 144  # preamble, DICM and the group length element (PS3.10 7.1)
TAGS: Final = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "InstanceNumber"),
    *("Modality", "SeriesDescription", "SeriesNumber", "BodyPartExamined"),
]


class StudyFiles:
    """DICOM files of any number of studies; `read` is what the stages read bytes with.

    Parameters
    ----------
    paths : files, and folders with files in any depth
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.left_out: list[tuple[Path, str]] = []
        self._files: list[Path] = []
        self._headers: dict[str, list[tuple[int, Dataset]]] = defaultdict(list)
        for path in paths:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    self._add(file)

    @property
    def studies(self) -> list[StudyImages]:
        """Each study, by its UID."""
        return [self._study(number, uid) for number, uid in enumerate(sorted(self._headers), start=1)]

    def read(self, location: Location) -> bytes:
        """The dataset of a file, without its head."""
        path = self._files[location.segment]
        meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).file_meta
        return path.read_bytes()[PREAMBLE_BYTES + int(meta.FileMetaInformationGroupLength) :]

    def _add(self, file: Path) -> None:
        try:
            header = dcmread(file, stop_before_pixels=True, specific_tags=TAGS)
        except (InvalidDicomError, OSError, ValueError, EOFError):
            self.left_out.append((file, "it is no DICOM file"))
            return
        uids = [header.get(name) for name in TAGS[:4]]
        if not all(uids):
            self.left_out.append((file, "it has no SOP Class, Instance, Study or Series UID"))
            return
        self._files.append(file)
        self._headers[str(header.StudyInstanceUID)].append((len(self._files) - 1, header))

    def _study(self, number: int, uid: str) -> StudyImages:
        series: dict[str, list[tuple[int, Dataset]]] = defaultdict(list)
        for index, header in self._headers[uid]:
            series[str(header.SeriesInstanceUID)].append((index, header))
        ids = {series_uid: place for place, series_uid in enumerate(series, start=1)}
        instances = [
            self._instance(index, header, ids[series_uid])
            for series_uid, members in series.items()
            for index, header in members
        ]
        rows = [
            _series(ids[series_uid], number, [header for _, header in members])
            for series_uid, members in series.items()
        ]
        return StudyImages(number, uid, 1, tuple(instances), tuple(rows))

    def _instance(self, index: int, header: Dataset, series_id: int) -> InstanceRecord:
        content = self._files[index].read_bytes()
        sop_uid = str(header.SOPInstanceUID)
        return InstanceRecord(
            id=index,
            series_id=series_id,
            series_uid=str(header.SeriesInstanceUID),
            sop_uid=sop_uid,
            sop_class=str(header.SOPClassUID),
            transfer_syntax=str(header.file_meta.TransferSyntaxUID),
            revision=1,
            instance_number=_number(header, "InstanceNumber"),
            received_at=datetime.now(UTC),
            location=Location("files", index, 0, 0, len(content)),
            sha256=hashlib.sha256(content).hexdigest(),
            own=is_own_uid(sop_uid),
            is_image=header.get("Rows") is not None and str(header.get("Modality")) != "SEG",
        )


def _series(series_id: int, study_id: int, headers: list[Dataset]) -> SeriesRecord:
    first = headers[0]
    return SeriesRecord(
        id=series_id,
        study_id=study_id,
        series_uid=str(first.SeriesInstanceUID),
        modality=str(first.get("Modality") or ""),
        description=str(first.get("SeriesDescription") or ""),
        number=_number(first, "SeriesNumber"),
        body_part=str(first.get("BodyPartExamined") or ""),
        instances=len(headers),
        own=False,
    )


def _number(header: Dataset, name: str) -> int | None:
    value = header.get(name)
    return int(value) if value not in (None, "") else None
