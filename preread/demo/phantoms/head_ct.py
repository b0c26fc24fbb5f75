"""From the tissues of a head to Hounsfield units."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.fields import FloatArray
from preread.demo.phantoms.head import HeadAnatomy
from preread.demo.phantoms.tissue import Tissue

HOUNSFIELD: Mapping[Tissue, float] = MappingProxyType(
    {
        Tissue.AIR: -1000.0,
        Tissue.FAT: -90.0,
        Tissue.SKIN: 45.0,
        Tissue.BONE: 1150.0,
        Tissue.MARROW: 350.0,
        Tissue.FLUID: 6.0,
        Tissue.WHITE: 27.0,
        Tissue.GREY: 37.0,
        Tissue.DEEP_GREY: 36.0,
        Tissue.MUSCLE: 55.0,
        Tissue.EYE: 12.0,
        Tissue.RIM: 37.0,
    }
)


def ct_head(rng: np.random.Generator, anatomy: HeadAnatomy, *, noise_hu: float | None = None) -> FloatArray:
    """A head without contrast medium, (slices, rows, columns) in HU; lesions are a little dark.

    Parameters
    ----------
    noise_hu : deviation; 3 to 12 if None
    """
    table = np.zeros(len(Tissue), dtype=np.float32)
    for name, value in HOUNSFIELD.items():
        table[name] = value
    sharp = table[anatomy.tissue] - 12.0 * anatomy.lesion
    clean = ndimage.gaussian_filter(sharp, (0.3, 0.7, 0.7))
    deviation = noise_hu if noise_hu is not None else float(rng.uniform(3.0, 12.0))
    grain: NDArray[np.float32] = rng.standard_normal(clean.shape, dtype=np.float32)
    return np.asarray(clean + deviation * grain, dtype=np.float32)
