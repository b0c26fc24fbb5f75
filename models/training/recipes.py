"""What is trained and how: one frozen settings tree per shipped model, with the reason of each unusual
number.
"""

from __future__ import annotations

import hashlib

from models.networks.registry import EffNetLite0UNetSpec
from models.steps import (
    FitCanvas,
    GreyScale,
    Orient,
    PreprocessStep,
    SpacingCanvas,
    StackSlices,
    Standardise,
    Strict,
    TissueScale,
)
from models.training.cases import DataKind
from models.training.settings import AugmentSettings, DiceOver


class Recipe(Strict):
    """Everything that decides a training run except data, seed and time."""

    id: str  # also the package's id
    kind: DataKind
    classes: tuple[str, ...]  # empty: no class head
    network: EffNetLite0UNetSpec
    preprocess: tuple[PreprocessStep, ...]
    canvas_rows: int  # cases are held on one canvas of this size while training
    canvas_columns: int
    augment: AugmentSettings
    batch: int
    steps: int
    encoder_rate: float
    decoder_rate: float
    weight_decay: float
    warm_up_steps: int
    ema_decay: float
    dropout: float
    drop_rate: float
    decoder_dropout: float = 0.0  # of whole channels, before each step up
    dice_over: DiceOver
    class_weight: float
    label_smoothing: float
    positive_share: float  # share of a batch's real slices that show a lesion; 0: drawn by class instead
    extra_share: float  # share of a batch that is generated, when generated cases are given

    @property
    def sha256(self) -> str:
        """Hash of the settings, recorded in the package.

        Settings at their default are left out, so that a new one does not change what older packages name.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()


BREAST = Recipe(
    id="breast-us-lesion",
    kind="breast-us",
    classes=("benign", "malignant", "normal"),
    network=EffNetLite0UNetSpec(
        registry="effnet_lite0_unet@1", in_channels=1, classes=3, decoder_channels=(128, 64, 48, 32)
    ),
    preprocess=(
        GreyScale(step="grey_scale", percentile=99.8),
        # Nine of ten images are wider than 1.07 : 1; this shape wastes least of the canvas.
        FitCanvas(step="fit_canvas", rows=192, columns=224),
        StackSlices(step="stack_slices", neighbours=0),
        Standardise(step="standardise", mean=0.35, deviation=0.25),
    ),
    canvas_rows=192,
    canvas_columns=224,
    augment=AugmentSettings(
        rows=192,
        columns=224,
        rotation_degrees=20,
        scale_min=0.7,
        scale_max=1.5,
        aspect=0.3,
        shift=0.12,
        flip=True,
        gamma=0.4,
        contrast=0.25,
        brightness=0.08,
        bias=0.25,
        noise=0.05,
        speckle=0.2,
        blur_probability=0.2,
        low_resolution_probability=0.2,
        cutout_probability=0.3,
        neighbour_probability=0.0,
        maximum=1.0,
        fade_probability=0.35,
        fade_largest=0.7,
        paste_probability=0.35,
    ),
    batch=16,
    steps=1200,
    encoder_rate=4e-4,
    decoder_rate=1.2e-3,
    weight_decay=5e-2,
    warm_up_steps=100,
    ema_decay=0.998,
    dropout=0.4,
    drop_rate=0.1,
    decoder_dropout=0.1,
    dice_over="image",
    class_weight=0.6,
    label_smoothing=0.05,
    positive_share=0.0,
    extra_share=0.125,
)

BRAIN = Recipe(
    id="brain-flair-lesion",
    kind="brain-flair",
    classes=(),
    network=EffNetLite0UNetSpec(
        registry="effnet_lite0_unet@1", in_channels=3, classes=0, decoder_channels=(128, 64, 48, 32)
    ),
    preprocess=(
        Orient(step="orient", convention="axial"),
        TissueScale(step="tissue_scale", maximum=4.0),
        SpacingCanvas(step="spacing_canvas", spacing_mm=0.94, minimum=192, maximum=384, tissue_threshold=0.4),
        StackSlices(step="stack_slices", neighbours=1),
        Standardise(step="standardise", mean=1.0, deviation=0.55),
    ),
    canvas_rows=256,
    canvas_columns=256,
    augment=AugmentSettings(
        # Heads are longer than wide: 224 x 192 holds them and costs a quarter less than the full canvas.
        rows=224,
        columns=192,
        rotation_degrees=20,
        scale_min=0.8,
        scale_max=1.25,
        aspect=0.15,
        shift=0.08,
        flip=True,
        gamma=0.35,
        contrast=0.2,
        brightness=0.03,
        bias=0.25,
        noise=0.12,  # real scanners keep noise in air; the training copies have it cut to 0
        speckle=0.0,
        blur_probability=0.15,
        low_resolution_probability=0.2,
        cutout_probability=0.0,
        neighbour_probability=0.1,
        maximum=4.0,
    ),
    batch=16,
    steps=2400,
    encoder_rate=4e-4,
    decoder_rate=1.2e-3,
    weight_decay=1e-2,
    warm_up_steps=100,
    ema_decay=0.998,
    dropout=0.0,
    drop_rate=0.1,
    dice_over="batch",
    class_weight=0.0,
    label_smoothing=0.0,
    positive_share=0.5,
    extra_share=0.125,
)


def fine_tuning(recipe: Recipe) -> Recipe:
    """A second, shorter run from the first one's weights: a warm restart at a third of the rates.

    It is there to learn what was generated after the first run, so more of a batch is generated; the average
    forgets faster because the run is short, and outlines get more of the loss than classes.
    """
    return recipe.model_copy(
        update={
            "steps": 130,
            "encoder_rate": recipe.encoder_rate * 0.35,
            "decoder_rate": recipe.decoder_rate * 0.35,
            "warm_up_steps": 20,
            "ema_decay": 0.99,
            "class_weight": recipe.class_weight * 0.6,
            "extra_share": 0.25,
        }
    )


RECIPES = {recipe.id: recipe for recipe in (BREAST, BRAIN)}
