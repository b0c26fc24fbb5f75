"""Coded concepts that result objects use themselves (PS3.16; SNOMED CT, UCUM and a scheme of our own).

Concepts of a model (lesion type, site, classes) come from its package; here are those of the report itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PRIVATE_SCHEME: Final = "99PREREAD"
PRIVATE_SCHEME_NAME: Final = "preread reasons and findings without a public code"


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator, meaning (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


# Values of measurements (PS3.16 CID 7464, 7469, 218) and their units (UCUM).
VOLUME: Final = Code("118565006", "SCT", "Volume")
AREA: Final = Code("42798000", "SCT", "Area")
LONG_AXIS: Final = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS: Final = Code("103340004", "SCT", "Short Axis")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
MILLILITRE: Final = Code("mL", "UCUM", "milliliter")
MILLIMETRE: Final = Code("mm", "UCUM", "millimeter")
SQUARE_MILLIMETRE: Final = Code("mm2", "UCUM", "square millimeter")
PIXELS: Final = Code("{pixels}", "UCUM", "pixels")
NO_UNITS: Final = Code("1", "UCUM", "no units")

# The frame of the report (PS3.16 CID 7021, 270, 219).
REPORT_TITLE: Final = Code("126000", "DCM", "Imaging Measurement Report")
DEVICE: Final = Code("121007", "DCM", "Device")
OUTLINE: Final = Code("111041", "DCM", "Outline")
BOUNDED_BY: Final = Code("75958009", "SCT", "Bounded by")

# What the report says about the whole study or image.
PRESENCE: Final = Code("121052", "DCM", "Presence of property")
PRESENT: Final = Code("52101004", "SCT", "Present")
ABSENT: Final = Code("272519000", "SCT", "Absent")
CLASSIFICATION: Final = Code("278201002", "SCT", "Classification")
PROCESSING_SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
WITH_FINDINGS: Final = Code("111242", "DCM", "All algorithms succeeded; with findings")
WITHOUT_FINDINGS: Final = Code("111241", "DCM", "All algorithms succeeded; without findings")
COMMENT: Final = Code("121106", "DCM", "Comment")
NOT_ANALYSED: Final = Code("NOT-ANALYSED", PRIVATE_SCHEME, "Not analysed")
REASON: Final = Code("REASON", PRIVATE_SCHEME, "Reason")
OUTLINING: Final = Code("OUTLINING", PRIVATE_SCHEME, "Outlining of the structure")
NOT_OUTLINED: Final = Code("NOT-OUTLINED", PRIVATE_SCHEME, "Looked for, not outlined")
LIKENESS: Final = Code("LIKENESS", PRIVATE_SCHEME, "Likeness of the input to the training cases")
USUAL: Final = Code("USUAL", PRIVATE_SCHEME, "Like the training cases")
UNUSUAL: Final = Code("UNUSUAL", PRIVATE_SCHEME, "Unlike the training cases, read with caution")

# Who made it.
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")

LEFT: Final = Code("7771000", "SCT", "Left")
RIGHT: Final = Code("24028007", "SCT", "Right")
BILATERAL: Final = Code("51440002", "SCT", "Bilateral")

# Procedure reported, when the study does not name one: the modality alone is certain (PS3.16 CID 100).
PROCEDURES: Final = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "US": Code("16310003", "SCT", "Diagnostic ultrasonography"),
    "MG": Code("71651007", "SCT", "Mammography"),
    "PT": Code("82918005", "SCT", "Positron emission tomography"),
    "DX": Code("168537006", "SCT", "Plain radiography"),
    "CR": Code("168537006", "SCT", "Plain radiography"),
}
PROCEDURE_UNKNOWN: Final = Code("363679005", "SCT", "Imaging procedure")
