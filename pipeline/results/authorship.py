"""Who made a result, when and as which series: what all our objects have in common, and their last touches.

The library that builds objects takes times from the clock and UIDs from a random source; `finish` replaces
them by the job's time and derived UIDs, so that a repeat makes the same bytes.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Final, Literal

import highdicom
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode
from pydicom.uid import UID

from config.identity import (
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    MANUFACTURER,
    PRODUCT,
    VERSION,
)
from pipeline.results.codes import PROCESSING_EQUIPMENT, Code
from pipeline.results.findings import ModelIdentity
from pipeline.results.uids import RunKey, dimension_uid

Kind = Literal["SEG", "SR", "SC"]

_SERIES_NUMBER_FIRST: Final = 9000
_SERIES_NUMBERS_PER_MODEL: Final = 10
_KINDS: Final[tuple[Kind, ...]] = ("SEG", "SR", "SC")
_DESCRIPTION_MAX: Final = 64
CREATOR: Final = f"{PRODUCT}^AI"


@dataclass(frozen=True)
class Authorship:
    """Who speaks in a result set.

    Parameters
    ----------
    key : what decides the UIDs
    installation : Device Serial Number of every object
    created_at : aware; of the job, so that a repeat of the job has the same
    slot : place of the model among those of the node, 0-based; gives the series numbers
    zone : offset from UTC in which times are written, as in +0100; empty: the node's own
    """

    key: RunKey
    model: ModelIdentity
    installation: str
    created_at: datetime.datetime
    slot: int = 0
    zone: str = ""

    @property
    def local_time(self) -> datetime.datetime:
        """`created_at` in the zone of the objects."""
        if not self.zone:
            return self.created_at.astimezone()
        sign = -1 if self.zone[0] == "-" else 1
        offset = datetime.timedelta(hours=int(self.zone[1:3]), minutes=int(self.zone[3:5]))
        return self.created_at.astimezone(datetime.timezone(sign * offset))

    def arguments(self, kind: Kind, part: str = "") -> dict[str, Any]:
        """Keyword arguments that every constructor of the library takes alike."""
        return {
            "series_instance_uid": self.key.series_uid(kind, part),
            "series_number": _SERIES_NUMBER_FIRST
            + _SERIES_NUMBERS_PER_MODEL * self.slot
            + _KINDS.index(kind)
            + 1,
            "sop_instance_uid": self.key.instance_uid(kind, part),
            "instance_number": self.key.revision,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": PRODUCT,
            "software_versions": self.software_versions[0],
            "device_serial_number": self.installation,
            "series_description": self.description(kind),
            "content_qualification": "RESEARCH",
            "contributing_equipment": [self._equipment()],
        }

    @property
    def software_versions(self) -> tuple[str, str]:
        """Product and model package, each with its version."""
        model = f"{self.model.id} {self.model.version}"
        return f"{PRODUCT} {VERSION}"[:_DESCRIPTION_MAX], model[:_DESCRIPTION_MAX]

    def description(self, kind: Kind) -> str:
        """Series description: that it is AI, which, and that nobody verified it."""
        tail = f" {kind} - not verified"
        return f"AI {self.model.id}"[: _DESCRIPTION_MAX - len(tail)] + tail

    def _equipment(self) -> Any:
        return highdicom.ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=coded(PROCESSING_EQUIPMENT),
            manufacturer_model_name=f"{PRODUCT}/{self.model.id}"[:_DESCRIPTION_MAX],
            software_versions=self.software_versions,
            device_serial_number=self.installation,
            contribution_datetime=self.local_time,
            contribution_description=f"analysis run {self.key.digest_of_run()}",
        )

    def finish(self, finished: Dataset) -> None:
        """Replace what the library took from the clock, a random source or itself."""
        day, moment = f"{self.local_time:%Y%m%d}", f"{self.local_time:%H%M%S}"
        for date_keyword, time_keyword in (
            ("InstanceCreationDate", "InstanceCreationTime"),
            ("ContentDate", "ContentTime"),
            ("SeriesDate", "SeriesTime"),
            ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
        ):
            if date_keyword in finished or date_keyword == "SeriesDate":
                setattr(finished, date_keyword, day)
                setattr(finished, time_keyword, moment)
        for item in finished.ContributingEquipmentSequence:
            if item.PurposeOfReferenceCodeSequence[0].CodeValue == PROCESSING_EQUIPMENT.value:
                item.ContributionDateTime = f"{self.local_time:%Y%m%d%H%M%S%z}"
        # The library takes several versions only as a tuple, which pydicom does not write.
        finished.SoftwareVersions = list(self.software_versions)
        if self.zone:
            finished.TimezoneOffsetFromUTC = self.zone
        dimensions = dimension_uid(str(finished.SOPInstanceUID), self.key.root)
        for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in finished.get(keyword, ()):
                item.DimensionOrganizationUID = dimensions
        finished.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
        finished.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION


def coded(code: Code) -> PydicomCode:
    """A concept in the form the library takes."""
    return PydicomCode(code.value, code.scheme, code.meaning)
