"""Four small networks as nnU-Net's plans write them, and random weights that depend on their names alone."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Architecture:
    kind: str
    in_channels: int
    heads: int
    shape: tuple[int, ...]
    arguments: dict[str, Any]


def _arguments(
    dimensions: int, blocks: str, strides: list, *, norm: str = "instancenorm.InstanceNorm"
) -> dict:
    stages = len(strides)
    kernels = [[3] * dimensions for _ in strides]
    if dimensions == 3:
        kernels[0] = [1, 3, 3]
    return {
        "n_stages": stages,
        "features_per_stage": [4 * 2**i for i in range(stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": kernels,
        "strides": strides,
        blocks: [1, 2, 2][:stages],
        "n_conv_per_stage_decoder": [2, 1][: stages - 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.{norm}{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


_FLAT = [[1, 1], [2, 2], [2, 2]]
_DEEP = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
ARCHITECTURES = {
    "plain_2d": Architecture("PlainConvUNet", 1, 2, (16, 12), _arguments(2, "n_conv_per_stage", _FLAT)),
    "plain_3d": Architecture("PlainConvUNet", 2, 3, (4, 8, 8), _arguments(3, "n_conv_per_stage", _DEEP)),
    "resenc_2d": Architecture(
        "ResidualEncoderUNet",
        1,
        3,
        (12, 16),
        _arguments(2, "n_blocks_per_stage", _FLAT, norm="batchnorm.BatchNorm"),
    ),
    "resenc_3d": Architecture(
        "ResidualEncoderUNet", 1, 2, (4, 8, 12), _arguments(3, "n_blocks_per_stage", _DEEP)
    ),
}


def draw_weights(state: dict[str, torch.Tensor]) -> None:
    """Fill a state dict in place; an alias of a tensor is drawn under the first name of that tensor."""
    for name, value in state.items():
        if ".all_modules." in name or name.startswith("decoder.encoder."):
            continue  # shares its numbers with the first name
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            value.fill_(3)
            continue
        drawn = generator.normal(0, 1, tuple(value.shape))
        if name.endswith(("norm.weight", "running_var")):
            drawn = 1 + 0.2 * np.abs(drawn)
        elif value.dim() > 1:
            drawn = drawn * (2 / np.prod(value.shape[1:])) ** 0.5
        else:
            drawn = 0.2 * drawn
        value.copy_(torch.from_numpy(drawn))
