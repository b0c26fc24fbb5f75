"""The sections of a recipe that say which data are read, how they are divided, and how results are judged.

Readers are a closed list: each entry has its own settings, and nothing is imported by name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.applicability import Text
from models.manifest import (
    ClassFinding,
    Code,
    Findings,
    MeasurementFinding,
    MeasurementName,
    SegmentFinding,
    StructureTotal,
    TrainingData,
)
from models.simulation.phantom import SLAB_MM
from models.steps import Strict

FilePattern = Annotated[str, Field(min_length=1, max_length=300)]


class DataSection(Strict):
    """What every data set has, for the card."""

    name: Text
    licence: Text
    citation: Annotated[str, Field(max_length=1000)]
    unit: Literal["patients", "images"]  # what one case is called
    folder: str | None = None  # from the recipe's own folder on; None: the command says where
    faults: Literal["refuse", "exclude"] = "refuse"  # cases that cannot be used: stop, or leave out by name

    def counted(self, cases: int) -> TrainingData:
        """As model.json has it."""
        return TrainingData(
            name=self.name, licence=self.licence, n=cases, unit=self.unit, citation=self.citation
        )


class BrainFlairData(DataSection):
    """The folder brain-flair of the labelled data, see models.training.cases."""

    reader: Literal["brain-flair"]


class BreastUsData(DataSection):
    """The folder breast-us of the labelled data."""

    reader: Literal["breast-us"]


class TableData(DataSection):
    """Image and mask pairs (NIfTI, PNG or JPEG) that a CSV lists.

    Its columns: `image`, `mask` (empty: nothing to outline), and where known `name`, `group` (patient, or
    group of near-duplicates) and `class`.
    """

    reader: Literal["table"]
    table: str = "cases.csv"


class PairsData(DataSection):
    """Image and mask pairs found by their names.

    `{case}` in both patterns stands for what an image and its mask have in common. `group` and `class_name`
    are regular expressions on the case's name; the first parenthesis (or the whole match) is taken.
    """

    reader: Literal["pairs"]
    images: FilePattern = "images/{case}.nii.gz"
    masks: FilePattern = "masks/{case}.nii.gz"
    missing_mask: Literal["refuse", "nothing_there"] = "refuse"
    group: FilePattern | None = None
    class_name: FilePattern | None = None


class DicomSegData(DataSection):
    """DICOM studies with SEG objects that name the images they outline; a folder of them, in any order.

    One case is a series (or an image, as the recipe's input says) that a SEG refers to. The patient is the
    group. Without `segments` every segment belongs to the mask; with it those whose label is named; where the
    recipe finds structures, the first name is structure 1, the next 2. `classes` is a CSV in the folder with
    the columns uid (of image, series or study, or Patient ID) and class.
    """

    reader: Literal["dicom-seg"]
    segments: tuple[str, ...] = ()
    classes: str | None = None


class GeneratedNodulesData(DataSection):
    """Phantoms of the chest with nodules after the statistics of LIDC-IDRI, see models.simulation.

    Nothing is read: phantom n is made from the seed and n, and is a group of its own.
    """

    reader: Literal["generated-nodules"]
    phantoms: int = Field(ge=1, le=10_000)
    seed: int = 45
    # Slices, rows, columns: how much chest. A part of it has less of what is not a nodule.
    slab_mm: tuple[
        Annotated[float, Field(ge=16, le=400)],
        Annotated[float, Field(ge=180, le=400)],
        Annotated[float, Field(ge=240, le=500)],
    ] = SLAB_MM
    pixel_mm: Annotated[float, Field(ge=0.5, le=5)] | None = None  # None: drawn for each, as scanners differ


DataSource = Annotated[
    BrainFlairData | BreastUsData | TableData | PairsData | DicomSegData | GeneratedNodulesData,
    Field(discriminator="reader"),
]


class SplitSection(Strict):
    """How cases are divided. Fold 0 is scored and never trained on."""

    file: str | None = None  # a frozen split, from the recipe's folder on; None: drawn from folds and seed
    folds: int = Field(default=5, ge=2, le=20)
    seed: int = 45
    # Groups whose cases carry different classes: near-duplicates contradict each other, patients need not.
    contradictions: Literal["keep", "exclude"] = "keep"
    naive: bool = False  # also train and judge on folds that ignore groups, to show what that hides


class GeneratedSection(Strict):
    """Cases of preread's own study generator, mixed in as a minority, and shown on the card."""

    like: Literal["brain-flair", "breast-us"]
    cases: int = Field(ge=0, le=10000)


class FindingsSection(Strict):
    """What comes out, in words and codes. Measurements are named; their codes are the same for all models."""

    kind: Literal["lesions", "structures"] = "lesions"
    segments: tuple[SegmentFinding, ...] = Field(min_length=1)
    measurements: tuple[MeasurementName, ...]
    classes: tuple[ClassFinding, ...] = ()
    negative_statement: Text | None = None  # of lesions
    urgent_ml: float | None = Field(default=None, gt=0)
    totals: tuple[StructureTotal, ...] = ()

    @property
    def structures(self) -> int:
        """How many structures have a label of their own; 0 for lesions."""
        return len(self.segments) if self.kind == "structures" else 0

    def coded(self) -> Findings:
        """As model.json has it."""
        # Head 0 is the background, head n structure n.
        numbered = [segment.model_copy(update={"heads": (segment.number,)}) for segment in self.segments]
        return Findings(
            kind=self.kind,
            segments=tuple(numbered) if self.kind == "structures" else self.segments,
            measurements=tuple(measurement(name) for name in self.measurements),
            classes=self.classes,
            negative_statement=self.negative_statement,
            urgent_ml=self.urgent_ml,
            totals=self.totals,
        )


class OperatingSection(Strict):
    """How the thresholds of `postprocess` were chosen; a recipe has one setting of them."""

    name: Text = "standard"
    chosen_on: Text


class JudgingSection(Strict):
    """In what results are measured.

    With `mm` every case must have a known spacing. `tolerance` is that of the surface Dice,
    `headline_diameter` the size from which the first page of a report counts lesions.
    """

    length_unit: Literal["mm", "px"]
    tolerance: float = Field(default=2.0, gt=0)
    diameter_edges: tuple[float, ...] = (0.0, 10.0, 20.0, 40.0)
    headline_diameter: float = Field(default=10.0, gt=0)
    precision_iou: float = Field(default=0.1, gt=0, le=1)


_MM = Code(value="mm", scheme="UCUM", meaning="millimeter")
_PIXELS = Code(value="{pixels}", scheme="UCUM", meaning="pixels")
_AREA = Code(value="42798000", scheme="SCT", meaning="Area")
_LONG_AXIS = Code(value="103339001", scheme="SCT", meaning="Long Axis")
_SHORT_AXIS = Code(value="103340004", scheme="SCT", meaning="Short Axis")
_MEASUREMENTS: dict[MeasurementName, tuple[Code, Code]] = {
    "volume_ml": (
        Code(value="118565006", scheme="SCT", meaning="Volume"),
        Code(value="mL", scheme="UCUM", meaning="milliliter"),
    ),
    "area_mm2": (_AREA, Code(value="mm2", scheme="UCUM", meaning="square millimeter")),
    "area_px": (_AREA, _PIXELS),
    "long_axis_mm": (_LONG_AXIS, _MM),
    "short_axis_mm": (_SHORT_AXIS, _MM),
    "long_axis_px": (_LONG_AXIS, _PIXELS),
}


def measurement(name: MeasurementName) -> MeasurementFinding:
    """A measurement with its codes (PS3.16 for concepts, UCUM for units)."""
    concept, unit = _MEASUREMENTS[name]
    return MeasurementFinding(name=name, concept=concept, unit=unit)
