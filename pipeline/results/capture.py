"""The summary picture as a Secondary Capture image, which every archive stores and every viewer shows.

Source: PS3.3 A.8.1 (Secondary Capture Image IOD)
"""

from __future__ import annotations

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.results.authorship import Authorship
from pipeline.results.citation import cite_classes
from pipeline.results.source_repair import RepairedSource


def build_capture(
    repaired: RepairedSource, picture: NDArray[np.uint8], key_slice: int, authorship: Authorship
) -> Dataset:
    """A picture as a DICOM image of the source's study.

    Parameters
    ----------
    repaired : the source the picture shows
    picture : (rows, columns, 3), RGB
    key_slice : the slice it shows largest; cited as source image
    """
    header = repaired.instances[0]
    image: Dataset = highdicom.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=repaired.study_uid,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate or None,
        study_time=header.StudyTime or None,
        referring_physician_name=header.ReferringPhysicianName,
        specific_character_set=header.SpecificCharacterSet,
        **authorship.arguments("SC"),
    )
    image.copy_patient_and_study_information(header)
    # The page of a report lies in no direction of the patient, and nobody shall measure on it.
    image.PatientOrientation = None
    image.Laterality = repaired.laterality if repaired.laterality in {"L", "R"} else None
    image.ConversionType = "SYN"
    image.BurnedInAnnotation = "YES"
    image.SourceImageSequence = [_key_image(repaired, key_slice)]
    cite_classes(image, repaired.references)
    authorship.finish(image)
    return image


def _key_image(repaired: RepairedSource, key_slice: int) -> Dataset:
    reference = repaired.references[key_slice]
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class
    item.ReferencedSOPInstanceUID = reference.sop_uid
    if reference.frame_number is not None:
        item.ReferencedFrameNumber = reference.frame_number
    return item
