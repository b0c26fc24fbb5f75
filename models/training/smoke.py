"""A run that takes seconds: the real loop on generated ovals and a narrow decoder, to show that training
trains.

Used by tests and by anyone who wants to see the loop work on a machine without the data sets.
"""

from __future__ import annotations

import numpy as np

from models.networks.registry import EffNetLite0UNetSpec
from models.steps import FitCanvas, GreyScale, StackSlices, Standardise
from models.training.cases import Case
from models.training.recipes import Recipe
from models.training.settings import AugmentSettings
from models.volume import Volume

CANVAS = 32

SMOKE = Recipe(
    id="smoke",
    kind="breast-us",
    classes=("benign", "normal"),
    network=EffNetLite0UNetSpec(
        registry="effnet_lite0_unet@1", in_channels=1, classes=2, decoder_channels=(16, 12, 8, 8)
    ),
    preprocess=(
        GreyScale(step="grey_scale", percentile=100.0),
        FitCanvas(step="fit_canvas", rows=CANVAS, columns=CANVAS),
        StackSlices(step="stack_slices", neighbours=0),
        Standardise(step="standardise", mean=0.5, deviation=0.25),
    ),
    canvas_rows=CANVAS,
    canvas_columns=CANVAS,
    augment=AugmentSettings(
        rows=CANVAS,
        columns=CANVAS,
        rotation_degrees=10,
        scale_min=0.9,
        scale_max=1.1,
        aspect=0.1,
        shift=0.05,
        flip=True,
        gamma=0.1,
        contrast=0.1,
        brightness=0.02,
        bias=0.1,
        noise=0.02,
        speckle=0.05,
        blur_probability=0.1,
        low_resolution_probability=0.1,
        cutout_probability=0.1,
        neighbour_probability=0.0,
        maximum=1.0,
    ),
    batch=6,
    steps=30,
    encoder_rate=2e-3,
    decoder_rate=4e-3,
    weight_decay=1e-2,
    warm_up_steps=3,
    ema_decay=0.9,
    dropout=0.2,
    drop_rate=0.1,
    dice_over="image",
    class_weight=0.5,
    label_smoothing=0.05,
    positive_share=0.0,
    extra_share=0.25,
)


def smoke_cases(count: int, *, seed: int = 1) -> list[Case]:
    """Bright ovals on a dark ground, every third image without one."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((CANVAS, CANVAS))
    cases = []
    for index in range(count):
        centre = generator.uniform(10, 22, 2)
        radii = generator.uniform(4, 8, 2)
        inside = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1]) < 1
        mask = inside & (index % 3 > 0)
        image = np.clip(60 + 120 * mask + generator.normal(0, 12, mask.shape), 0, 255).astype(np.uint8)
        name = "benign" if mask.any() else "normal"
        cases.append(
            Case(
                f"oval{index:03d}",
                f"oval{index:03d}",
                name,
                Volume(image[None]),
                mask[None].astype(np.uint8),
                name,
            )
        )
    return cases
