"""Volume: an array of slices with its geometry, the only thing that enters a model.

Axes are (slice, row, column), 0-based. `affine` maps (column, row, slice, 1) to patient coordinates in mm,
LPS, at voxel centres (PS3.3 C.7.6.2.1.1). A 2D image without a frame of reference has one slice and no
affine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXIS_COSINE_TOLERANCE = 1e-3


class VolumeError(ValueError):
    """An array and a geometry that do not describe a volume; the message names the field."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Immutable array with geometry.

    Parameters
    ----------
    array : (slices, rows, columns), integer or floating point, finite
    affine : (4, 4), (column, row, slice, 1) to LPS mm; None for an image without frame of reference
    pixel_spacing_mm : (between rows, between columns); None when uncalibrated
    slice_spacing_mm : between slice centres along the normal; None for a single slice or when unknown

    Raises
    ------
    VolumeError
        Wrong shape, a value that is not finite, a spacing that is not positive, a singular affine, or
        spacings that contradict the affine.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_spacing_mm: float | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise VolumeError(
                f"array must be (slices, rows, columns) and not empty, got shape {self.array.shape}"
            )
        if self.array.dtype.kind not in "iuf":
            raise VolumeError(f"array must hold integers or floats, got {self.array.dtype}")
        if self.array.dtype.kind == "f" and not np.isfinite(self.array).all():
            raise VolumeError("array holds values that are not finite")
        for name, spacings in (
            ("pixel_spacing_mm", self.pixel_spacing_mm),
            ("slice_spacing_mm", None if self.slice_spacing_mm is None else (self.slice_spacing_mm,)),
        ):
            if spacings is not None and not all(np.isfinite(s) and s > 0 for s in spacings):
                raise VolumeError(f"{name} must be positive and finite, got {spacings}")
        if self.affine is not None:
            self._check_affine(self.affine)
        # The arrays are shared, not copied; whoever holds a Volume may rely on them.
        self.array.flags.writeable = False

    def _check_affine(self, affine: NDArray[np.float64]) -> None:
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise VolumeError(f"affine must be a finite (4, 4) matrix, got shape {affine.shape}")
        if not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise VolumeError("affine must end in the row 0 0 0 1")
        if abs(float(np.linalg.det(affine[:3, :3]))) < 1e-9:
            raise VolumeError("affine is singular: two voxels share one place")
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        if self.pixel_spacing_mm is not None:
            rows, columns = self.pixel_spacing_mm
            if not np.allclose((steps[1], steps[0]), (rows, columns), rtol=1e-2):
                raise VolumeError(
                    f"affine steps {steps[1]:.4f}, {steps[0]:.4f} mm contradict pixel_spacing_mm {rows}, "
                    f"{columns}"
                )
        affine.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.array.shape
        return slices, rows, columns

    @property
    def voxel_ml(self) -> float | None:
        """Volume of one voxel in mL; None when any spacing is unknown."""
        if self.pixel_spacing_mm is None or self.slice_spacing_mm is None:
            return None
        return self.pixel_spacing_mm[0] * self.pixel_spacing_mm[1] * self.slice_spacing_mm / 1000.0
