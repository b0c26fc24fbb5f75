"""Sources as the reading stage hands them over, in every form a PACS sends, and a model identity."""

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from models.manifest import FORMAT, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.registry import EffNetLite0UNetSpec
from models.package import Package
from models.predictor import Prediction
from models.training.recipe_file import shipped_recipe
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


def package_of(model):
    """A package as shipped, without its files: what `models.training` declares for it."""
    declared = shipped_recipe(model)
    brain = model == "brain-flair-lesion"
    manifest = Manifest(
        format=FORMAT,
        id=model,
        version="1.2.0",
        title=declared.title,
        summary=declared.summary,
        released="2026-01-01",
        files=tuple(
            PackageFile(path=f"{role}.bin", role=role, bytes=1, sha256=digit * 64)
            for digit, role in zip("abcd", ("weights", "golden_in", "golden_out", "card"), strict=True)
        ),
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
        evaluation=(),
        training=Training(
            recipe="test",
            recipe_sha256="0" * 64,
            seed=1,
            steps=0,
            seconds=0.0,
            data=(declared.data.counted(0),),
            simulated_fraction=0.0,
            pretrained=(),
        ),
        runtime=Runtime(torch="2.13", devices=("cpu",), memory=declared.memory, parameters=1),
        golden=Golden(probability_tolerance=0.02, class_tolerance=0.02, lesions=0, class_name=None),
        card=declared.card,
    )
    return Package(manifest, Path(), "ab" * 32)


def prediction_of(labels, class_name=None, class_scores=None, notes=()):
    """What a model says: the labels given."""
    scores = tuple(round(0.9 - 0.1 * index, 2) for index in range(int(labels.max())))
    return Prediction((labels > 0).astype(np.float32), labels, scores, class_scores, class_name, notes)


def put(headers, keyword, value):
    """Set a value in every header, valid or not, as a parsed header holds it; None removes it."""
    for one in headers:
        if keyword in one:
            del one[keyword]
        if value is not None:
            one.add(
                DataElement(tag_for_keyword(keyword), dictionary_VR(keyword), value, validation_mode=IGNORE)
            )
    return headers


def put_all(headers, keywords, value):
    """`put` for several attributes."""
    for keyword in keywords:
        put(headers, keyword, value)
    return headers


def changed(keyword, values):
    """Headers of a stack, with one attribute that has its own value in each."""
    headers = stack(len(values))
    for one, value in zip(headers, values, strict=True):
        put([one], keyword, value)
    return headers


def moved(offsets):
    """A stack whose slices lie elsewhere by so many mm along the normal."""
    headers = stack(len(offsets))
    for one, offset in zip(headers, offsets, strict=True):
        x, y, z = (float(v) for v in one.ImagePositionPatient)
        one.ImagePositionPatient = [x, y, z + offset]
    return headers


_ABSENT = [
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "InstanceNumber",
    "Manufacturer",
    "StudyDescription",
    "SpecificCharacterSet",
    "PatientAge",
]

# Quirks of devices that are mended (results.md, quirk table), each as headers of a stack.
MENDED = {
    **{f"{keyword} absent": (lambda k=keyword: put(stack(4), k, None)) for keyword in _ABSENT},
    **{f"{keyword} empty": (lambda k=keyword: put(stack(4), k, "")) for keyword in _ABSENT},
    "all optional attributes absent": lambda: put_all(stack(4), _ABSENT, None),
    "all optional attributes empty": lambda: put_all(stack(4), _ABSENT, ""),
    "frame of reference absent": lambda: put(stack(4), "FrameOfReferenceUID", None),
    "frame of reference empty": lambda: put(stack(4), "FrameOfReferenceUID", ""),
    "sex unknown": lambda: put(stack(4), "PatientSex", "U"),
    "sex lower case": lambda: put(stack(4), "PatientSex", "f"),
    "birth date with hyphens": lambda: put(stack(4), "PatientBirthDate", "1950-01-01"),
    "birth date with points": lambda: put(stack(4), "PatientBirthDate", "1950.01.01"),
    "birth date is a year": lambda: put(stack(4), "PatientBirthDate", "1950"),
    "study date of zeros": lambda: put(stack(4), "StudyDate", "00000000"),
    "study time with colons": lambda: put(stack(4), "StudyTime", "10:11:12"),
    "study time with seven decimals": lambda: put(stack(4), "StudyTime", "101112.1234567"),
    "study time impossible": lambda: put(stack(4), "StudyTime", "246060"),
    "study time with zone": lambda: put(stack(4), "StudyTime", "101112+0100"),
    "age without unit": lambda: put(stack(4), "PatientAge", "75"),
    "accession too long": lambda: put(stack(4), "AccessionNumber", "A" * 40),
    "description too long": lambda: put(stack(4), "StudyDescription", "long " * 40),
    "name too long": lambda: put(stack(4), "PatientName", "A" * 80 + "^" + "B" * 80),
    "name in kanji": lambda: put(stack(4), "PatientName", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "name with umlauts": lambda: put(stack(4), "PatientName", "Müller^Jörg"),
    "description with a line break": lambda: put(stack(4), "StudyDescription", "two\r\nlines"),
    "leading zeros in the UIDs": lambda: put(stack(4), "StudyInstanceUID", "1.2.826.0.1.03.004"),
    "retired class": lambda: stack(4, sop_class="1.2.840.10008.5.1.4.1.1.5"),
    "thickness absent": lambda: put(stack(4), "SliceThickness", None),
    "thickness empty": lambda: put(stack(4), "SliceThickness", ""),
    "thickness zero": lambda: put(stack(4), "SliceThickness", "0"),
    "position with many digits": lambda: moved([0, 1 / 3e5, 2 / 3e5, 1 / 3e6]),
    "orientation differs in the seventh digit": lambda: changed(
        "ImageOrientationPatient", [[1, 0, i * 1e-7, 0, 1, 0] for i in range(4)]
    ),
    "orientation of two digits": lambda: put(
        stack(4, orientation=TILTED), "ImageOrientationPatient", [0.98, 0.0, -0.17, 0.0, 1.0, 0.0]
    ),
    "one slice missing": lambda: [one for i, one in enumerate(stack(6)) if i != 3],
    "uneven": lambda: moved([0, 0.3, -0.2, 0.4]),
    "jitter": lambda: moved([0, 0.02, -0.02, 0.01]),
    "reversed": lambda: stack(4)[::-1],
    "lossy with two methods and one ratio": lambda: put(
        put(put(stack(4), "LossyImageCompression", "01"), "LossyImageCompressionRatio", "10.5"),
        "LossyImageCompressionMethod",
        ["ISO_10918_1", "ISO_15444_1"],
    ),
    "lossy": lambda: put(
        put(put(stack(4), "LossyImageCompression", "01"), "LossyImageCompressionRatio", "10.5"),
        "LossyImageCompressionMethod",
        "ISO_10918_1",
    ),
    "time zone": lambda: put(stack(4), "TimezoneOffsetFromUTC", "+0530"),
    "modality absent": lambda: put(stack(4), "Modality", None),
}

# Quirks that end as a refusal, with its code.
REFUSED = {
    "study UID absent": (lambda: put(stack(4), "StudyInstanceUID", None), "MISSING-UID"),
    "series UID empty": (lambda: put(stack(4), "SeriesInstanceUID", ""), "MISSING-UID"),
    "study UID too long": (lambda: put(stack(4), "StudyInstanceUID", "1." + "2" * 70), "UID-INVALID"),
    "study UID with letters": (lambda: put(stack(4), "StudyInstanceUID", "1.2.abc"), "UID-INVALID"),
    "one instance twice": (
        lambda: changed("SOPInstanceUID", ["1.2.1", "1.2.2", "1.2.2", "1.2.4"]),
        "SAME-UID-TWICE",
    ),
    "two slices at one position": (lambda: moved([0, -STEP, 0, 0]), "DUPLICATE-SLICES"),
    "pixel spacing absent": (lambda: put(stack(4), "PixelSpacing", None), "NO-SPACING"),
    "pixel spacing zero": (lambda: put(stack(4), "PixelSpacing", ["0", "0"]), "NO-SPACING"),
    "position absent": (lambda: put(stack(4), "ImagePositionPatient", None), "NO-POSITION"),
    "orientation absent": (lambda: put(stack(4), "ImageOrientationPatient", None), "NO-POSITION"),
    "mixed orientation": (
        lambda: changed("ImageOrientationPatient", [[1, 0, 0, 0, 1, 0]] * 3 + [list(TILTED)]),
        "MIXED-ORIENTATION",
    ),
    "pixel spacing differs": (
        lambda: changed("PixelSpacing", [[0.9, 0.7], [0.9, 0.7], [0.9, 0.7], [0.95, 0.7]]),
        "MIXED-SPACING",
    ),
    "thickness differs": (lambda: changed("SliceThickness", [5.0, 5.0, 5.0, 2.5]), "MIXED-SPACING"),
    "two patients": (lambda: changed("PatientID", ["P1", "P1", "P2", "P1"]), "MIXED-PATIENTS"),
    "two sizes": (lambda: changed("Rows", [48, 48, 48, 50]), "MIXED-SIZE"),
}


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
    package_of, prediction_of, put = staticmethod(package_of), staticmethod(prediction_of), staticmethod(put)
    classes, model, breast, tilted, created = CLASSES, MODEL, BREAST, TILTED, CREATED
    mended, refused = MENDED, REFUSED

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
