"""How a network is trained, as data: a closed choice for every part, each number bounded; no torch here.

A recipe embeds one `TrainSettings`. What is learnt is its `objective`: a lesion map with classes on a
canvas, labels of voxels in patches, or classes of whole images.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.steps import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
PatchSize = Annotated[int, Field(ge=4, le=1024)]
PatchAxis = Annotated[int, Field(ge=0, le=2)]
DiceOver = Literal["image", "batch"]
Precision = Literal["float32", "bfloat16"]
MICRO_BATCHES_MAX = 256


class AdamW(Strict):
    """Adam with decoupled weight decay."""

    optimizer: Literal["adamw"]
    rate: Rate
    encoder_rate: Rate | None = None  # of a pretrained encoder; None: as the rest
    weight_decay: NotNegative = 1e-2


class Sgd(Strict):
    """Stochastic gradient descent with momentum; nnU-Net's is 0.99 with Nesterov's look ahead."""

    optimizer: Literal["sgd"]
    rate: Rate
    encoder_rate: Rate | None = None
    weight_decay: NotNegative = 3e-5
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    nesterov: bool = True


class Schedule(Strict):
    """Rates over a run: a linear rise, then a fall to 0 at its end (or none)."""

    steps: int = Field(ge=1)
    warm_up_steps: int = Field(default=0, ge=0)
    decay: Literal["cosine", "polynomial", "none"] = "cosine"
    power: Positive = 0.9  # of the polynomial


class InnerPart(Strict):
    """A part of the training folds that is held back to be judged while training; never the scored fold.

    With `patience` a run ends early and keeps its best weights; without it the part is only watched.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.15  # of the groups
    every_steps: int = Field(default=250, ge=1)
    patience: int | None = Field(default=None, ge=1)  # judgements in a row without a gain


class AugmentSettings(Strict):
    """How far images on a canvas are changed; probabilities are per image."""

    rows: int  # size of the training crop
    columns: int
    rotation_degrees: float
    scale_min: float
    scale_max: float
    aspect: float  # log of the largest stretch of one axis against the other
    shift: float  # share of the crop
    flip: bool
    gamma: float  # log range
    contrast: float  # log range of the gain
    brightness: float
    bias: float  # log amplitude of a smooth multiplicative field
    noise: float  # largest standard deviation of additive noise; magnitude as in MR (Rician)
    speckle: float  # largest standard deviation of multiplicative, spatially correlated noise
    blur_probability: float
    low_resolution_probability: float
    cutout_probability: float
    neighbour_probability: float  # neighbouring slices replaced by the middle one, or reversed
    maximum: float  # intensities are clipped to 0 .. maximum at the end
    fade_probability: float = 0.0  # lesions mixed with tissue as bright as their surroundings
    fade_largest: float = 0.0  # share of that tissue, at most
    paste_probability: float = 0.0  # lesions of other images pasted in; only for sets with a class without


class GridAugment(Strict):
    """How far patches on a grid are changed, in 2D or 3D; intensities are standardised (mean 0, deviation 1).

    A probability is per patch; where it is 0 the change is off.
    """

    rotation_degrees: tuple[
        Annotated[float, Field(ge=0, le=180)], ...
    ] = ()  # about each axis; 2D: one number
    scale_min: Annotated[float, Field(ge=0.25, le=1)] = 1.0  # of what is seen: 0.7 shows it smaller
    scale_max: Annotated[float, Field(ge=1, le=4)] = 1.0
    move_probability: Share = 1.0  # of rotation and scale
    flip_axes: tuple[PatchAxis, ...] = ()  # each with probability one half
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.4  # log range
    gamma_probability: Share = 0.0
    inverted_gamma_probability: Share = 0.0  # gamma of the negative: bends the bright end instead
    noise: NotNegative = 0.1  # largest standard deviation
    noise_probability: Share = 0.0
    blur: Annotated[float, Field(ge=0, le=3)] = 1.0  # largest standard deviation, voxels
    blur_probability: Share = 0.0
    low_resolution: Annotated[float, Field(gt=0.1, le=1)] = 0.5  # smallest factor
    low_resolution_probability: Share = 0.0
    bias: Annotated[float, Field(ge=0, le=2)] = 0.3  # log amplitude of a smooth multiplicative field
    bias_probability: Share = 0.0
    brightness: Annotated[float, Field(ge=0, le=2)] = 0.25  # log range of the gain, range of the offset
    brightness_probability: Share = 0.0


def grid_augment(
    dimensions: Literal[2, 3], *, rotation_degrees: float = 15.0, flip: bool = True
) -> GridAugment:
    """The changes that nnU-Net's recipe makes, as a point to start from (design of the toolkit, 1.4)."""
    return GridAugment(
        rotation_degrees=(rotation_degrees,) * (3 if dimensions == 3 else 1),
        scale_min=0.7,
        scale_max=1.4,
        move_probability=0.4,
        flip_axes=tuple(range(dimensions)) if flip else (),
        gamma_probability=0.3,
        inverted_gamma_probability=0.1,
        noise_probability=0.15,
        blur_probability=0.2,
        low_resolution_probability=0.25,
        bias_probability=0.15,
        brightness_probability=0.15,
    )


class LesionOnCanvas(Strict):
    """A lesion map and, where there are classes, the class of the image, from one encoder."""

    learns: Literal["lesion_on_canvas"]
    augment: AugmentSettings
    dice_over: DiceOver
    class_weight: NotNegative
    label_smoothing: Share
    positive_share: Share  # of a batch's real slices that show a lesion; 0: drawn by class instead
    extra_share: Share  # of a batch that is generated, when generated cases are given


class VoxelLabels(Strict):
    """One label for every voxel of a patch, learnt by Dice and cross-entropy."""

    learns: Literal["voxel_labels"]
    patch: tuple[PatchSize, ...] = Field(min_length=2, max_length=3)
    dice_over: DiceOver = "batch"
    dice_background: bool = False  # the Dice term counts the background, too
    label_weights: tuple[Positive, ...] | None = None  # of the cross-entropy, background first
    focal_gamma: NotNegative = 0.0  # 0: plain cross-entropy
    side_weights: tuple[Positive, ...] = (1.0,)  # deep supervision, finest output first: 1, 1/2, 1/4
    foreground_share: Share = 1 / 3  # of a batch that is centred on a labelled voxel
    paste_probability: Share = 0.0  # labelled voxels of another patch of the batch put into this one
    augment: GridAugment = GridAugment()

    @model_validator(mode="after")
    def _dimensions_agree(self) -> VoxelLabels:
        check_axes(self.augment, len(self.patch))
        return self


class ImageClasses(Strict):
    """One class for a whole image or volume."""

    learns: Literal["image_classes"]
    class_weights: tuple[Positive, ...] | Literal["balanced"] | None = (
        None  # balanced: as rare as it is found
    )
    focal_gamma: NotNegative = 0.0
    label_smoothing: Share = 0.0
    balance: Share = 0.5  # 0: drawn as found, 1: every class as often as any other
    mix_up: NotNegative = 0.0  # both numbers of the Beta distribution of shares; 0: images are not mixed
    augment: GridAugment = GridAugment()


def check_axes(augment: GridAugment, dimensions: int) -> None:
    """Raise ValueError when the changes name axes or angles that images of so many dimensions do not have."""
    angles = len(augment.rotation_degrees)
    if angles not in (0, 1 if dimensions == 2 else 3):
        raise ValueError(
            f"rotation_degrees has {angles} numbers; images in 2D need 1, in 3D 3, or none at all"
        )
    if any(axis >= dimensions for axis in augment.flip_axes):
        raise ValueError(f"flip_axes names an axis that {dimensions} dimensions do not have")


class LesionBoxes(Strict):
    """Boxes around lesions, learnt from patches in which each lesion has a label of its own."""

    learns: Literal["lesion_boxes"]
    patch: tuple[PatchSize, ...] = Field(min_length=2, max_length=3)
    foreground_share: Share = 1 / 2
    offset_weight: NotNegative = 1.0  # of CenterNet's terms against its heat
    size_weight: NotNegative = 1.0
    size_multiple: int = Field(default=32, ge=1, le=256)  # of whole cases while judging
    augment: GridAugment = GridAugment()

    @model_validator(mode="after")
    def _dimensions_agree(self) -> LesionBoxes:
        check_axes(self.augment, len(self.patch))
        return self


class SliceClasses(Strict):
    """The class of every slice of a series and of the whole study, learnt from series."""

    learns: Literal["slice_classes"]
    slices_max: int = Field(default=64, ge=1, le=1024)  # neighbouring slices of a series in a batch
    study_weight: NotNegative = 1.0
    focal_gamma: NotNegative = 0.0
    balance: Share = 0.5  # of studies: 0 as found, 1 every class as often as any other
    augment: GridAugment = GridAugment()

    @model_validator(mode="after")
    def _dimensions_agree(self) -> SliceClasses:
        check_axes(self.augment, 2)
        return self


OptimizerSettings = Annotated[AdamW | Sgd, Field(discriminator="optimizer")]
ObjectiveSettings = Annotated[
    LesionOnCanvas | VoxelLabels | ImageClasses | LesionBoxes | SliceClasses, Field(discriminator="learns")
]


class TrainSettings(Strict):
    """Everything that decides a training run except network, data, seed and time."""

    objective: ObjectiveSettings
    optimizer: OptimizerSettings
    schedule: Schedule
    batch: int = Field(ge=1, le=4096)  # that goes through the network at once
    # Of one update, shared out among processes: the same run on one, two or four of them.
    micro_batches: int = Field(default=1, ge=1, le=MICRO_BATCHES_MAX)
    clip_norm: Positive | None = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # before the last layer, of networks of our own
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999  # 0: no moving average
    precision_cpu: Precision = "float32"  # bfloat16 pays with avx512_bf16 or AMX only
    precision_cuda: Precision = "bfloat16"
    inner: InnerPart | None = None
