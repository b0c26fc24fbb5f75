"""A synthetic head in FLAIR with known lesions: anatomy, lesions, and one call that does both."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preread.demo.phantoms.fields import BoolArray, FloatArray
from preread.demo.phantoms.head_contrast import FLAIR, HeadContrast, Scanner, render_head
from preread.demo.phantoms.head_lesion import grow_lesions
from preread.demo.phantoms.head_tissues import VERTEX_MM, head_tissues
from preread.demo.phantoms.tissue import HeadShape


@dataclass(frozen=True)
class HeadAnatomy:
    """What every sequence of one head shares. All arrays are (slices, rows, columns), slice 0 the lowest.

    Rows run to the back and columns to the patient's left (LPS), so [slice, row, column] is [z, y, x].
    """

    tissue: NDArray[np.uint8]
    lesion: FloatArray
    lesion_core: FloatArray
    mask: BoolArray
    lesion_labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class FlairHead:
    """A FLAIR volume in scanner units with its truth; all arrays (slices, rows, columns), slice 0 lowest."""

    array: FloatArray
    mask: BoolArray
    lesion_labels: NDArray[np.uint8]
    anatomy: HeadAnatomy


def head_anatomy(
    rng: np.random.Generator,
    *,
    slices: int = 24,
    rows: int = 256,
    columns: int = 256,
    pixel_spacing_mm: float = 0.94,
    slice_spacing_mm: float = 5.0,
    lesions: int = 2,
    lesion_diameter_mm: tuple[float, float] = (15.0, 45.0),
    lesion_irregularity: float = 0.28,
    base_mm: float | None = None,
    head_scale: float | None = None,
    rotation_degrees: float | None = None,
    pitch_degrees: float | None = None,
    ventricle_scale: float | None = None,
    sulcus_width: float | None = None,
) -> HeadAnatomy:
    """Tissues and lesions of one head; what is None is drawn from the range seen in adults.

    Parameters
    ----------
    lesions : how many are wanted; fewer only if they do not fit apart from each other
    base_mm : height of the lowest slice over the commissures; the head is fitted to the stack from there
        to its top, as a technologist plans the stack to the head
    head_scale : 1.0 is 152 mm wide and 190 mm long
    """
    size = head_scale if head_scale is not None else rng.uniform(0.98, 1.16)
    shape = HeadShape(
        half_width_mm=74.0 * size * rng.uniform(0.95, 1.05),
        half_length_mm=94.0 * size * rng.uniform(0.96, 1.04),
        egg=rng.uniform(0.02, 0.11),
        scalp_mm=rng.uniform(3.0, 6.0),
        skull_mm=rng.uniform(3.0, 5.0),
        ventricle_scale=ventricle_scale if ventricle_scale is not None else rng.uniform(0.7, 1.35),
        sulcus_width=sulcus_width if sulcus_width is not None else rng.uniform(0.5, 1.3),
        rotation_rad=np.deg2rad(rotation_degrees if rotation_degrees is not None else rng.normal(0.0, 3.5)),
        pitch_rad=np.deg2rad(pitch_degrees if pitch_degrees is not None else rng.normal(0.0, 5.0)),
        shift_mm=(rng.normal(0.0, 3.0), rng.normal(0.0, 4.0)),
    )
    bottom = base_mm if base_mm is not None else rng.uniform(-58.0, -38.0)
    top = VERTEX_MM + rng.uniform(-4.0, 5.0)
    heights = np.linspace(bottom, top, slices) if slices > 1 else np.array([12.0])
    y_mm = (np.arange(rows) - (rows - 1) / 2) * pixel_spacing_mm
    x_mm = (np.arange(columns) - (columns - 1) / 2) * pixel_spacing_mm
    z, y, x = np.meshgrid(heights, y_mm, x_mm, indexing="ij")
    step = float(heights[1] - heights[0]) if slices > 1 else slice_spacing_mm
    sample_mm = (step, pixel_spacing_mm, pixel_spacing_mm)
    point = (x.astype(np.float32), y.astype(np.float32), z.astype(np.float32))
    tissues = head_tissues(rng, point, shape, sample_mm=sample_mm)
    spacing = (slice_spacing_mm, pixel_spacing_mm, pixel_spacing_mm)
    lesion, core, labels = grow_lesions(
        rng, tissues, spacing, count=lesions, diameter_mm=lesion_diameter_mm, irregularity=lesion_irregularity
    )
    return HeadAnatomy(tissues.tissue, lesion, core, labels > 0, labels, spacing)


def flair_head(
    rng: np.random.Generator,
    *,
    slices: int = 24,
    rows: int = 256,
    columns: int = 256,
    pixel_spacing_mm: float = 0.94,
    slice_spacing_mm: float = 5.0,
    lesions: int = 2,
    lesion_diameter_mm: tuple[float, float] = (15.0, 45.0),
    lesion_irregularity: float = 0.28,
    contrast: HeadContrast = FLAIR,
    lesion_contrast: float | None = None,
    white_matter_units: float | None = None,
    noise: float | None = None,
    bias: float | None = None,
    base_mm: float | None = None,
    head_scale: float | None = None,
    rotation_degrees: float | None = None,
    pitch_degrees: float | None = None,
    ventricle_scale: float | None = None,
    sulcus_width: float | None = None,
) -> FlairHead:
    """One FLAIR volume with `lesions` hyperintense blobs in the white matter; see `head_anatomy`.

    Parameters
    ----------
    lesion_contrast : brightness of a lesion over white matter, 1.35 to 2.0 if None
    white_matter_units : scanner units of white matter, 150 to 900 if None
    noise, bias : deviation of noise and of log shading, relative to white matter; drawn if None
    """
    anatomy = head_anatomy(
        rng,
        slices=slices,
        rows=rows,
        columns=columns,
        pixel_spacing_mm=pixel_spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
        lesions=lesions,
        lesion_diameter_mm=lesion_diameter_mm,
        lesion_irregularity=lesion_irregularity,
        base_mm=base_mm,
        head_scale=head_scale,
        rotation_degrees=rotation_degrees,
        pitch_degrees=pitch_degrees,
        ventricle_scale=ventricle_scale,
        sulcus_width=sulcus_width,
    )
    scanner = Scanner(
        white_matter_units=white_matter_units
        if white_matter_units is not None
        else rng.uniform(150.0, 900.0),
        noise=noise if noise is not None else rng.uniform(0.02, 0.07),
        bias=bias if bias is not None else rng.uniform(0.05, 0.16),
    )
    array = render_head(
        rng,
        anatomy.tissue,
        anatomy.lesion,
        anatomy.lesion_core,
        contrast=contrast,
        scanner=scanner,
        lesion_contrast=lesion_contrast if lesion_contrast is not None else rng.uniform(1.4, 2.0),
    )
    return FlairHead(array, anatomy.mask, anatomy.lesion_labels, anatomy)
