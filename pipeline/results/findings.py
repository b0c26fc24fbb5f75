"""Findings: what a model found, measured, and by which model; values without behaviour.

They are made by `measure` from a prediction and end as SEG, SR, picture and the findings JSON of the job.
Positions inside an image are (row, column) with the centre of a pixel at its index; axes of masks are
(slice, row, column), 0-based.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.explanation.attention import Attention
from pipeline.results.codes import Code
from pipeline.results.colours import lesion_colour
from pipeline.results.outline import Point, Points

Labels = NDArray[np.uint16]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class SegmentPlan:
    """How a lesion or a structure of a model is named in objects; colour in CIELab (L 0..100, a and b
    -128..127).

    Parameters
    ----------
    number : of the segment in the package
    modifier : of the region, such as Anterior
    side : L, R or B where the package says so; None: the image's own laterality
    """

    label: str
    category: Code
    kind: Code
    region: Code | None
    colour: tuple[float, float, float]
    number: int = 1
    modifier: Code | None = None
    side: Literal["L", "R", "B"] | None = None


@dataclass(frozen=True)
class TotalPlan:
    """Structures that are also measured together, by number."""

    label: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class ClassPlan:
    """One class a model tells apart; `negative`: nothing found, `urgent`: a person should look soon."""

    name: str
    concept: Code
    negative: bool
    urgent: bool


@dataclass(frozen=True)
class ModelIdentity:
    """Which model speaks, and what it says about itself.

    Parameters
    ----------
    id, title, version : as the package declares them
    digest : sha256 of the package
    parameters : what steers the result (threshold, operating point), by name
    card_line : one sentence: what it was trained on and what it is not validated for
    negative_statement : what it says when it finds nothing
    segment : how its lesions are named and shown; of structures the first
    urgent_ml : total volume of lesions from which a study is urgent; None: never by volume
    structures : what it looks for in every study, by number; empty: it looks for lesions
    totals : of structures
    outlines_extents : its outlines are approximate extents, ellipsoids in boxes, and not boundaries
    """

    id: str
    title: str
    version: str
    digest: str
    parameters: Mapping[str, str]
    card_line: str
    negative_statement: str
    segment: SegmentPlan
    classes: tuple[ClassPlan, ...] = ()
    urgent_ml: float | None = None
    structures: tuple[SegmentPlan, ...] = ()
    totals: tuple[TotalPlan, ...] = ()
    outlines_extents: bool = False

    @property
    def outlines_structures(self) -> bool:
        """Whether it looks for named structures instead of lesions."""
        return bool(self.structures)

    def plan_of(self, number: int) -> SegmentPlan:
        """How finding `number` is named: every lesion like the first segment, each structure by itself."""
        return self.structures[number - 1] if self.structures else self.segment

    def colour_of(self, number: int) -> tuple[float, float, float]:
        """Its colour in SEG, picture and page, CIELab."""
        if self.structures:
            return self.structures[number - 1].colour
        return lesion_colour(self.segment.colour, number)

    def class_plan(self, name: str | None) -> ClassPlan | None:
        """The class called `name`, if the model has it."""
        return next((plan for plan in self.classes if plan.name == name), None)


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion, or one named structure, in one source, measured.

    Parameters
    ----------
    label : its value in the label array, and its segment number in the SEG of that source
    box : slices of the label array that hold it
    voxels : in the whole source
    key_slice : slice with the longest diameter; index into the source's frames
    area_px, area_mm2 : of the key slice; mm2 only for a calibrated image
    volume_ml : voxels x pixel spacing x distance of positions along the normal; None where one is unknown
    long_axis_mm, short_axis_mm : diameters on the key slice; None when uncalibrated
    long_axis_px, short_axis_px : the same in pixels; None when calibrated
    long_ends, short_ends : end points of the two diameters, (row, column)
    outline : (n, 2), (row, column): outer outline of the part of the key slice that holds the long axis
    """

    label: int
    box: Box
    voxels: int
    score: float | None
    key_slice: int
    area_px: int
    area_mm2: float | None
    volume_ml: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None
    long_axis_px: float | None
    short_axis_px: float | None
    long_ends: tuple[Point, Point]
    short_ends: tuple[Point, Point]
    outline: Points


@dataclass(frozen=True, eq=False)
class SourceFindings:
    """What was found in one source: a volume, or one 2D image of several.

    `lesions` are the structures that were found where the model looks for structures; `labels` number them
    1..n, whatever their numbers in the package are.
    `is_unusual`: unlike the model's training cases; None where the model does not know.
    """

    labels: Labels
    lesions: tuple[Lesion, ...]
    class_name: str | None
    class_scores: Mapping[str, float]
    notes: tuple[str, ...]
    attention: Attention | None = None
    is_unusual: bool | None = None


@dataclass(frozen=True)
class TrackedLesion:
    """A lesion or structure with its identity across objects and revisions.

    Parameters
    ----------
    number : 1-based over the whole study, as people see it; of a structure, its segment in the package
    source : index of the source it lies in
    tracking_uid : the same in SEG and SR, and in a later revision that finds it again
    """

    number: int
    source: int
    lesion: Lesion
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True)
class Findings:
    """Everything one model found in one study revision.

    `class_name` and `class_scores` are those of the image that decides: the most suspicious one.
    """

    model: ModelIdentity
    sources: tuple[SourceFindings, ...]
    lesions: tuple[TrackedLesion, ...]
    class_name: str | None
    class_scores: Mapping[str, float]
    deciding_source: int
    notes: tuple[str, ...]

    def not_found_in(self, source: int) -> tuple[SegmentPlan, ...]:
        """The structures that were looked for in a source and not outlined."""
        found = {tracked.number for tracked in self.lesions_of(source)}
        return tuple(plan for plan in self.model.structures if plan.number not in found)

    @property
    def is_unusual(self) -> bool:
        """Whether any source is unlike the model's training cases."""
        return any(bool(one.is_unusual) for one in self.sources)

    def lesions_of(self, source: int) -> tuple[TrackedLesion, ...]:
        """The lesions of one source, by segment number."""
        return tuple(tracked for tracked in self.lesions if tracked.source == source)
