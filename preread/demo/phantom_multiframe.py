"""A generated MR series as one Enhanced MR instance (PS3.3 A.36.2)."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

from preread.demo.phantom_headers import (
    Photometric,
    PlaneGeometry,
    SeriesHeader,
    common_header,
    decimals,
    put_pixels,
)
from preread.demo.phantom_study import seeded_uid


def enhanced_mr(
    header: SeriesHeader,
    plane: PlaneGeometry,
    stored: NDArray[np.generic],
    *,
    sequence: str,
    bits_stored: int,
    photometric: Photometric,
) -> Dataset:
    """All slices as frames, lowest first; `stored` is (slices, rows, columns)."""
    dataset = common_header(
        header,
        sop_class=UID(EnhancedMRImageStorage),
        sop_uid=seeded_uid(header.study.seed, "brain", "enhanced", header.key),
        transfer_syntax=ExplicitVRLittleEndian,
    )
    for keyword in ("BodyPartExamined", "AcquisitionDate", "AcquisitionTime"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.DeviceSerialNumber = "1"
    dataset.InstanceNumber = 1
    dataset.AcquisitionNumber = 1
    moment = f"{dataset.StudyDate}{dataset.SeriesTime}"
    dataset.AcquisitionDateTime = moment
    dataset.AcquisitionDuration = 180.0
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.ComplexImageComponent = "MAGNITUDE"
    dataset.AcquisitionContrast = "FLUID_ATTENUATED" if sequence == "FLAIR" else "T1"
    dataset.ContentQualification = "RESEARCH"
    dataset.ResonantNucleus = "1H"
    dataset.MagneticFieldStrength = 1.5
    dataset.KSpaceFiltering = "NONE"
    dataset.ApplicableSafetyStandardAgency = "IEC"
    dataset.PulseSequenceName = "SE_IR" if sequence == "FLAIR" else "SE"
    dataset.MRAcquisitionType = "2D"
    dataset.EchoPulseSequence = "SPIN"
    dataset.MultipleSpinEcho = "YES" if sequence == "FLAIR" else "NO"
    dataset.MultiPlanarExcitation = "NO"
    dataset.PhaseContrast = "NO"
    dataset.TimeOfFlightContrast = "NO"
    dataset.SteadyStatePulseSequence = "NONE"
    dataset.EchoPlanarPulseSequence = "NO"
    dataset.SaturationRecovery = "NO"
    dataset.SpectrallySelectedSuppression = "NONE"
    dataset.OversamplingPhase = "NONE"
    dataset.GeometryOfKSpaceTraversal = "RECTILINEAR"
    dataset.RectilinearPhaseEncodeReordering = "LINEAR"
    dataset.SegmentedKSpaceTraversal = "SINGLE"
    dataset.NumberOfKSpaceTrajectories = 1
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = UID(seeded_uid(0, dataset.StudyInstanceUID, "frame of reference"))
    dataset.PositionReferenceIndicator = ""
    dataset.AcquisitionContextSequence = Sequence([])
    put_pixels(dataset, stored, bits_stored=bits_stored, photometric=photometric, frames=plane.slices)
    _put_dimensions(dataset, header)
    dataset.SharedFunctionalGroupsSequence = Sequence([_shared(header, plane, sequence)])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame(plane, k, moment) for k in range(plane.slices)]
    )
    return dataset


def _put_dimensions(dataset: Dataset, header: SeriesHeader) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = UID(seeded_uid(header.study.seed, "dimensions", header.key))
    dataset.DimensionOrganizationSequence = Sequence([organization])
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer = 0x00209057  # InStackPositionNumber
    index.FunctionalGroupPointer = 0x00209111  # FrameContentSequence
    dataset.DimensionIndexSequence = Sequence([index])


def _shared(header: SeriesHeader, plane: PlaneGeometry, sequence: str) -> Dataset:
    """What all frames have in common: measures, orientation, contrast, anatomy, identity of pixel values."""
    group = Dataset()
    measures = Dataset()
    measures.PixelSpacing = decimals([plane.pixel_spacing_mm] * 2)
    measures.SliceThickness = decimals([plane.thickness_mm])[0]
    measures.SpacingBetweenSlices = decimals([float(np.linalg.norm(plane.step_mm))])[0]
    group.PixelMeasuresSequence = Sequence([measures])
    orientation = Dataset()
    orientation.ImageOrientationPatient = decimals([*plane.row_direction, *plane.column_direction])
    group.PlaneOrientationSequence = Sequence([orientation])
    anatomy, region = Dataset(), Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "12738006", "SCT", "Brain"
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = Sequence([region])
    group.FrameAnatomySequence = Sequence([anatomy])
    frame_type = Dataset()
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    frame_type.PixelPresentation = "MONOCHROME"
    frame_type.VolumetricProperties = "VOLUME"
    frame_type.VolumeBasedCalculationTechnique = "NONE"
    frame_type.ComplexImageComponent = "MAGNITUDE"
    frame_type.AcquisitionContrast = "FLUID_ATTENUATED" if sequence == "FLAIR" else "T1"
    group.MRImageFrameTypeSequence = Sequence([frame_type])
    timing = Dataset()
    timing.RepetitionTime = "9000" if sequence == "FLAIR" else "550"
    timing.FlipAngle = "90"
    timing.EchoTrainLength = 16 if sequence == "FLAIR" else 1
    timing.RFEchoTrainLength = 16 if sequence == "FLAIR" else 1
    timing.GradientEchoTrainLength = 0
    group.MRTimingAndRelatedParametersSequence = Sequence([timing])
    echo = Dataset()
    echo.EffectiveEchoTime = 120.0 if sequence == "FLAIR" else 12.0
    group.MREchoSequence = Sequence([echo])
    rate = Dataset()
    rate.SpecificAbsorptionRateDefinition, rate.SpecificAbsorptionRateValue = "IEC_HEAD", 1.0
    timing.SpecificAbsorptionRateSequence = Sequence([rate])
    mode = Dataset()
    mode.OperatingModeType, mode.OperatingMode = "STATIC FIELD", "IEC_NORMAL"
    timing.OperatingModeSequence = Sequence([mode])
    modifier = Dataset()
    modifier.FlowCompensation = "NONE"
    modifier.Spoiling = "NONE"
    modifier.T2Preparation = "NO"
    modifier.SpectrallySelectedExcitation = "NONE"
    modifier.SpatialPresaturation = "NONE"
    modifier.PartialFourier = "NO"
    modifier.ParallelAcquisition = "NO"
    modifier.InversionRecovery = "YES" if sequence == "FLAIR" else "NO"
    if sequence == "FLAIR":
        modifier.InversionTimes = 2300.0
    group.MRModifierSequence = Sequence([modifier])
    _put_acquisition(group, plane)
    values = Dataset()
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "0", "1", "US"
    group.PixelValueTransformationSequence = Sequence([values])
    window = Dataset()
    window.WindowCenter, window.WindowWidth = "500", "1000"
    group.FrameVOILUTSequence = Sequence([window])
    return group


def _put_acquisition(group: Dataset, plane: PlaneGeometry) -> None:
    """What an original image must say about coils, averages, and field of view (PS3.3 C.8.13.5)."""
    imaging = Dataset()
    imaging.MagnetizationTransfer = "NONE"
    imaging.BloodSignalNulling = "NO"
    imaging.Tagging = "NONE"
    imaging.TransmitterFrequency = 63.9
    imaging.PixelBandwidth = "150"
    group.MRImagingModifierSequence = Sequence([imaging])
    receive = Dataset()
    receive.ReceiveCoilName = "HEAD"
    receive.ReceiveCoilManufacturerName = "Phantom Works"
    receive.ReceiveCoilType = "MULTICOIL"
    receive.QuadratureReceiveCoil = "NO"
    element = Dataset()
    element.MultiCoilElementName, element.MultiCoilElementUsed = "1", "YES"
    receive.MultiCoilDefinitionSequence = Sequence([element])
    group.MRReceiveCoilSequence = Sequence([receive])
    transmit = Dataset()
    transmit.TransmitCoilName = "BODY"
    transmit.TransmitCoilManufacturerName = "Phantom Works"
    transmit.TransmitCoilType = "BODY"
    group.MRTransmitCoilSequence = Sequence([transmit])
    averages = Dataset()
    averages.NumberOfAverages = "1"
    group.MRAveragesSequence = Sequence([averages])
    field = Dataset()
    field.InPlanePhaseEncodingDirection = "ROW"
    field.MRAcquisitionFrequencyEncodingSteps = plane.rows
    field.MRAcquisitionPhaseEncodingStepsInPlane = plane.columns
    field.PercentSampling = "100"
    field.PercentPhaseFieldOfView = "100"
    group.MRFOVGeometrySequence = Sequence([field])


def _frame(plane: PlaneGeometry, slice_index: int, moment: str) -> Dataset:
    group = Dataset()
    content = Dataset()
    content.FrameAcquisitionNumber = 1
    content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = moment
    content.FrameAcquisitionDuration = 180.0
    content.StackID = "1"
    content.InStackPositionNumber = slice_index + 1
    content.DimensionIndexValues = slice_index + 1
    group.FrameContentSequence = Sequence([content])
    position = Dataset()
    position.ImagePositionPatient = decimals(plane.position(slice_index))
    group.PlanePositionSequence = Sequence([position])
    return group
