"""The SOP classes and transfer syntaxes we accept; the conformance page is made from these tables.

Anything else is refused in the negotiation and named among the refusals. Why not all storage classes: a class
that no model reads and no page shows would be kept for nothing, and a sender that is told so at once can send
the rest of the study (docs/decisions/0005-spool-and-loop.md).
"""

from collections.abc import Mapping

from pydicom.uid import UID

VERIFICATION = "1.2.840.10008.1.1"

_STORAGE = "1.2.840.10008.5.1.4.1.1."

# A model may read these; one that arrives late opens a new revision of its study.
IMAGE_CLASSES: Mapping[str, str] = {
    _STORAGE + "1": "Computed Radiography Image Storage",
    _STORAGE + "1.1": "Digital X-Ray Image Storage - For Presentation",
    _STORAGE + "1.1.1": "Digital X-Ray Image Storage - For Processing",
    _STORAGE + "1.2": "Digital Mammography X-Ray Image Storage - For Presentation",
    _STORAGE + "1.2.1": "Digital Mammography X-Ray Image Storage - For Processing",
    _STORAGE + "2": "CT Image Storage",
    _STORAGE + "2.1": "Enhanced CT Image Storage",
    _STORAGE + "2.2": "Legacy Converted Enhanced CT Image Storage",
    _STORAGE + "3": "Ultrasound Multi-frame Image Storage (retired)",
    _STORAGE + "3.1": "Ultrasound Multi-frame Image Storage",
    _STORAGE + "4": "MR Image Storage",
    _STORAGE + "4.1": "Enhanced MR Image Storage",
    _STORAGE + "4.3": "Enhanced MR Color Image Storage",
    _STORAGE + "4.4": "Legacy Converted Enhanced MR Image Storage",
    _STORAGE + "5": "Nuclear Medicine Image Storage (retired)",
    _STORAGE + "6": "Ultrasound Image Storage (retired)",
    _STORAGE + "6.1": "Ultrasound Image Storage",
    _STORAGE + "6.2": "Enhanced US Volume Storage",
    _STORAGE + "7": "Secondary Capture Image Storage",
    _STORAGE + "7.1": "Multi-frame Single Bit Secondary Capture Image Storage",
    _STORAGE + "7.2": "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    _STORAGE + "7.3": "Multi-frame Grayscale Word Secondary Capture Image Storage",
    _STORAGE + "7.4": "Multi-frame True Color Secondary Capture Image Storage",
    _STORAGE + "12.1": "X-Ray Angiographic Image Storage",
    _STORAGE + "12.1.1": "Enhanced XA Image Storage",
    _STORAGE + "12.2": "X-Ray Radiofluoroscopic Image Storage",
    _STORAGE + "12.2.1": "Enhanced XRF Image Storage",
    _STORAGE + "13.1.1": "X-Ray 3D Angiographic Image Storage",
    _STORAGE + "13.1.3": "Breast Tomosynthesis Image Storage",
    _STORAGE + "20": "Nuclear Medicine Image Storage",
    _STORAGE + "128": "Positron Emission Tomography Image Storage",
    _STORAGE + "128.1": "Legacy Converted Enhanced PET Image Storage",
    _STORAGE + "130": "Enhanced PET Image Storage",
}

# Stored and shown, never read as the input of a model.
OBJECT_CLASSES: Mapping[str, str] = {
    _STORAGE + "11.1": "Grayscale Softcopy Presentation State Storage",
    _STORAGE + "11.2": "Color Softcopy Presentation State Storage",
    _STORAGE + "11.3": "Pseudo-Color Softcopy Presentation State Storage",
    _STORAGE + "11.4": "Blending Softcopy Presentation State Storage",
    _STORAGE + "11.5": "XA/XRF Grayscale Softcopy Presentation State Storage",
    _STORAGE + "66.4": "Segmentation Storage",
    _STORAGE + "66.5": "Surface Segmentation Storage",
    _STORAGE + "66.7": "Label Map Segmentation Storage",
    _STORAGE + "88.11": "Basic Text SR Storage",
    _STORAGE + "88.22": "Enhanced SR Storage",
    _STORAGE + "88.33": "Comprehensive SR Storage",
    _STORAGE + "88.34": "Comprehensive 3D SR Storage",
    _STORAGE + "88.35": "Extensible SR Storage",
    _STORAGE + "88.40": "Procedure Log Storage",
    _STORAGE + "88.50": "Mammography CAD SR Storage",
    _STORAGE + "88.59": "Key Object Selection Document Storage",
    _STORAGE + "88.65": "Chest CAD SR Storage",
    _STORAGE + "88.67": "X-Ray Radiation Dose SR Storage",
    _STORAGE + "88.68": "Radiopharmaceutical Radiation Dose SR Storage",
    _STORAGE + "88.69": "Colon CAD SR Storage",
    _STORAGE + "88.71": "Acquisition Context SR Storage",
    _STORAGE + "88.72": "Simplified Adult Echo SR Storage",
    _STORAGE + "88.73": "Patient Radiation Dose SR Storage",
    _STORAGE + "88.76": "Enhanced X-Ray Radiation Dose SR Storage",
}

MPPS = "1.2.840.10008.3.1.2.3.3"
AVAILABILITY = "1.2.840.10008.5.1.4.33"
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"

# What peers tell us of studies; served by `listener.unusual`.
NOTICE_CLASSES: Mapping[str, str] = {
    MPPS: "Modality Performed Procedure Step",
    AVAILABILITY: "Instance Availability Notification",
    UPS_PUSH: "Unified Procedure Step - Push",
}

COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"  # well-known, PS3.4 J.3.5

# Served by `listener.unusual` alone, on associations that propose no storage class.
SEPARATE_CLASSES: Mapping[str, str] = {**NOTICE_CLASSES, COMMITMENT: "Storage Commitment Push Model"}

STORAGE_CLASSES: Mapping[str, str] = {**IMAGE_CLASSES, **OBJECT_CLASSES}

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

TRANSFER_SYNTAXES: Mapping[str, str] = {
    EXPLICIT_VR_LITTLE_ENDIAN: "Explicit VR Little Endian",
    IMPLICIT_VR_LITTLE_ENDIAN: "Implicit VR Little Endian",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless, Non-Hierarchical",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 (Lossless Only)",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 (Lossless Only)",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)",
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline (Process 1)",
    "1.2.840.10008.1.2.4.51": "JPEG Extended (Process 2 and 4)",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
}

# Of commands with small or no datasets.
SEPARATE_SYNTAXES = VERIFICATION_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


def name_of(uid: str) -> str:
    """The name of a SOP class or transfer syntax, ours or not; the UID itself when nobody knows it."""
    return STORAGE_CLASSES.get(uid) or TRANSFER_SYNTAXES.get(uid) or UID(uid).name
