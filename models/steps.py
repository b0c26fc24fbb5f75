"""The closed vocabulary of preprocessing and post-processing: what a package may declare, as data.

A step that is not listed here does not exist; a package that names one is refused. Numbers are bounded so
that a package cannot ask for an absurd canvas.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Base of everything read from a package: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Orient(Strict):
    """Turn slices in plane so that columns run to the patient's left and rows to the back (axial
    convention).
    """

    step: Literal["orient"]
    convention: Literal["axial"]


class TissueScale(Strict):
    """Intensities of a volume so that air is 0 and the median of tissue is 1, then clipped to 0 ..
    maximum.
    """

    step: Literal["tissue_scale"]
    maximum: float = Field(gt=1, le=100)


class GreyScale(Strict):
    """Intensities of an image so that its darkest pixel is 0 and the given percentile is 1, then clipped to 0
    .. 1.
    """

    step: Literal["grey_scale"]
    percentile: float = Field(gt=50, le=100)


class SpacingCanvas(Strict):
    """Resample in plane to a spacing and centre the tissue on a canvas at least this large, a multiple of
    32.
    """

    step: Literal["spacing_canvas"]
    spacing_mm: float = Field(gt=0.05, le=10)
    minimum: int = Field(ge=32, le=1024, multiple_of=32)
    maximum: int = Field(ge=32, le=1024, multiple_of=32)
    tissue_threshold: float = Field(gt=0, lt=1)


class FitCanvas(Strict):
    """Scale the whole image, keeping its shape, into a fixed canvas; the rest stays 0."""

    step: Literal["fit_canvas"]
    rows: int = Field(ge=32, le=1024, multiple_of=32)
    columns: int = Field(ge=32, le=1024, multiple_of=32)


class StackSlices(Strict):
    """Each slice with `neighbours` slices on either side as channels; the ends repeat the last slice."""

    step: Literal["stack_slices"]
    neighbours: int = Field(ge=0, le=3)


class Standardise(Strict):
    """(value - mean) / deviation, the last step before the network."""

    step: Literal["standardise"]
    mean: float
    deviation: float = Field(gt=0)


PreprocessStep = Annotated[
    Orient | TissueScale | GreyScale | SpacingCanvas | FitCanvas | StackSlices | Standardise,
    Field(discriminator="step"),
]


class Threshold(Strict):
    """Voxels of at least this probability belong to a lesion, or to the likeliest of the structures.

    With `of_peak` the threshold falls to that share of the map's highest probability, where this is lower
    (and not below `floor`): a place that is likely but nowhere sure is outlined too. Whether there is a
    lesion at all is then for an image gate to say.
    """

    step: Literal["threshold"]
    probability: float = Field(gt=0, lt=1)
    of_peak: float | None = Field(default=None, gt=0, lt=1)
    floor: float = Field(default=0.05, gt=0, lt=1)


# Of a package of structures: the segments a step is for; empty: each of them.
Segments = tuple[Annotated[int, Field(ge=1, le=255)], ...]


class Argmax(Strict):
    """Each voxel belongs to the structure of its likeliest map, or to none where that is background."""

    step: Literal["argmax"]


class KeepLargest(Strict):
    """Of each structure the largest connected part stays."""

    step: Literal["keep_largest"]
    segments: Segments = ()


class FillHoles(Strict):
    """Holes inside a lesion, slice by slice, become lesion. A hole in a structure that is another structure
    stays so.
    """

    step: Literal["fill_holes"]
    segments: Segments = ()


class MinComponent(Strict):
    """Connected lesions, or parts of a structure, smaller than this are dropped; exactly one limit is given.

    `minimum_ml` needs a volume with known spacing; `minimum_share` is a share of the image's area.
    """

    step: Literal["min_component"]
    minimum_ml: float | None = Field(default=None, gt=0)
    minimum_share: float | None = Field(default=None, gt=0, lt=1)
    segments: Segments = ()

    @model_validator(mode="after")
    def _one_limit(self) -> MinComponent:
        if (self.minimum_ml is None) == (self.minimum_share is None):
            raise ValueError("min_component needs exactly one of minimum_ml and minimum_share")
        return self


class MinPeak(Strict):
    """Connected lesions whose highest probability is below this are dropped."""

    step: Literal["min_peak"]
    probability: float = Field(gt=0, lt=1)


class ImageGate(Strict):
    """No lesion is drawn on an image of this class.

    The image is of this class when that is the likeliest, or, with `probability`, when it is at least that
    likely; otherwise the image is of the likeliest other class.
    """

    step: Literal["image_gate"]
    class_name: str
    probability: float | None = Field(default=None, gt=0, lt=1)


class KeepDetections(Strict):
    """Of a detector's boxes those of at least this score are findings, the surest `at_most` of them."""

    step: Literal["keep_detections"]
    score: float = Field(gt=0, lt=1)
    at_most: int = Field(default=20, ge=1, le=200)


PostprocessStep = Annotated[
    Threshold | Argmax | FillHoles | MinComponent | KeepLargest | MinPeak | ImageGate | KeepDetections,
    Field(discriminator="step"),
]
