"""A 3D run that takes seconds: balls and boxes in noise, a narrow U-Net, the real loop and the real losses.

Used by tests and by anyone who wants to see training in 3D work on a machine without data sets or GPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from models.networks.building import build_grid_network
from models.networks.registry import NnUNetPlainSpec
from models.training.patch_set import GridCase, grid_case
from models.training.settings import (
    AdamW,
    GridAugment,
    Schedule,
    TrainSettings,
    VoxelLabels,
)

SIZES = (20, 26, 24)
BALL, BOX = 1, 2

SMOKE_NETWORK = NnUNetPlainSpec(
    registry="nnunet_plain@1",
    dimensions=3,
    in_channels=1,
    heads=3,
    features=(8, 16, 24),
    kernels=((3, 3, 3),) * 3,
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1),
    norm="instance",
    norm_eps=1e-5,
    bias=True,
    slope=0.01,
    members=1,
)

SMOKE_VOLUMES = TrainSettings(
    objective=VoxelLabels(
        learns="voxel_labels",
        patch=(16, 16, 16),
        side_weights=(1.0, 0.5),
        augment=GridAugment(
            rotation_degrees=(10.0, 10.0, 10.0),
            scale_min=0.9,
            scale_max=1.1,
            move_probability=0.3,
            flip_axes=(0, 1, 2),
            noise_probability=0.2,
            brightness_probability=0.2,
            brightness=0.1,
            gamma_probability=0.2,
            gamma=0.2,
        ),
    ),
    optimizer=AdamW(optimizer="adamw", rate=6e-3),
    schedule=Schedule(steps=90, warm_up_steps=5),
    batch=3,
    ema_decay=0.9,
)


def smoke_network(*, seed: int = 1) -> nn.Module:
    """The narrow U-Net with fresh weights."""
    torch.manual_seed(seed)
    return build_grid_network(SMOKE_NETWORK)


def smoke_volumes(count: int, *, seed: int = 1, device: torch.device | None = None) -> list[GridCase]:
    """Volumes with a bright ball (label 1) and a dark box (label 2) in noise of deviation 0.3."""
    generator = np.random.default_rng(seed)
    places = np.moveaxis(np.indices(SIZES), 0, -1)
    cases = []
    for index in range(count):
        labels = np.zeros(SIZES, np.uint8)
        corner = generator.integers(2, np.array(SIZES) - 10)
        inside = (places >= corner).all(-1) & (places < corner + generator.integers(5, 8, 3)).all(-1)
        labels[inside] = BOX
        centre = generator.uniform(6, np.array(SIZES) - 6)
        labels[np.linalg.norm(places - centre, axis=-1) < generator.uniform(4, 5.5)] = BALL
        image = 1.5 * (labels == BALL) - 1.5 * (labels == BOX) + generator.normal(0, 0.3, SIZES)
        cases.append(
            grid_case(
                f"volume{index:03d}", image[None], labels, (1.0, 1.0, 1.0), device or torch.device("cpu")
            )
        )
    return cases
