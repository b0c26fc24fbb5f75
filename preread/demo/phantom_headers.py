"""Headers of the generated studies: patient, study, series, image plane, pixels, file meta.

Everything a modality of average care writes; what a test wants absent or odd is taken away afterwards.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSNearLossless,
    MRImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from preread.demo.phantom_study import PhantomPatient, seeded_uid

Photometric = Literal["MONOCHROME1", "MONOCHROME2", "RGB"]

_LOSSY_METHOD = {JPEG2000: "ISO_15444_1", JPEGLSNearLossless: "ISO_14495_1"}


@dataclass(frozen=True)
class StudyHeader:
    """What all instances of a study say alike."""

    seed: int
    kind: str
    patient: PhantomPatient
    description: str
    body_part: str | None

    @property
    def study_uid(self) -> str:
        """Study Instance UID, from the seed."""
        return seeded_uid(self.seed, self.kind, "study")


@dataclass(frozen=True)
class SeriesHeader:
    """What all instances of a series say alike; `key` names the series within the study."""

    study: StudyHeader
    key: str
    number: int
    modality: str
    description: str

    @property
    def series_uid(self) -> str:
        """Series Instance UID, from seed and key."""
        return seeded_uid(self.study.seed, self.study.kind, "series", self.key)


@dataclass(frozen=True)
class PlaneGeometry:
    """Where a stack of slices lies: the row and column directions, spacings, and the centre of the stack.

    All in mm and LPS; slices follow each other along `step_mm`: the normal, unless the gantry was tilted.
    """

    row_direction: NDArray[np.float64]
    column_direction: NDArray[np.float64]
    step_mm: NDArray[np.float64]
    pixel_spacing_mm: float
    thickness_mm: float
    rows: int
    columns: int
    slices: int

    def position(self, slice_index: int) -> NDArray[np.float64]:
        """Centre of the first voxel of a slice (PS3.3 C.7.6.2.1.1)."""
        middle = self.step_mm * (slice_index - (self.slices - 1) / 2)
        across = self.row_direction * (self.columns - 1) / 2 * self.pixel_spacing_mm
        down = self.column_direction * (self.rows - 1) / 2 * self.pixel_spacing_mm
        return np.asarray(middle - across - down)


def plane_geometry(
    *,
    rows: int,
    columns: int,
    slices: int,
    pixel_spacing_mm: float,
    slice_spacing_mm: float,
    thickness_mm: float,
    tilt_degrees: float,
    turn_degrees: float,
    gantry_tilt_degrees: float = 0.0,
) -> PlaneGeometry:
    """An axial stack, tilted about the patient's left-right axis, then turned about the head-foot axis.

    With gantry tilt the slices are tilted too, but follow each other along the table (z).
    """
    tilt, turn = np.deg2rad(tilt_degrees + gantry_tilt_degrees), np.deg2rad(turn_degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    axes = about_z @ about_x
    normal = axes[:, 2]
    step = normal * slice_spacing_mm
    if gantry_tilt_degrees:
        step = np.array([0.0, 0.0, slice_spacing_mm / normal[2]])
    return PlaneGeometry(axes[:, 0], axes[:, 1], step, pixel_spacing_mm, thickness_mm, rows, columns, slices)


def common_header(series: SeriesHeader, *, sop_class: UID, sop_uid: str, transfer_syntax: UID) -> Dataset:
    """Patient, study, series, equipment and SOP common modules, with file meta."""
    study = series.study
    dataset = Dataset()
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(seeded_uid(0, "implementation"))
    meta.ImplementationVersionName = "PHANTOM"
    dataset.file_meta = meta
    # Dates follow the seed, not the clock: the same seed makes the same bytes on any day.
    date = f"2024{1 + study.seed % 12:02d}{1 + study.seed // 12 % 28:02d}"
    time = f"{8 + series.number % 10:02d}{study.seed % 60:02d}00"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = UID(sop_uid)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = date
    dataset.StudyTime = f"08{study.seed % 60:02d}00"
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = time
    dataset.AccessionNumber = f"PHANTOM{study.seed:06d}"[:16]
    dataset.Modality = series.modality
    dataset.Manufacturer = "Phantom Works"
    dataset.ManufacturerModelName = "Generated"
    dataset.SoftwareVersions = "1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = study.description
    dataset.SeriesDescription = series.description
    dataset.PatientName = study.patient.name
    dataset.PatientID = study.patient.patient_id
    dataset.PatientBirthDate = study.patient.birth_date
    dataset.PatientSex = study.patient.sex
    if study.body_part is not None:
        dataset.BodyPartExamined = study.body_part
    dataset.StudyInstanceUID = UID(study.study_uid)
    dataset.SeriesInstanceUID = UID(series.series_uid)
    dataset.StudyID = str(1000 + study.seed % 9000)
    dataset.SeriesNumber = series.number
    return dataset


def put_plane(dataset: Dataset, plane: PlaneGeometry, slice_index: int, *, instance_number: int) -> None:
    """Image plane and frame of reference of one slice of a stack (PS3.3 C.7.6.2, C.7.4.1)."""
    position = plane.position(slice_index)
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = instance_number
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = decimals(position)
    dataset.ImageOrientationPatient = decimals([*plane.row_direction, *plane.column_direction])
    dataset.FrameOfReferenceUID = UID(seeded_uid(0, dataset.StudyInstanceUID, "frame of reference"))
    dataset.PositionReferenceIndicator = ""
    normal = np.cross(plane.row_direction, plane.column_direction)
    dataset.SliceLocation = decimals([float(normal @ position)])[0]
    dataset.SliceThickness = decimals([plane.thickness_mm])[0]
    dataset.PixelSpacing = decimals([plane.pixel_spacing_mm] * 2)


def put_pixels(
    dataset: Dataset,
    pixels: NDArray[np.generic],
    *,
    bits_stored: int,
    photometric: Photometric = "MONOCHROME2",
    frames: int | None = None,
) -> None:
    """Pixel module, values as they are: (rows, columns), with frames first and colours last where there are.

    The values must fit into `bits_stored`; RGB wants 8 bits.
    """
    colours = 3 if photometric == "RGB" else 1
    shape = pixels.shape[1:] if frames is not None else pixels.shape
    dataset.SamplesPerPixel = colours
    dataset.PhotometricInterpretation = photometric
    if colours == 3:
        dataset.PlanarConfiguration = 0
    if frames is not None:
        dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = int(shape[0]), int(shape[1])
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = raw + b"\x00" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"


def encode(dataset: Dataset, transfer_syntax: UID) -> None:
    """Encode the pixels of a native dataset in `transfer_syntax`, where pydicom has an encoder for it.

    Raises
    ------
    ValueError
        No encoder is installed for this transfer syntax.
    """
    if not transfer_syntax.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
        return
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    options: dict[str, object] = {}
    if transfer_syntax == JPEG2000:
        options["j2k_cr"] = [8]
    elif transfer_syntax == JPEGLSNearLossless:
        options["jls_error"] = 2
    try:
        dataset.compress(transfer_syntax, generate_instance_uid=False, **options)  # type: ignore[arg-type]
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"no pixel encoder for {transfer_syntax.name}: choose RLE, JPEG-LS or JPEG 2000"
        ) from error
    if transfer_syntax in _LOSSY_METHOD:
        native = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        native *= int(dataset.get("NumberOfFrames", 1))
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = _LOSSY_METHOD[transfer_syntax]
        dataset.LossyImageCompressionRatio = decimals([native / len(dataset.PixelData)])[0]
        dataset.ImageType = ["DERIVED", *list(dataset.ImageType)[1:]]


def put_mr(dataset: Dataset, sequence: str, *, slice_spacing_mm: float) -> None:
    """MR image module of an axial FLAIR or T1; the timing is usual for 1.5 T."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
    is_flair = sequence == "FLAIR"
    dataset.ScanningSequence = ["SE", "IR"] if is_flair else "SE"
    dataset.SequenceVariant = ["SK", "SP", "OSP"] if is_flair else ["SP", "OSP"]
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime = "9000" if is_flair else "550"
    dataset.EchoTime = "120" if is_flair else "12"
    if is_flair:
        dataset.InversionTime = "2300"
    dataset.EchoTrainLength = "16" if is_flair else "1"
    dataset.MagneticFieldStrength = "1.5"
    dataset.SpacingBetweenSlices = decimals([slice_spacing_mm])[0]
    if sequence == "T1 POST":
        dataset.ContrastBolusAgent = "GADOLINIUM"


def put_ct(dataset: Dataset, *, gantry_tilt_degrees: float, intercept: int) -> None:
    """CT image module; stored value plus `intercept` is Hounsfield units."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP = "120"
    dataset.GantryDetectorTilt = decimals([gantry_tilt_degrees])[0]
    dataset.ConvolutionKernel = "STANDARD"
    dataset.RescaleIntercept = str(intercept)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"


def put_us(dataset: Dataset, *, laterality: str, pixel_spacing_mm: float | None, frames: int | None) -> None:
    """Ultrasound modules; a calibrated picture has one 2D tissue region (PS3.3 C.8.5.5)."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "SMALL PARTS", "0001"]
    dataset.InstanceNumber = 1
    dataset.PatientOrientation = ""
    dataset.Laterality = laterality
    dataset.LossyImageCompression = "00"
    if frames is not None:
        dataset.FrameTime = "40"
        dataset.FrameIncrementPointer = 0x00181063
    if pixel_spacing_mm is None:
        return
    region = Dataset()
    region.RegionSpatialFormat = 1  # 2D
    region.RegionDataType = 1  # tissue
    region.RegionFlags = 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1 = int(dataset.Columns) - 1
    region.RegionLocationMaxY1 = int(dataset.Rows) - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
    region.PhysicalDeltaX = region.PhysicalDeltaY = pixel_spacing_mm / 10.0
    dataset.SequenceOfUltrasoundRegions = Sequence([region])


def decimals(values: "list[float] | NDArray[np.float64]") -> list[str]:
    """Numbers as decimal strings of at most 16 characters, close enough to rebuild geometry exactly."""
    texts = []
    for value in values:
        text = f"{float(value):.9f}".rstrip("0").rstrip(".")[:16]
        texts.append("0" if text in ("-0", "") else text)
    return texts


SOP_CLASSES = {
    "MR": MRImageStorage,
    "CT": CTImageStorage,
    "US": UltrasoundImageStorage,
    "US frames": UltrasoundMultiFrameImageStorage,
}
