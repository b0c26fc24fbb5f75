"""Small datasets as a scanner would send them, made in memory."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def encode(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The dataset as it stands in a C-STORE: no preamble, no file meta."""
    syntax = UID(transfer_syntax)
    stream = DicomBytesIO()
    stream.is_implicit_VR = syntax.is_implicit_VR
    stream.is_little_endian = syntax.is_little_endian
    write_dataset(stream, dataset)
    return stream.getvalue()


def mr_slice(
    position: Sequence[float],
    *,
    orientation: Sequence[float] = AXIAL,
    pixels: np.ndarray | None = None,
    series_uid: str = "1.2.3.10",
    sop_uid: str | None = None,
    spacing: Sequence[float] = (0.9, 0.8),
    thickness: float = 5.0,
    **attributes: Any,
) -> Dataset:
    """One MR image of 6 rows and 5 columns unless `pixels` says otherwise."""
    array = np.zeros((6, 5), np.uint16) if pixels is None else pixels
    dataset = Dataset()
    dataset.SOPClassUID = MR
    dataset.SOPInstanceUID = sop_uid or generate_uid()
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = series_uid
    dataset.FrameOfReferenceUID = "1.2.3.99"
    dataset.Modality = "MR"
    dataset.PatientID, dataset.PatientName = "P1", "Phantom^One"
    dataset.ImagePositionPatient = [repr(float(v))[:16] for v in position]
    dataset.ImageOrientationPatient = [f"{float(v):.12f}"[:16] for v in orientation]
    dataset.PixelSpacing = list(spacing)
    dataset.SliceThickness = thickness
    dataset.Rows, dataset.Columns = array.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    dataset.PixelData = array.tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced_of(slices: Sequence[Dataset]) -> Dataset:
    """The same images as one enhanced multi-frame instance."""
    first = slices[0]
    dataset = Dataset()
    copied = (
        "StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality PatientID PatientName Rows Columns "
        "SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation"
    )
    for keyword in copied.split():
        setattr(dataset, keyword, first.get(keyword))
    dataset.SOPClassUID = ENHANCED_MR
    dataset.SOPInstanceUID = generate_uid()
    dataset.NumberOfFrames = len(slices)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    plane.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([plane])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for image in slices:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = image.ImagePositionPatient
        group.PlanePositionSequence = Items([place])
        if "RescaleSlope" in image:
            values = Dataset()
            values.RescaleSlope, values.RescaleIntercept = image.RescaleSlope, image.RescaleIntercept
            group.PixelValueTransformationSequence = Items([values])
        frames.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    dataset.PixelData = b"".join(image.PixelData for image in slices)
    return dataset


def oblique(row_degrees: float, tilt_degrees: float) -> tuple[float, ...]:
    """Image Orientation (Patient): axial, turned in its plane, then tilted about the x axis."""
    a, b = np.radians(row_degrees), np.radians(tilt_degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    both = tilt @ turn
    return (*both[:, 0], *both[:, 1])


def stack_of(
    count: int,
    *,
    step_mm: float = 6.0,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-100.0, -120.0, 30.0),
    shear: Sequence[float] = (0.0, 0.0, 0.0),
    **attributes: Any,
) -> list[Dataset]:
    """`count` slices along the normal, the k-th holding the value k in every voxel."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        mr_slice(
            np.array(origin) + k * (step_mm * normal + np.array(shear)),
            orientation=orientation,
            pixels=np.full((6, 5), k, np.uint16),
            sop_uid=f"1.2.3.10.{k + 1}",
            **attributes,
        )
        for k in range(count)
    ]


@pytest.fixture(scope="session")
def make_slice() -> Callable[..., Dataset]:
    return mr_slice


@pytest.fixture(scope="session")
def make_stack() -> Callable[..., list[Dataset]]:
    return stack_of


@pytest.fixture(scope="session")
def make_enhanced() -> Callable[..., Dataset]:
    return enhanced_of


@pytest.fixture(scope="session")
def make_oblique() -> Callable[[float, float], tuple[float, ...]]:
    return oblique


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def dataset_of_file() -> Callable[[Any], tuple[bytes, str]]:
    """(dataset bytes, transfer syntax) of a Part 10 file."""
    import warnings

    from pydicom.filereader import read_file_meta_info

    def split(path: Any) -> tuple[bytes, str]:
        raw = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = read_file_meta_info(path)
        stream = io.BytesIO(raw)
        stream.seek(132)
        length = meta.get("FileMetaInformationGroupLength")
        start = 132 + 12 + int(length) if length is not None else 132
        return raw[start:], str(meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))

    return split
