"""From the tissues of a head to what a scanner shows: brightness per sequence, bias, noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from preread.demo.phantoms.fields import FloatArray, smooth_noise
from preread.demo.phantoms.tissue import Tissue


@dataclass(frozen=True)
class HeadContrast:
    """Brightness of each tissue and of a lesion in one MR sequence; white matter is 1."""

    tissue: Mapping[Tissue, float]
    lesion: float
    lesion_core: float
    lesion_rim: float = 0.0


def _table(**brightness: float) -> Mapping[Tissue, float]:
    return MappingProxyType({Tissue[name.upper()]: value for name, value in brightness.items()})


# Measured on public FLAIR volumes: scalp about 2 to 2.5 times white matter, grey 1.1 to 1.2 times, fluid 0.2.
FLAIR = HeadContrast(
    tissue=_table(
        air=0.0,
        fat=2.3,
        skin=1.0,
        bone=0.18,
        marrow=0.5,
        fluid=0.3,
        white=1.0,
        grey=1.2,
        deep_grey=1.14,
        muscle=0.6,
        eye=0.2,
        rim=1.25,
    ),
    lesion=1.75,
    lesion_core=1.6,
)
T1 = HeadContrast(
    tissue=_table(
        air=0.0,
        fat=2.0,
        skin=0.9,
        bone=0.1,
        marrow=0.9,
        fluid=0.28,
        white=1.0,
        grey=0.78,
        deep_grey=0.84,
        muscle=0.7,
        eye=0.3,
        rim=0.97,
    ),
    lesion=0.72,
    lesion_core=0.55,
)
T1_POST = HeadContrast(
    tissue=_table(
        air=0.0,
        fat=2.0,
        skin=1.1,
        bone=0.1,
        marrow=0.9,
        fluid=0.28,
        white=1.0,
        grey=0.82,
        deep_grey=0.86,
        muscle=0.85,
        eye=0.3,
        rim=0.98,
    ),
    lesion=0.74,
    lesion_core=0.55,
    lesion_rim=0.75,
)
T2 = HeadContrast(
    tissue=_table(
        air=0.0,
        fat=1.3,
        skin=0.8,
        bone=0.12,
        marrow=0.6,
        fluid=3.0,
        white=1.0,
        grey=1.4,
        deep_grey=1.15,
        muscle=0.5,
        eye=3.1,
        rim=1.45,
    ),
    lesion=2.1,
    lesion_core=2.4,
)


@dataclass(frozen=True)
class Scanner:
    """What the machine adds: gain in units per white matter, noise and bias relative to white matter."""

    white_matter_units: float
    noise: float
    bias: float
    blur_px: float = 0.95


def render_head(
    rng: np.random.Generator,
    tissue: NDArray[np.uint8],
    lesion: FloatArray,
    core: FloatArray,
    *,
    contrast: HeadContrast,
    scanner: Scanner,
    lesion_contrast: float | None = None,
) -> FloatArray:
    """One MR sequence of a head, in scanner units.

    Parameters
    ----------
    tissue : (slices, rows, columns), values of `Tissue`
    lesion, core : same shape, 0 to 1, how much of the voxel is lesion and how much of that is its core
    lesion_contrast : brightness of a lesion over white matter instead of the sequence's own
    """
    table = np.zeros(len(Tissue), dtype=np.float32)
    for name, value in contrast.tissue.items():
        table[name] = value
    clean = table[tissue]
    # Muscle, fat and marrow are streaky; brain varies slowly.
    texture = smooth_noise(rng, tissue.shape, (1.5, 5.0, 5.0))
    amount = np.full(len(Tissue), 0.04, dtype=np.float32)
    amount[[Tissue.FAT, Tissue.MUSCLE, Tissue.MARROW, Tissue.SKIN]] = 0.1
    clean = clean * (1.0 + amount[tissue] * texture)
    bright = contrast.lesion if lesion_contrast is None else lesion_contrast
    inner = bright + (contrast.lesion_core - contrast.lesion) * core
    inner = inner * (1.0 + 0.05 * smooth_noise(rng, tissue.shape, (2.0, 9.0, 9.0)))
    if contrast.lesion_rim:
        inner = inner + contrast.lesion_rim * np.exp(-(((core - 0.5) / 0.16) ** 2))
    clean = clean * (1.0 - lesion) + inner * lesion
    clean = ndimage.gaussian_filter(clean, (0.4, scanner.blur_px, scanner.blur_px))
    shading = smooth_noise(rng, tissue.shape, [max(n * 0.9, 2.0) for n in tissue.shape])
    clean = clean * np.exp(scanner.bias * np.clip(shading, -2.0, 2.0))
    # Magnitude images are Rician: noise also in air, and never negative.
    real = clean + scanner.noise * rng.standard_normal(tissue.shape, dtype=np.float32)
    imaginary = scanner.noise * rng.standard_normal(tissue.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary) * scanner.white_matter_units, dtype=np.float32)
