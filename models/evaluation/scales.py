"""In what each data set is measured: spacing, tolerance, sizes. None of the two sets has a known spacing."""

from __future__ import annotations

from dataclasses import dataclass

from models.training.cases import DataKind


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
