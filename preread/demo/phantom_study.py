"""What the study generator returns: datasets, the truth about them, how preread must end with them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import UID

BoolArray = NDArray[np.bool_]
StudyKind = Literal["brain", "breast", "ct"]

BRAIN_MODEL = "brain-flair-lesion"
BREAST_MODEL = "breast-us-lesion"


@dataclass(frozen=True)
class PhantomPatient:
    """A patient who is plainly none; birth date as DICOM writes it, or empty."""

    name: str
    patient_id: str
    birth_date: str = "19600101"
    sex: Literal["F", "M", "O", ""] = "O"


@dataclass(frozen=True)
class Expected:
    """How preread must end with the study.

    `model` is None where no model wants any of it; `lesions` counts what is there, whoever finds it.
    """

    outcome: Literal["delivered", "not_analysed"]
    model: str | None
    reason: str | None = None
    lesions: int = 0
    class_name: Literal["benign", "malignant", "normal"] | None = None


@dataclass(frozen=True)
class GeneratedStudy:
    """One study.

    Parameters
    ----------
    datasets : with file meta, pixel data encoded in the transfer syntax that the file meta names
    truth : lesion mask by SOP Instance UID, (rows, columns), or (frames, rows, columns) for a multi-frame
        instance; every instance of the annotated series has one, other series none
    labels : the same with numbers: 0 nothing, 1 to n the lesion
    """

    study_uid: str
    kind: StudyKind
    description: str
    datasets: list[Dataset]
    truth: Mapping[str, BoolArray]
    labels: Mapping[str, NDArray[np.uint8]]
    expected: Expected
    annotated_series_uid: str | None = field(default=None)


def seeded_uid(seed: int, *parts: object) -> str:
    """UID that follows from the seed and the parts, of the UUID arc (PS3.5 B.2).

    Its 38 digits cannot be those of a UID that preread gives to results: these have 39.
    """
    digest = hashlib.sha256("/".join(str(p) for p in ("phantom", seed, *parts)).encode()).digest()
    # A first hex digit of 1 keeps the number between 2.1e37 and 4.3e37; then version 8 and variant of a UUID.
    number = int.from_bytes(digest[:16], "big") & ((1 << 124) - 1) | (1 << 124)
    number = number & ~(0xF << 76) | (0x8 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return UID(f"2.25.{number}")


def part10(dataset: Dataset) -> bytes:
    """The dataset as a DICOM file, in the transfer syntax that its file meta names."""
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()
