"""Sources as the reading stage hands them over, in every form a PACS sends, and a model identity."""

import datetime
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from models.volume import Volume
from pipeline.reading.source_series import SourceFrame, SourceSeries
from pipeline.results.authorship import Authorship
from pipeline.results.codes import Code
from pipeline.results.findings import (
    ClassPlan,
    Findings,
    ModelIdentity,
    SegmentPlan,
    SourceFindings,
    TrackedLesion,
)
from pipeline.results.measure import measure
from pipeline.results.uids import RunKey, digest_inputs

STORAGE = "1.2.840.10008.5.1.4.1.1."
CLASSES = {
    "MR": STORAGE + "4",
    "CT": STORAGE + "2",
    "US": STORAGE + "6.1",
    "DX": STORAGE + "1.1",
    "MG": STORAGE + "1.2",
    "CR": STORAGE + "1",
    "US-RETIRED": STORAGE + "6",
    "US-LOOP": STORAGE + "3.1",
    "SC": STORAGE + "7",
    "MR-ENHANCED": STORAGE + "4.1",
    "PRIVATE": "1.3.12.2.1107.5.99.3.11",
}
SPACING = (0.9, 0.7)
STEP = 5.0
TILTED = (0.98480775, 0.0, -0.17364818, 0.0, 1.0, 0.0)


def header(modality="MR", sop_class=None, index=0, rows=48, columns=40, **values):
    """One header as a scanner writes it."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID = sop_class or CLASSES[modality]
    found.SOPInstanceUID = f"1.2.826.0.1.3680043.8.1.3.{index + 1}"
    found.StudyInstanceUID = "1.2.826.0.1.3680043.8.1.1"
    found.SeriesInstanceUID = "1.2.826.0.1.3680043.8.1.2"
    found.Modality = modality
    found.Rows, found.Columns = rows, columns
    found.PatientName, found.PatientID = "Doe^Jane", "P1"
    found.PatientBirthDate, found.PatientSex, found.PatientAge = "19500203", "F", "071Y"
    found.StudyDate, found.StudyTime, found.StudyID = "20210304", "101112", "S1"
    found.AccessionNumber, found.ReferringPhysicianName = "A1", "House^G"
    found.Manufacturer, found.ManufacturerModelName = "Maker", "Scanner 1"
    found.StudyDescription = "Study"
    found.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.1.9"
    found.InstanceNumber = index + 1
    for keyword, value in values.items():
        if value is None:
            if keyword in found:
                del found[keyword]
        else:
            setattr(found, keyword, value)
    return found


def stack(slices=8, modality="MR", orientation=(1, 0, 0, 0, 1, 0), step=STEP, sop_class=None, **values):
    """Single-frame headers with coordinates."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    headers = []
    for index in range(slices):
        one = header(modality, sop_class, index)
        one.ImagePositionPatient = [float(v) for v in np.array([-10.0, -20.0, 30.0]) + normal * step * index]
        one.ImageOrientationPatient = list(orientation)
        one.PixelSpacing = list(SPACING)
        one.SliceThickness = step
        for keyword, value in values.items():
            if value is None:
                del one[keyword]
            else:
                setattr(one, keyword, value)
        headers.append(one)
    return headers


def enhanced(slices=8, sop_class=CLASSES["MR-ENHANCED"]):
    """One enhanced multi-frame header."""
    one = header("MR", sop_class)
    one.NumberOfFrames = slices
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = list(SPACING)
    shared.PixelMeasuresSequence[0].SliceThickness = STEP
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index in range(slices):
        group = Dataset()
        group.PlanePositionSequence = [Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = [-10.0, -20.0, 30.0 + STEP * index]
        groups.append(group)
    one.PerFrameFunctionalGroupsSequence = groups
    return one


def series(headers, *, frames=None, spacing=SPACING, step=STEP, placed=True, notes=()):
    """A source with quiet noise as pixels; `frames`: numbers of a multi-frame instance, in slice order."""
    if frames is None:
        refs = [SourceFrame(str(h.SOPInstanceUID), str(h.SOPClassUID), None, h) for h in headers]
    else:
        (one,) = headers
        refs = [SourceFrame(str(one.SOPInstanceUID), str(one.SOPClassUID), n, one) for n in frames]
    shape = (len(refs), headers[0].Rows, headers[0].Columns)
    array = np.random.default_rng(1).normal(100, 20, shape).astype(np.float32)
    affine = None
    if placed:
        affine = np.diag([spacing[1], spacing[0], step, 1.0])
    volume = Volume(array, affine, spacing, step if placed else None)
    return SourceSeries(volume, tuple(refs), tuple(headers), tuple(notes))


def lesion_labels(source, lesions=2):
    """Balls in the volume, or discs in each image, that do not touch."""
    slices, rows, columns = source.volume.shape
    s, r, c = np.ogrid[:slices, :rows, :columns]
    labels = np.zeros(source.volume.shape, np.uint16)
    for number in range(lesions):
        centre = (slices // 2 - 1 + number, 12 + 20 * number, 14 + 10 * number)
        size = ((s - centre[0]) / 2.2) ** 2 + ((r - centre[1]) / 6) ** 2 + ((c - centre[2]) / 5) ** 2
        labels[size <= 1] = number + 1
    return labels


MODEL = ModelIdentity(
    id="brain-flair-lesion",
    title="FLAIR lesions of the brain",
    version="1.2.0",
    digest="ab" * 32,
    parameters={"threshold": "0.5", "sha256": "ab" * 32},
    card_line="Research use; trained on 80 patients of one collection; not validated for children.",
    negative_statement="No FLAIR lesion found.",
    segment=SegmentPlan(
        label="FLAIR lesion",
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        kind=Code("52988006", "SCT", "Lesion"),
        region=Code("12738006", "SCT", "Brain"),
        colour=(70.0, 40.0, 60.0),
    ),
)
BREAST = replace(
    MODEL,
    id="breast-us-lesion",
    title="Breast lesions in ultrasound",
    negative_statement="No lesion found.",
    segment=replace(MODEL.segment, label="Breast lesion", region=Code("76752008", "SCT", "Breast")),
    classes=(
        ClassPlan("benign", Code("30807003", "SCT", "Benign"), negative=False, urgent=False),
        ClassPlan("malignant", Code("21594007", "SCT", "Malignant"), negative=False, urgent=True),
        ClassPlan("normal", Code("17621005", "SCT", "Normal"), negative=True, urgent=False),
    ),
)
CREATED = datetime.datetime(2026, 3, 1, 12, 30, 15, tzinfo=datetime.UTC)


def authorship_of(source, model=MODEL, revision=1):
    """Who speaks, for a source."""
    key = RunKey(
        study_uid=str(source.headers[0].StudyInstanceUID),
        inputs=digest_inputs(source),
        model=model.id,
        version=model.version,
        digest=model.digest,
        revision=revision,
    )
    return Authorship(key, model, "preread-test", CREATED)


def findings_of(source, labels, model=MODEL, class_name=None, class_scores=None):
    """Findings of one source."""
    lesions = tuple(measure(labels, source.volume, [0.9 - 0.1 * i for i in range(int(labels.max()))]))
    key = authorship_of(source, model).key
    tracked = tuple(
        TrackedLesion(lesion.label, 0, lesion, f"lesion {lesion.label}", key.tracking_uid("", lesion.label))
        for lesion in lesions
    )
    scores = class_scores or {}
    one = SourceFindings(labels, lesions, class_name, scores, ())
    return Findings(model, (one,), tracked, class_name, scores, 0, ())


class Sources:
    """The builders above, handed to tests through one fixture."""

    header, stack, enhanced, series = (
        staticmethod(header),
        staticmethod(stack),
        staticmethod(enhanced),
        staticmethod(series),
    )
    lesion_labels, authorship_of, findings_of = (
        staticmethod(lesion_labels),
        staticmethod(authorship_of),
        staticmethod(findings_of),
    )
    classes, model, breast, tilted = CLASSES, MODEL, BREAST, TILTED

    @classmethod
    def matrix(cls) -> dict[str, Callable[[], SourceSeries]]:
        """Sources by name: every form whose results must be free of errors."""
        return {
            "MR axial": lambda: series(stack()),
            "MR oblique": lambda: series(stack(orientation=TILTED)),
            "CT with gaps in thickness": lambda: series(stack(modality="CT", SliceThickness=2.5)),
            "MR single slice": lambda: series(stack(1), step=5.0),
            "MR without frame of reference": lambda: series(stack(FrameOfReferenceUID=None)),
            "MR enhanced": lambda: series([enhanced()], frames=range(1, 9)),
            "MR enhanced, part of the frames, turned": lambda: series([enhanced()], frames=(7, 6, 5, 4, 3)),
            "MR of a private class": lambda: series(stack(sop_class=CLASSES["PRIVATE"])),
            "US calibrated": lambda: series([header("US")], placed=False),
            "US without frame of reference": lambda: series(
                [header("US", FrameOfReferenceUID=None)], placed=False, spacing=None
            ),
            "US retired class": lambda: series(
                [header("US", CLASSES["US-RETIRED"])], placed=False, spacing=None
            ),
            "US loop, one frame": lambda: series(
                [header("US", CLASSES["US-LOOP"], NumberOfFrames=9)], frames=(4,), placed=False, spacing=None
            ),
            "US loop": lambda: series(
                [header("US", CLASSES["US-LOOP"], NumberOfFrames=9)],
                frames=range(1, 10),
                placed=False,
                spacing=None,
            ),
            "MG": lambda: series([header("MG", ImageLaterality="L")], placed=False),
            "DX": lambda: series([header("DX", FrameOfReferenceUID=None)], placed=False),
            "CR": lambda: series([header("CR", FrameOfReferenceUID=None)], placed=False),
            "secondary capture": lambda: series(
                [header("OT", CLASSES["SC"], FrameOfReferenceUID=None)], placed=False, spacing=None
            ),
        }


@pytest.fixture
def sources() -> type[Sources]:
    """Builders of sources and findings."""
    return Sources
