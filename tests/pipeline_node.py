"""A node in a folder for tests of the pipeline: studies as if received, a worker beside.

Studies come in as the listener would leave them: bytes in the spool, rows in the database, a plan job queued.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from config.settings import PackageSettings, PeerSettings, Settings
from db.closing import close_study
from db.engine import Database
from db.intake import record_batch
from db.records import ReceivedInstance
from db.spool import SpoolWriter
from db.views import StudyView
from db.worklist import study as study_view
from models.package import digest_of
from models.training.golden import golden_input

REPOSITORY = Path(__file__).resolve().parents[1]
BREAST, BRAIN = "breast-us-lesion", "brain-flair-lesion"
TEST_BREAST, TEST_BRAIN = f"test-{BREAST}", f"test-{BRAIN}"
NEVER_IMAGES = ("1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.88", "1.2.840.10008.5.1.4.1.1.11")
PATIENCE_SECONDS = 240.0


def encoded(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The dataset as it stands in a C-STORE."""
    syntax = UID(transfer_syntax)
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(stream, dataset)
    return stream.getvalue()


def breast_image(study_uid: str, *, series_uid: str | None = None, sop_uid: str | None = None) -> Dataset:
    """One generated ultrasound image of a breast, with a region that calibrates it."""
    pixels = golden_input("breast-us")["image"][0]
    dataset = _patient(study_uid, series_uid or f"{study_uid}.1", sop_uid or f"{study_uid}.1.1", "US")
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    dataset.BodyPartExamined = "BREAST"
    dataset.InstanceNumber = 1
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = pixels.shape[1] - 1, pixels.shape[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
    dataset.SequenceOfUltrasoundRegions = [region]
    put_pixels(dataset, pixels)
    return dataset


def flair_slices(study_uid: str, *, series: int = 1, description: str = "AX FLAIR") -> list[Dataset]:
    """A generated head, seven axial slices 5 mm apart."""
    series_uid = f"{study_uid}.{series}"
    slices = []
    for k, pixels in enumerate(golden_input("brain-flair")["image"]):
        dataset = _patient(study_uid, series_uid, f"{series_uid}.{k + 1}", "MR")
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        dataset.SeriesDescription, dataset.BodyPartExamined = description, "BRAIN"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.FrameOfReferenceUID = f"{study_uid}.99"
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient, dataset.SliceThickness = [-80, -90, 5 * k], 5
        dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.94, 0.94]
        put_pixels(dataset, pixels.clip(0).astype(np.uint16))
        slices.append(dataset)
    return slices


def _patient(study_uid: str, series_uid: str, sop_uid: str, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = (
        sop_uid,
        series_uid,
        study_uid,
    )
    dataset.Modality, dataset.SeriesNumber = modality, 1
    dataset.PatientID, dataset.PatientName, dataset.PatientSex = "PHANTOM-1", "Phantom^Test", "O"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "19600101", "20260101", "120000"
    dataset.StudyID, dataset.AccessionNumber = "1", "A1"
    dataset.Manufacturer = "Phantom"
    return dataset


def put_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    """Write grey pixels (rows, columns) into a header."""
    bits = pixels.dtype.itemsize * 8
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.PixelData = pixels.tobytes()


@dataclass
class Node:
    """State folder, settings and database of one node."""

    folder: Path
    settings: Settings
    database: Database
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def receive(
        self,
        datasets: Iterable[Dataset | tuple[bytes, str]],
        *,
        source_ae: str = "SENDER",
        segment_bytes: int = 1 << 22,
        partial: bool = False,
        closes: bool = True,
    ) -> list[str]:
        """Take datasets in as the listener would and close their studies, unless told not to; the UIDs."""
        items = []
        spool = self.settings.spool_folder
        with SpoolWriter(spool, store="instances", segment_bytes=segment_bytes) as writer:
            for dataset in datasets:
                raw, syntax = (
                    (encoded(dataset), ExplicitVRLittleEndian) if isinstance(dataset, Dataset) else dataset
                )
                header = dataset if isinstance(dataset, Dataset) else _head(raw, syntax)
                location = writer.append(b"{}", [raw], len(raw))
                items.append(_received(header, raw, syntax, location, source_ae))
            writer.commit()
            mark = writer.committed
        record_batch(self.database, items, mark)
        studies = list(dict.fromkeys(item.study_uid for item in items))
        for study_uid in studies if closes else ():
            record = self.view(study_uid).study
            close_study(
                self.database, record.id, record.revision, how="quiet", partial=partial, evidence_text="test"
            )
        return studies

    def view(self, study_uid: str) -> StudyView:
        """Everything the rows say about a study."""
        view = study_view(self.database, study_uid)
        assert view is not None
        return view

    def settings_file(self) -> Path:
        """The settings as a file, for a worker in a process of its own."""
        import yaml

        path = self.folder / "preread.yaml"
        path.write_text(yaml.safe_dump(self.settings.model_dump(mode="json")))
        return path

    def start_worker(self, name: str, *, kill_point: str | None = None) -> "subprocess.Popen[bytes]":
        """`preread worker` as a process; `kill_point` makes it end there as SIGKILL would."""
        environment = {k: v for k, v in os.environ.items() if k != "PREREAD_KILL_POINT"}
        environment["PYTHONPATH"] = str(REPOSITORY)
        if kill_point is not None:
            environment["PREREAD_KILL_POINT"] = kill_point
        process = subprocess.Popen(
            [sys.executable, "-m", "preread", "worker", "--config", self.settings_file(), "--name", name],
            cwd=self.folder,
            env=environment,
        )
        self.processes.append(process)
        return process

    def wait_until(self, what: Callable[[], bool], *, channel: str = "jobs") -> None:
        """Wait for something the database shows; hints wake the wait, a failure names the state."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while not what():
            assert time.monotonic() < ends, "it did not happen in time"
            self.database.wait_for(channel, 0.25)

    def close(self) -> None:
        """Stop what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.database.close()


def make_node(
    folder: Path,
    database_url: str,
    *,
    package_folder: Path | None = None,
    peers: tuple[PeerSettings, ...] = (),
    **branches: Any,
) -> Node:
    """A node whose packages are those in `package_folder` and no others; None: the shipped ones."""
    accepted = {}
    if package_folder is not None:
        for manifest in sorted(package_folder.glob("*/model.json")):
            content = json.loads(manifest.read_text())
            accepted[content["id"]] = digest_of(content)
    settings = Settings.model_validate(
        {
            "state_folder": folder / "state",
            "database": {"url": database_url},
            "peers": [peer.model_dump() for peer in peers],
            "worker": {
                "device": "cpu",
                "threads": 1,
                "lease_seconds": 5,
                "poll_seconds": 0.2,
                "memory_gib": 4,
            },
            "delivery": {"first_wait_seconds": 0.2, "wait_seconds_max": 1, "answer_seconds": 10},
        }
        | branches
    )
    if package_folder is not None:
        chosen = PackageSettings(folders=(package_folder,), accepted=accepted, enabled=tuple(accepted))
        settings = settings.model_copy(update={"packages": chosen})
    settings.spool_folder.mkdir(parents=True, exist_ok=True)
    return Node(folder, settings, Database.open(database_url))


def _head(raw: bytes, transfer_syntax: str) -> Dataset:
    from pipeline.reading.headers import read_header

    header = read_header(raw, transfer_syntax, sop_uid="unknown")
    assert isinstance(header, Dataset)
    return header


def _received(header: Dataset, raw: bytes, syntax: str, location: Any, source_ae: str) -> ReceivedInstance:
    sop_class = str(header.get("SOPClassUID", ""))
    attributes = {
        keyword: str(header.get(keyword))
        for keyword in ("PatientID", "PatientName", "Modality", "SeriesDescription", "InstanceNumber")
        if header.get(keyword) is not None
    }
    return ReceivedInstance(
        sop_uid=str(header.SOPInstanceUID),
        sop_class=sop_class,
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        transfer_syntax=str(syntax),
        calling_ae=source_ae,
        called_ae="PREREAD",
        address="127.0.0.1",
        received_at=time.time(),
        location=location,
        sha256=hashlib.sha256(raw).hexdigest(),
        own=False,
        is_image=not sop_class.startswith(NEVER_IMAGES),
        attributes=attributes,
    )


def file_dataset(path: Path) -> tuple[bytes, str]:
    """(dataset bytes, transfer syntax) of a Part 10 file."""
    from pydicom.filereader import read_dataset

    raw = path.read_bytes()
    length = int.from_bytes(raw[140:144], "little")
    meta = read_dataset(io.BytesIO(raw[144 : 144 + length]), False, True)
    return raw[144 + length :], str(meta.TransferSyntaxUID)
