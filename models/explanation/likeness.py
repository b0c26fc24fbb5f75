"""Likeness of two heat maps: the structural similarity index (SSIM), as MONAI computes it."""

from __future__ import annotations

import numpy as np
import torch

from models.resample import FloatArray

WINDOW = 11  # pixels, Gaussian of 1.5


def likeness(one: FloatArray, other: FloatArray) -> float:
    """SSIM of two maps (n, H, W) with values from 0 to 1; 1: the same. Mean over the n.

    Source: Wang et al., IEEE TIP 2004.
    """
    from monai.metrics.regression import compute_ssim_and_cs  # loads slowly, and only here

    first, second = (torch.from_numpy(np.ascontiguousarray(part))[:, None].double() for part in (one, other))
    ssim, _ = compute_ssim_and_cs(
        first,
        second,
        spatial_dims=2,
        kernel_size=(WINDOW, WINDOW),
        kernel_sigma=(1.5, 1.5),
        data_range=1.0,
    )
    return float(ssim.mean())
