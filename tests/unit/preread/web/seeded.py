"""A node with studies for tests of the page: real rows by db's own functions, real bytes in a real spool.

Only the model is not run: what it "says" is the truth of the generated images, so that a study takes
milliseconds. Everything after it (measuring, SEG, report, picture, deliveries) is the product's own.
"""

import datetime
import hashlib
import itertools
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from config.settings import Settings
from db.closing import close_study, requeue_study
from db.engine import Database
from db.instances import ByteStore, instances_of, series_of
from db.intake import record_batch
from db.jobs import claim_next, fail, finish_plan
from db.records import NewResult, ReceivedInstance, SelectionRecord
from db.results import claim_delivery, commit_analysis, settle_delivery
from db.spool import SpoolWriter
from db.worklist import study as study_rows
from db.worklist import study_uid_of
from models.explanation.attention import Attention
from models.manifest import (
    FORMAT,
    Evaluation,
    Golden,
    Manifest,
    PackageFile,
    Runtime,
    Training,
)
from models.networks.registry import EffNetLite0UNetSpec
from models.ood.gauge import Likeness
from models.package import Package, load_package
from models.predictor import Prediction
from models.training.recipe_file import shipped_recipe
from pipeline.assignment import StudyImages
from pipeline.job_rows import deliveries_of
from pipeline.reading.refusals import Refusal
from pipeline.reading.study_sources import read_images, read_volume
from pipeline.results.result_set import build_result_set

# Ids of their own: the shipped packages of the same declarations run on the node as well.
BRAIN_MODEL, BREAST_MODEL = "brain-test", "breast-test"
DECLARED = {BRAIN_MODEL: "brain-flair-lesion", BREAST_MODEL: "breast-us-lesion"}
MR, US, CT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("4", "6.1", "2"))
ROOT = "1.2.826.0.1.3680043.8.498"
SEGMENT_BYTES = 512 << 10
_uids = itertools.count(1)


@dataclass
class Clock:
    """The database's clock, so that a study can have come in an hour ago."""

    seconds: float = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).timestamp())

    def __call__(self) -> float:
        return self.seconds

    def step(self, seconds: float) -> None:
        self.seconds += seconds


def uid() -> str:
    """A new UID."""
    return f"{ROOT}.{next(_uids)}"


def image_header(
    modality: str, sop_class: str, study_uid: str, series_uid: str, index: int, **values
) -> Dataset:
    """What every generated image carries."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID, found.SOPInstanceUID = sop_class, uid()
    found.StudyInstanceUID, found.SeriesInstanceUID = study_uid, series_uid
    found.Modality, found.InstanceNumber, found.SeriesNumber = modality, index + 1, 2
    found.PatientName, found.PatientID, found.PatientSex = "DOE^JANE", "P-4711", "F"
    found.PatientBirthDate, found.AccessionNumber, found.StudyID = "19500203", "A1023", "S1"
    found.StudyDate, found.StudyTime = "20260304", "101112"
    found.ReferringPhysicianName, found.Manufacturer = "", "Generated"
    put(found, values)
    return found


def put(header: Dataset, values) -> None:
    """Set attributes, also to what the standard forbids: a peer does not ask."""
    for keyword, value in values.items():
        vr = dictionary_VR(tag_for_keyword(keyword))
        header.add(DataElement(tag_for_keyword(keyword), vr, value, validation_mode=IGNORE))


def with_pixels(header: Dataset, array: np.ndarray) -> Dataset:
    """Add 16-bit (or 8-bit) grey pixels."""
    bits = 8 if array.dtype == np.uint8 else 16
    header.Rows, header.Columns = array.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = 0
    header.PixelData = array.astype(np.uint8 if bits == 8 else "<u2").tobytes()
    if len(header.PixelData) % 2:
        header.PixelData += b"\0"
    header["PixelData"].VR = "OB" if bits == 8 else "OW"
    return header


def mr_series(
    volume: np.ndarray, *, spacing=(0.94, 0.94), step=5.0, study_uid=None, **values
) -> list[Dataset]:
    """A FLAIR series of a volume (slices, rows, columns), slice 0 the lowest."""
    study_uid, series_uid, frame = study_uid or uid(), uid(), uid()
    images = []
    for index, plane in enumerate(volume):
        one = image_header(
            "MR",
            MR,
            study_uid,
            series_uid,
            index,
            StudyDescription="Brain without contrast",
            SeriesDescription="AX FLAIR",
            BodyPartExamined="BRAIN",
            FrameOfReferenceUID=frame,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-120.0, -120.0, -40.0 + step * index],
            PixelSpacing=list(spacing),
            SliceThickness=step,
            WindowCenter=float(np.percentile(volume, 97)) / 2,
            WindowWidth=float(np.percentile(volume, 99.5)),
            EchoTime=120,
            RepetitionTime=9000,
            InversionTime=2500,
            ImageType=["ORIGINAL", "PRIMARY", "M"],
        )
        put(one, values)
        images.append(with_pixels(one, plane.astype(np.uint16)))
    return images


def us_image(plane: np.ndarray, *, study_uid=None, series_uid=None, index=0, **values) -> Dataset:
    """One breast ultrasound image with a calibrated region."""
    one = image_header(
        "US",
        US,
        study_uid or uid(),
        series_uid or uid(),
        index,
        StudyDescription="Breast left",
        SeriesDescription="Breast",
        BodyPartExamined="BREAST",
        ImageType=["ORIGINAL", "PRIMARY"],
    )
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = plane.shape[1] - 1, plane.shape[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.008
    one.SequenceOfUltrasoundRegions = [region]
    put(one, values)
    return with_pixels(one, plane.astype(np.uint8))


def small_brain(slices=6, side=64) -> tuple[np.ndarray, np.ndarray]:
    """A grey disc with two bright balls, and their labels; fast."""
    s, r, c = np.ogrid[:slices, :side, :side]
    volume = 120.0 * (((r - side / 2) ** 2 + (c - side / 2) ** 2) < (side * 0.42) ** 2) + np.zeros(
        (slices, 1, 1)
    )
    labels = np.zeros(volume.shape, np.uint16)
    for number, (row, column, radius) in enumerate(((24, 26, 8), (42, 40, 4)), start=1):
        ball = ((s - slices / 2) * 2.5) ** 2 + (r - row) ** 2 + (c - column) ** 2 <= radius**2
        labels[ball] = number
        volume[ball] = 240.0
    return volume, labels


def small_breast(rows=80, columns=100) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a dark ellipse, and its label."""
    r, c = np.ogrid[:rows, :columns]
    inside = ((r - rows / 2) / 14) ** 2 + ((c - columns / 2) / 20) ** 2 <= 1
    plane = np.random.default_rng(3).integers(70, 150, (rows, columns)).astype(np.uint8)
    plane[inside] = 20
    return plane, inside[None].astype(np.uint16)


def write_package(folder: Path, model: str) -> Package:
    """A package of the shipped declaration with tiny files, so that it loads and shows."""
    declared = shipped_recipe(DECLARED[model])
    target = folder / model
    target.mkdir(parents=True)
    files = []
    for role in ("weights", "golden_in", "golden_out", "card"):
        content = f"{role} of {model}".encode()
        (target / f"{role}.bin").write_bytes(content)
        files.append(
            PackageFile(
                path=f"{role}.bin", role=role, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
        )
    brain = model == BRAIN_MODEL
    figures = (
        [
            ("dice_mean", 0.823, (0.771, 0.868), 14, "patients"),
            ("sensitivity", 0.94, (0.88, 0.98), 14, "patients"),
        ]
        if brain
        else [
            ("dice_mean", 0.744, (0.71, 0.777), 99, "images"),
            ("accuracy", 0.828, (0.75, 0.89), 99, "images"),
            ("malignant_auc", 0.941, (0.9, 0.975), 99, "images"),
        ]
    )
    manifest = Manifest(
        format=FORMAT,
        id=model,
        version="1.2.0",
        title=declared.title,
        summary=declared.summary,
        released="2026-01-01",
        files=tuple(files),
        task=declared.task,
        network=EffNetLite0UNetSpec(
            registry="effnet_lite0_unet@1",
            in_channels=3 if brain else 1,
            classes=len(declared.classes),
            decoder_channels=(8, 8, 4, 4),
        ),
        inputs=(declared.input,),
        preprocess=declared.preprocess,
        inference=declared.inference,
        postprocess=declared.postprocess,
        findings=declared.coded_findings,
        operating_points=declared.operating_points,
        evaluation=tuple(
            Evaluation(
                dataset=declared.data.name,
                split_sha256="0" * 64,
                subset="scored",
                metric=metric,
                value=value,
                ci95=interval,
                n=n,
                unit=unit,
            )
            for metric, value, interval, n, unit in figures
        ),
        training=Training(
            recipe="test",
            recipe_sha256="0" * 64,
            seed=1,
            steps=0,
            seconds=0.0,
            data=(declared.data.counted(0),),
            simulated_fraction=0.2,
            pretrained=(),
        ),
        runtime=Runtime(torch="2.13", devices=("cpu",), memory=declared.memory, parameters=1),
        golden=Golden(
            probability_tolerance=0.02,
            class_tolerance=0.02,
            lesions=1,
            class_name=None if brain else "benign",
        ),
        card=declared.card,
    )
    (target / "model.json").write_text(manifest.model_dump_json())
    return load_package(target)


class SeededNode:
    """State folder, database and packages of a node, and the verbs that fill them."""

    def __init__(self, folder: Path, *, template: "SeededNode | None" = None, **settings) -> None:
        self.folder, self.clock = folder, Clock()
        if template is not None:  # a closed node: building one takes much longer than copying it
            shutil.copytree(template.folder, folder)
        self.packages = {
            model: load_package(folder / "packages" / model)
            if template
            else write_package(folder / "packages", model)
            for model in (BRAIN_MODEL, BREAST_MODEL)
        }
        tree = {
            "state_folder": folder / "state",
            "web": {"port": 0},
            "listener": {"port": 0, "reserve_gib": 0},
            "peers": [
                {
                    "name": "PACS1",
                    "ae_title": "PACS1",
                    "host": "127.0.0.1",
                    "port": 9,
                    "addresses": ["127.0.0.1"],
                }
            ],
            "packages": {
                "folders": [folder / "packages"],
                "accepted": {model: package.digest for model, package in self.packages.items()},
            },
        }
        self.settings = Settings.model_validate({**tree, **settings})
        self.settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self.db = Database.open(self.settings.database_url, clock=self.clock)
        if template is None:
            self.db.migrate()
        self.spool = SpoolWriter(
            self.settings.spool_folder, store="instances", segment_bytes=SEGMENT_BYTES, ahead=0, durable=False
        )
        self.results = SpoolWriter(
            self.settings.spool_folder, store="results-0", segment_bytes=SEGMENT_BYTES, ahead=0, durable=False
        )
        self.store = ByteStore(self.settings.spool_folder)

    def close(self) -> None:
        self.spool.close()
        self.results.close()
        self.db.close()

    def receive(self, images: list[Dataset], *, source: str = "PACS1") -> str:
        """Make images durable and record them, as the listener does; returns the Study Instance UID."""
        items = []
        for image in images:
            raw = encoded(image)
            location = self.spool.append(b"{}", [raw], len(raw))
            items.append(
                ReceivedInstance(
                    sop_uid=str(image.SOPInstanceUID),
                    sop_class=str(image.SOPClassUID),
                    study_uid=str(image.StudyInstanceUID),
                    series_uid=str(image.SeriesInstanceUID),
                    transfer_syntax=str(ExplicitVRLittleEndian),
                    calling_ae=source,
                    called_ae="PREREAD",
                    address="127.0.0.1",
                    received_at=self.clock(),
                    location=location,
                    sha256=hashlib.sha256(raw).hexdigest(),
                    own=False,
                    is_image="PixelData" in image,
                    attributes={
                        element.keyword: str(element.value)
                        for element in image
                        if element.VR != "SQ" and element.keyword != "PixelData" and element.value is not None
                    },
                )
            )
        self.spool.commit()
        record_batch(self.db, items, self.spool.committed)
        return str(images[0].StudyInstanceUID)

    def whole(self, study_uid: str) -> None:
        """Close a study after two quiet seconds."""
        self.clock.step(2)
        study = self.view(study_uid).study
        text = f"no new image for 2 s, {study.instances} images"
        assert close_study(self.db, study.id, study.revision, how="quiet", partial=False, evidence_text=text)

    def planned(
        self, study_uid: str, *, model: str | None, code: str = "NO-MODEL", sentence: str = ""
    ) -> None:
        """Plan a study for one model, which takes its first series; or for none."""
        claim = self._claim("plan")
        first, *others = self.view(study_uid).series
        words = sentence or "MR FLAIR by description and inversion time 2500, axial"
        rows = [
            SelectionRecord(
                claim.study_id,
                claim.revision,
                model or BRAIN_MODEL,
                first.series_uid,
                model is not None,
                1 if model else None,
                None if model else code,
                words,
            )
        ]
        rows += [
            SelectionRecord(
                claim.study_id,
                claim.revision,
                model or BRAIN_MODEL,
                other.series_uid,
                False,
                None,
                "SEQUENCE",
                "not taken: the sequence is T1, the model needs FLAIR",
            )
            for other in others
        ]
        assert finish_plan(
            self.db,
            claim,
            selections=rows,
            analyse=[(model, {"series": [first.series_uid]})] if model else [],
            reason_code=None if model else code,
            sentence=None if model else words,
        )

    def analysed(
        self,
        study_uid: str,
        labels: np.ndarray,
        *,
        class_scores: dict[str, float] | None = None,
        heat: np.ndarray | None = None,
        likeness: Likeness | None = None,
    ) -> None:
        """Analyse a planned study: `labels` is what the model is taken to have drawn, `heat` its heat map."""
        claim = self._claim("analyse")
        package = self.packages[claim.model]
        series = tuple(claim.parameters["series"])
        study = StudyImages(
            claim.study_id,
            study_uid,
            claim.revision,
            tuple(instances_of(self.db, claim.study_id)),
            tuple(series_of(self.db, claim.study_id)),
        )
        reading = package.manifest.inputs[0]
        if reading.unit == "image":
            sources = read_images(study, series, reading, self.store.read, bytes_max=1 << 30)
        else:
            sources = read_volume(study, series[0], reading, self.store.read, bytes_max=1 << 30)
        assert not isinstance(sources, Refusal), sources
        name = max(class_scores, key=class_scores.get) if class_scores else None
        predictions = [
            prediction(part, name, class_scores, likeness) for part in self._parts(labels, sources)
        ]
        if heat is not None:
            attention = Attention(heat, name or "", "grad-cam", "encoder.blocks.10")
            predictions = [replace(one, attention=attention) for one in predictions]
        made = build_result_set(
            sources,
            predictions,
            package,
            node=self.settings.node,
            revision=claim.revision,
            job_created_at=claim.created_at,
        )
        assert not isinstance(made, Refusal), made
        results = []
        for item in made.objects:
            location = self.results.append(b"{}", [item.part10], len(item.part10))
            digest = hashlib.sha256(item.part10).hexdigest()
            results.append(
                NewResult(
                    item.kind,
                    item.sop_uid,
                    item.sop_class,
                    item.series_uid,
                    location,
                    digest,
                    len(item.part10),
                )
            )
        self.results.commit()
        self.clock.step(6)
        sender = self.view(study_uid).study.source_ae
        targets = self.settings.destinations_of(sender)
        assert commit_analysis(
            self.db,
            claim,
            outcome="analysed",
            reason_code=None,
            sentence=None,
            findings=made.findings,
            results=results,
            deliveries=deliveries_of(results, [peer.name for peer in targets]),
        )

    @staticmethod
    def _parts(labels, sources):
        return [labels] if len(sources) == 1 else [labels[index : index + 1] for index in range(len(sources))]

    def delivered(
        self, *, status: str = "delivered", detail: str = "0x0000 Success", tries_max: int = 1
    ) -> None:
        """Settle every delivery that waits."""
        while claim := claim_delivery(self.db, worker="worker-1", lease_seconds=60):
            self.clock.step(0.3)
            settle_delivery(self.db, claim, status=status, detail=detail, tries_max=tries_max)

    def broken(self, *, error: str, remedy: str) -> None:
        """Let the next analysis fail for good."""
        claim = self._claim("analyse")
        fail(self.db, claim, error=error, remedy=remedy, retry=False)

    def again(self, study_uid: str) -> None:
        """Ask for a study to be analysed again."""
        requeue_study(self.db, study_uid)

    def brain(self, volume=None, labels=None, *, deliver: bool = True, **values) -> str:
        """A brain study from reception to delivery; returns its UID."""
        if volume is None:
            volume, labels = small_brain()
        study_uid = self.receive(mr_series(volume, **values))
        self.whole(study_uid)
        self.planned(study_uid, model=BRAIN_MODEL)
        self.analysed(study_uid, labels)
        if deliver:
            self.delivered()
        return study_uid

    def breast(self, plane=None, labels=None, scores=None, heat=None, **values) -> str:
        """A breast study from reception to delivery."""
        if plane is None:
            plane, labels = small_breast()
        study_uid = self.receive([us_image(plane, **values)])
        self.whole(study_uid)
        self.planned(study_uid, model=BREAST_MODEL, sentence="US image of the breast")
        self.analysed(
            study_uid,
            labels,
            class_scores=scores or {"malignant": 0.91, "benign": 0.07, "normal": 0.02},
            heat=heat,
        )
        self.delivered()
        return study_uid

    def view(self, study_uid: str):
        """The rows of a study."""
        found = study_rows(self.db, study_uid)
        assert found is not None
        return found

    def uid_of(self, study_id: int) -> str:
        """The Study Instance UID of a number."""
        found = study_uid_of(self.db, study_id)
        assert found is not None
        return found

    def id_of(self, study_uid: str) -> int:
        """The number of a study in addresses."""
        return self.view(study_uid).study.id

    def _claim(self, kind):
        claim = claim_next(self.db, worker="worker-1", kinds=(kind,), lease_seconds=60)
        assert claim is not None
        return claim


def prediction(labels: np.ndarray, name, scores, likeness=None) -> Prediction:
    """What a model says: the labels given."""
    lesions = tuple(round(0.94 - 0.23 * index, 2) for index in range(int(labels.max())))
    notes = (likeness.sentence,) if likeness else ()
    found = (labels > 0).astype(np.float32), labels.astype(np.uint16)
    return Prediction(*found, lesions, scores, name, notes, likeness=likeness)


def encoded(image: Dataset) -> bytes:
    """A dataset as a peer sends it: explicit little endian, no file meta."""
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, image)
    return stream.getvalue()
