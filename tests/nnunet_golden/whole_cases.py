"""Six small volumes with plans that together use every step that is read.

What nnU-Net's whole predictor says of them lies in whole.npz, made by make_whole.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nnunet_model import dataset_of, plans_of
from scipy import ndimage


@dataclass(frozen=True)
class WholeCase:
    network: str
    configuration: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    target: tuple[float, ...]
    normalisation: str
    masked: bool = False
    transpose: tuple[int, int, int] = (0, 1, 2)

    def plans(self) -> dict[str, Any]:
        plans = plans_of(self.network)
        base = plans["configurations"]["base"]
        base["spacing"] = list(self.target)
        base["normalization_schemes"] = [self.normalisation]
        base["use_mask_for_norm"] = [self.masked]
        base["resampling_fn_seg"] = "resample_data_or_seg_to_shape"
        base["resampling_fn_seg_kwargs"] = {**base["resampling_fn_data_kwargs"], "is_seg": True, "order": 1}
        plans["transpose_forward"] = list(self.transpose)
        plans["transpose_backward"] = [int(axis) for axis in np.argsort(self.transpose)]
        return plans

    def dataset(self) -> dict[str, Any]:
        return dataset_of(self.network)

    def image(self) -> np.ndarray:
        """Smooth noise; with a mask, zeros around it and one zero inside."""
        noise = np.random.default_rng(0).normal(20, 30, self.shape)
        image = 4 * ndimage.gaussian_filter(noise, 1)
        if self.masked:
            image[:, :3] = image[:, :, -4:] = image[-1] = 0
            image[2, 8, 8] = 0
        return image.astype(np.float32)


WHOLE_CASES = {
    "2d": WholeCase("plain_2d", "2d", (3, 20, 26), (4.0, 0.9, 0.8), (1.0, 1.0), "ZScoreNormalization"),
    "2d_masked": WholeCase(
        "plain_2d", "2d", (4, 20, 24), (4.0, 0.9, 0.8), (1.0, 1.0), "ZScoreNormalization", masked=True
    ),
    "3d_ct": WholeCase(
        "resenc_3d", "3d_fullres", (7, 20, 18), (1.5, 0.9, 0.8), (1.2, 1.0, 1.0), "CTNormalization"
    ),
    "3d_turned": WholeCase(
        "resenc_3d",
        "3d_fullres",
        (18, 9, 20),
        (1.5, 0.9, 0.8),
        (1.2, 1.0, 1.0),
        "ZScoreNormalization",
        masked=True,
        transpose=(1, 0, 2),
    ),
    "3d_anisotropic": WholeCase(
        "resenc_3d", "3d_fullres", (9, 20, 18), (5.0, 0.9, 0.8), (4.0, 1.0, 1.0), "RescaleTo01Normalization"
    ),
    "3d_as_it_is": WholeCase(
        "resenc_3d", "3d_fullres", (8, 16, 16), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "NoNormalization"
    ),
}
