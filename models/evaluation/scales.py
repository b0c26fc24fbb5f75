"""In what each data set is measured: spacing, tolerance, sizes.

None of the two known sets has a known spacing; for others the recipe says in what they are measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.training.cases import Case, CasesError, DataKind
from models.training.recipe_file import RecipeFile


@dataclass(frozen=True)
class Scale:
    """Units of one data set.

    spacing : between voxel centres (slices, rows, columns), in `length_unit`
    size_factor : of `size_unit` in a cubed (one slice: squared) `length_unit`
    tolerance : of the surface Dice, in `length_unit`
    diameter_edges : lower ends of the bands of lesion diameter, in `length_unit`
    headline_diameter : from which the first page counts lesions
    precision_iou : IoU that average precision asks for
    caveat : a sentence about where the spacing comes from
    """

    spacing: tuple[float, float, float]
    length_unit: str
    size_unit: str
    size_factor: float
    tolerance: float
    diameter_edges: tuple[float, ...]
    headline_diameter: float
    precision_iou: float
    caveat: str

    @property
    def voxel(self) -> float:
        """Volume of a voxel in `length_unit` cubed; of one slice, area of a pixel, squared."""
        slices, rows, columns = self.spacing
        return slices * rows * columns

    @property
    def voxel_size(self) -> float:
        """The same in `size_unit`."""
        return self.voxel * self.size_factor


SCALES: dict[DataKind, Scale] = {
    "brain-flair": Scale(
        spacing=(5.0, 0.94, 0.94),
        length_unit="mm",
        size_unit="mL",
        size_factor=1e-3,
        tolerance=2 * 0.94,
        diameter_edges=(0.0, 5.0, 10.0, 20.0, 40.0),
        headline_diameter=10.0,
        precision_iou=0.1,
        caveat="Millimetres and millilitres rest on an assumed spacing of 0.94 x 0.94 x 5 mm.",
    ),
    "breast-us": Scale(
        spacing=(1.0, 1.0, 1.0),
        length_unit="px",
        size_unit="px²",
        size_factor=1.0,
        tolerance=2.0,
        diameter_edges=(0.0, 25.0, 50.0, 100.0),
        headline_diameter=25.0,
        precision_iou=0.5,
        caveat="The images have no spacing: lengths are pixels of images whose longer side has at most 320.",
    ),
}


def scale_of(recipe: RecipeFile) -> Scale:
    """The scale of a recipe's data; the spacing of a case in millimetres is its own (see scale_in)."""
    if recipe.kind in SCALES:
        return SCALES[recipe.kind]
    judging, is_flat = recipe.judging, recipe.input.unit == "image"
    assert judging is not None, "checked when the recipe was read"
    in_mm = judging.length_unit == "mm"
    caveat = (
        "Millimetres rest on the spacing of each case as it was read."
        if in_mm
        else "Lengths are pixels of the images as they were read; nothing is said about millimetres."
    )
    size_units = {(True, True): "mm²", (True, False): "mL", (False, True): "px²", (False, False): "voxels"}
    return Scale(
        spacing=(1.0, 1.0, 1.0),
        length_unit=judging.length_unit,
        size_unit=size_units[in_mm, is_flat],
        size_factor=1e-3 if in_mm and not is_flat else 1.0,
        tolerance=judging.tolerance,
        diameter_edges=judging.diameter_edges,
        headline_diameter=judging.headline_diameter,
        precision_iou=judging.precision_iou,
        caveat=caveat,
    )


def scale_in(case: Case, scale: Scale, kind: DataKind) -> Scale:
    """With the case's own spacing, where the data set has spacings.

    Raises
    ------
    CasesError
        The scale is in millimetres, and the case has no spacing.
    """
    if kind != "own" or scale.length_unit != "mm":
        return scale
    volume = case.volume
    between = volume.slice_spacing_mm if len(volume.array) > 1 else 1.0
    if volume.pixel_spacing_mm is None or between is None:
        raise CasesError(f"case {case.name} has no spacing", remedy="Set judging.length_unit to px.")
    return replace(scale, spacing=(between, *volume.pixel_spacing_mm))
