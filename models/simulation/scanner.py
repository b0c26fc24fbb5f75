"""PURE: what a CT scanner makes of a chest: slices of some thickness, a kernel, noise with its grain.

Slices average over their thickness; a soft kernel blurs in plane, a sharp one lifts edges beyond the truth.
The noise has the spectrum of filtered back-projection: it rises with frequency and falls with the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from models.simulation.fields import Field

Kernel = Literal["soft", "standard", "sharp"]
BLUR_MM: dict[Kernel, float] = {"soft": 0.85, "standard": 0.6, "sharp": 0.45}
LIFT: dict[Kernel, float] = {"soft": 0.0, "standard": 0.0, "sharp": 0.6}
NOISE_HU: dict[Kernel, tuple[float, float]] = {
    "soft": (8.0, 22.0),
    "standard": (15.0, 40.0),
    "sharp": (35.0, 80.0),
}
CUT_PER_MM: dict[Kernel, float] = {"soft": 0.28, "standard": 0.38, "sharp": 0.55}


@dataclass(frozen=True)
class Protocol:
    """How one scan is taken."""

    kernel: Kernel
    thickness_mm: float
    slice_spacing_mm: float
    noise_hu: float


def scanned(fine: Field, spacing: tuple[float, float, float], protocol: Protocol) -> Field:
    """Slices of a chest without noise; rows and columns stay.

    Parameters
    ----------
    fine : HU on a grid whose slices lie closer than the scan's
    """
    wide = max(1, round(protocol.thickness_mm / spacing[0]))
    slices = ndimage.uniform_filter1d(fine, wide, 0)[slice_indices(fine.shape[0], spacing[0], protocol)]
    blur = [0.0, *(BLUR_MM[protocol.kernel] / step for step in spacing[1:])]
    image = ndimage.gaussian_filter(slices, blur)
    lift = LIFT[protocol.kernel]
    if lift:
        image = image + lift * (
            image - ndimage.gaussian_filter(image, [0.0, *(1.2 / s for s in spacing[1:])])
        )
    return np.asarray(image, dtype=np.float32)


def slice_indices(fine_slices: int, fine_spacing: float, protocol: Protocol) -> list[int]:
    """Of the fine slices those in whose middle a slice of the scan lies."""
    count = int((fine_slices - 1) * fine_spacing / protocol.slice_spacing_mm) + 1
    return [min(fine_slices - 1, round(n * protocol.slice_spacing_mm / fine_spacing)) for n in range(count)]


def ct_noise(
    shape: tuple[int, int, int], pixel_mm: float, protocol: Protocol, rng: np.random.Generator
) -> Field:
    """Noise of the protocol's deviation; neighbouring slices share what their thicknesses do."""
    rows, columns = shape[1:]
    down = np.fft.fftfreq(rows, pixel_mm)[:, None]
    across = np.fft.rfftfreq(columns, pixel_mm)[None, :]
    frequency = np.hypot(down, across)
    filter_ = np.sqrt(frequency + 0.02) * np.exp(-((frequency / CUT_PER_MM[protocol.kernel]) ** 2))
    white = rng.normal(size=shape).astype(np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * filter_, (rows, columns)).astype(np.float32)
    overlap = protocol.thickness_mm / protocol.slice_spacing_mm - 1
    if overlap > 0:
        noise = ndimage.gaussian_filter1d(noise, 0.6 * overlap, 0)
    return np.asarray(noise * (protocol.noise_hu / float(noise.std())), dtype=np.float32)


def draw_protocol(thickness_mm: float, rng: np.random.Generator) -> Protocol:
    """A kernel and its noise; thin slices are noisier, some overlap by half."""
    kernel: Kernel = rng.choice(["soft", "standard", "sharp"], p=[0.4, 0.4, 0.2])
    noise = rng.uniform(*NOISE_HU[kernel]) * min(1.3, np.sqrt(2 / thickness_mm))
    spacing = thickness_mm * float(rng.choice([1.0, 1.0, 0.6]))
    return Protocol(kernel, thickness_mm, max(1.0, spacing), float(noise))
