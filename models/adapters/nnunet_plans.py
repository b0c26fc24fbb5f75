"""PURE: nnU-Net v2's plans.json and dataset.json, read as text, to our network, steps and tiling.

Read: architecture (plain and residual encoder, 2D and 3D, the old and the new way of writing it), patch size,
spacing, axes, normalisation with its intensity properties, labels and regions. Everything else that would
change what the network sees is compared with nnU-Net's defaults and refused by name when it differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from models.adapters.reading import plain_words
from models.adapters.refusal import ImportRefusal
from models.grid_steps import (
    ClipStandardise,
    CropNonzero,
    GridStep,
    MapRange,
    OrientGrid,
    ResampleGrid,
    TransposeGrid,
    ZScore,
)
from models.networks.registry import NnUNetPlainSpec, NnUNetResEncSpec

_DEFAULTS_ONLY: Final = "Only nnU-Net's own defaults are read; export the network to ONNX instead."
# Trainers that change how long, how fast, or with which augmentation and loss a network is trained: what
# comes out is the network that the plans describe. Others may change the network or its input.
_EPOCHS: Final = (5, 10, 20, 50, 100, 250, 500, 750, 2000, 4000, 8000)
_TRAINERS: Final = frozenset(
    {
        "nnUNetTrainer",
        "nnUNetTrainerNoMirroring",
        "nnUNetTrainer_onlyMirror01",
        "nnUNetTrainerDA5",
        "nnUNetTrainerDAOrd0",
        "nnUNetTrainerNoDA",
        "nnUNetTrainer_DASegOrd0",
        "nnUNetTrainer_DASegOrd0_NoMirroring",
        "nnUNetTrainerDiceCELoss_noSmooth",
        "nnUNetTrainerTopk10Loss",
        "nnUNetTrainerCELoss",
        "nnUNetTrainerDiceLoss",
        "nnUNetTrainerAdam",
        "nnUNetTrainerCosAnneal",
        "nnUNetTrainer_1epoch",
        *(f"nnUNetTrainer_{n}epochs" for n in _EPOCHS),
        *(f"nnUNetTrainer_{n}epochs_NoMirroring" for n in _EPOCHS),
    }
)
_STILL_IMAGES: Final = ("NaturalImage2DIO",)
_NETWORKS: Final = ("PlainConvUNet", "ResidualEncoderUNet")
_ARGUMENTS: Final = frozenset(
    {
        "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "conv_bias", "norm_op",
        "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs",
        "n_conv_per_stage_decoder",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What one configuration says."""

    configuration: str
    spec: NnUNetPlainSpec | NnUNetResEncSpec  # of one member
    steps: tuple[GridStep, ...]
    window: tuple[int, ...]
    heads_by_label: dict[str, int]  # of the foreground, in order
    has_regions: bool
    is_still: bool  # photographs and the like, without a spacing
    dataset: str
    channel: str


def read_plan(plans: Any, dataset: Any, configuration: str, orient: OrientGrid, where: str) -> Plan:
    """Read one configuration.

    Parameters
    ----------
    plans, dataset : decoded plans.json and dataset.json
    orient : nnU-Net does not say how its volumes lie; this is what is assumed

    Raises
    ------
    ImportRefusal
        A key is missing or of the wrong kind, or something is asked for that is not read; by name.
    """
    if not isinstance(plans, dict) or not isinstance(dataset, dict):
        raise _refuse("plans.json and dataset.json must be JSON objects", where)
    found = _configuration(plans, configuration, where)
    channel = _only_channel(dataset, where)
    heads, has_regions = heads_by_label(dataset, where)
    head_count = len(heads) if has_regions else len(heads) + 1
    class_name, arguments = _architecture(found, where)
    spec = network_spec(class_name, arguments, in_channels=1, heads=head_count, where=where)
    window = tuple(_integers(found, "patch_size", where))
    if len(window) != spec.dimensions or any(
        size % divisor or not 8 <= size <= 1024 for size, divisor in zip(window, spec.divisors, strict=False)
    ):
        raise _refuse(f"patch_size {list(window)} does not fit the network's strides {spec.divisors}", where)
    is_still = plans.get("image_reader_writer") in _STILL_IMAGES
    return Plan(
        configuration,
        spec,
        _steps(plans, found, orient, spec.dimensions, is_still, where),
        window,
        heads,
        has_regions,
        is_still,
        _short(dataset.get("name") or plans.get("dataset_name")),
        channel,
    )


def check_trainer(name: object, where: str) -> None:
    """Refuse a trainer that may have changed the network."""
    if name not in _TRAINERS:
        raise ImportRefusal(
            f"the trainer {_short(name)!r} is not known: it may change the network or its input",
            where=where,
            remedy=_DEFAULTS_ONLY,
        )


def heads_by_label(dataset: object, where: str) -> tuple[dict[str, int], bool]:
    """Which head of the network belongs to which label of the foreground, and whether labels are regions."""
    labels = dataset.get("labels") if isinstance(dataset, dict) else None
    if not isinstance(labels, dict) or labels.get("background") != 0:
        raise _refuse("dataset.json has no labels with background 0", where)
    named = {
        _short(name): value for name, value in labels.items() if name != "ignore" and value not in (0, [0])
    }
    has_regions = any(isinstance(value, list) and len(value) > 1 for value in named.values())
    for name, value in named.items():
        parts = value if isinstance(value, list) else [value]
        if not parts or not all(type(part) is int and 0 < part < 256 for part in parts):
            raise _refuse(f"the label {name!r} is {value!r}, not a number or a list of numbers", where)
    if has_regions:
        return {name: index for index, name in enumerate(named)}, True
    single = {name: value[0] if isinstance(value, list) else value for name, value in named.items()}
    if not single or sorted(single.values()) != list(range(1, len(single) + 1)):
        raise _refuse("the labels are not numbered 1, 2, 3 and so on", where)
    return single, False


def network_spec(
    class_name: object, arguments: Any, *, in_channels: int, heads: int, where: str
) -> NnUNetPlainSpec | NnUNetResEncSpec:
    """The registry's entry for an architecture of the plans; one member.

    Parameters
    ----------
    class_name : with its module, as the plans name it; only compared, never looked up
    arguments : `arch_kwargs`
    """
    kind = str(class_name).rsplit(".", 1)[-1]
    if kind not in _NETWORKS:
        raise _refuse(f"the network {_short(class_name)!r} is not known", where)
    if not isinstance(arguments, dict):
        raise _refuse("arch_kwargs is no object", where)
    blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    unknown = sorted(set(arguments) - _ARGUMENTS - {blocks, "nonlin_first"})
    if unknown:
        raise _refuse(f"the network's argument {unknown[0]!r} is not known", where)
    for name in ("dropout_op", "dropout_op_kwargs", "nonlin_first"):
        if arguments.get(name):
            raise _refuse(f"the network's {name} is {_short(arguments[name])!r}", where)
    dimensions = _named(arguments, "conv_op", {"Conv2d": 2, "Conv3d": 3}, where)
    norms = {f"InstanceNorm{dimensions}d": "instance", f"BatchNorm{dimensions}d": "batch"}
    norm_given = _given(
        arguments, "norm_op_kwargs", {"eps", "affine", "momentum", "track_running_stats"}, where
    )
    slope_given = _given(arguments, "nonlin_kwargs", {"inplace", "negative_slope"}, where)
    if norm_given.get("affine") is not True or norm_given.get("track_running_stats"):
        raise _refuse(
            "norm_op_kwargs asks for a normalisation that is not affine, or with running means", where
        )
    leaky = _named(arguments, "nonlin", {"LeakyReLU": True, "ReLU": False}, where)
    stages = arguments.get("n_stages")
    values = {
        "registry": "nnunet_plain@1" if kind == "PlainConvUNet" else "nnunet_resenc@1",
        "dimensions": dimensions,
        "in_channels": in_channels,
        "heads": heads,
        "features": _per_stage(arguments, "features_per_stage", stages, where),
        "kernels": _tuples(arguments, "kernel_sizes", where),
        "strides": _tuples(arguments, "strides", where),
        "encoder_blocks": _per_stage(arguments, blocks, stages, where),
        "decoder_blocks": _per_stage(arguments, "n_conv_per_stage_decoder", stages, where, less=1),
        "norm": _named(arguments, "norm_op", norms, where),
        "norm_eps": norm_given.get("eps", 1e-5),
        "bias": bool(arguments.get("conv_bias", False)),
        "slope": slope_given.get("negative_slope", 0.01) if leaky else 0.0,
        "members": 1,
    }
    entry = NnUNetPlainSpec if kind == "PlainConvUNet" else NnUNetResEncSpec
    try:
        return entry.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise _refuse(f"the network's {place or 'arguments'}: {fault['msg']}", where) from error


def _configuration(plans: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """A configuration with what it inherits; a cascade is refused."""
    every = plans.get("configurations")
    if not isinstance(every, dict):
        raise _refuse("plans.json has no configurations", where)
    merged: dict[str, Any] = {}
    seen: list[str] = []
    while True:
        found = every.get(name)
        if not isinstance(found, dict):
            raise _refuse(f"the configuration {_short(name)!r} is not in plans.json", where)
        if name in seen:
            raise _refuse(f"the configurations {', '.join(seen)} inherit from each other", where)
        seen.append(name)
        merged = {**found, **merged}
        parent = found.get("inherits_from")
        if parent is None:
            break
        name = str(parent)
    if merged.get("previous_stage") is not None:
        raise ImportRefusal(
            f"{seen[0]} is the second stage of a cascade",
            where=where,
            remedy="Import the 2d, 3d_fullres or 3d_lowres configuration; cascades are not read.",
        )
    for key, default in (
        ("preprocessor_name", "DefaultPreprocessor"),
        ("resampling_fn_data", "resample_data_or_seg_to_shape"),
        ("resampling_fn_probabilities", "resample_data_or_seg_to_shape"),
    ):
        if merged.get(key, default) != default:
            raise _refuse(f"{key} is {_short(merged[key])!r}", where)
    for key, order in (("resampling_fn_data_kwargs", 3), ("resampling_fn_probabilities_kwargs", 1)):
        given = merged.get(key) or {}
        expected = {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}
        if not isinstance(given, dict) or any(
            expected.get(name, ...) != value for name, value in given.items()
        ):
            raise _refuse(f"{key} is {_short(given)}", where)
    return merged


def _architecture(found: Mapping[str, Any], where: str) -> tuple[object, Any]:
    """Class and arguments of the network; plans before nnU-Net 2.3 wrote them side by side."""
    written = found.get("architecture")
    if isinstance(written, dict):
        return written.get("network_class_name"), written.get("arch_kwargs")
    dimensions = len(_integers(found, "patch_size", where))
    blocks = _integers(found, "n_conv_per_stage_encoder", where)
    base, most = found.get("UNet_base_num_features"), found.get("unet_max_num_features")
    if type(base) is not int or type(most) is not int or len(blocks) > 32:
        raise _refuse("plans.json describes no architecture", where)
    name = found.get("UNet_class_name")
    return name, {
        "n_stages": len(blocks),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(blocks))],
        "conv_op": f"Conv{dimensions}d",
        "kernel_sizes": found.get("conv_kernel_sizes"),
        "strides": found.get("pool_op_kernel_sizes"),
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": blocks,
        "n_conv_per_stage_decoder": found.get("n_conv_per_stage_decoder"),
        "conv_bias": True,
        "norm_op": f"InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "LeakyReLU",
    }


def _steps(
    plans: Mapping[str, Any],
    found: Mapping[str, Any],
    orient: OrientGrid,
    dimensions: int,
    is_still: bool,
    where: str,
) -> tuple[GridStep, ...]:
    steps: list[GridStep] = [orient]
    forward = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(forward, list) or sorted(map(str, forward)) != ["0", "1", "2"]:
        raise _refuse(f"transpose_forward is {_short(forward)}", where)
    if forward != [0, 1, 2]:
        steps.append(TransposeGrid(step="transpose_grid", axes=(forward[0], forward[1], forward[2])))
    steps.append(CropNonzero(step="crop_nonzero"))
    normalisation = _normalisation(plans, found, where)
    if normalisation is not None:
        steps.append(normalisation)
    spacing = found.get("spacing")
    if (
        not isinstance(spacing, list)
        or len(spacing) != dimensions
        or not all(isinstance(one, int | float) and 0.01 < one <= 50 for one in spacing)
    ):
        raise _refuse(f"spacing is {_short(spacing)}", where)
    if not is_still:
        mm = (*(None,) * (3 - dimensions), *(float(one) for one in spacing))
        steps.append(
            ResampleGrid(step="resample_grid", spacing_mm=(mm[0], mm[1], mm[2]), order=3, apart_above=3.0)
        )
    return tuple(steps)


def _normalisation(plans: Mapping[str, Any], found: Mapping[str, Any], where: str) -> GridStep | None:
    schemes, masks = found.get("normalization_schemes"), found.get("use_mask_for_norm")
    if not isinstance(schemes, list) or len(schemes) != 1 or not isinstance(masks, list) or len(masks) != 1:
        raise _refuse("normalization_schemes and use_mask_for_norm must have one entry each", where)
    scheme = schemes[0]
    if scheme == "ZScoreNormalization":
        return ZScore(step="zscore", mask="nonzero_filled" if masks[0] else "all")
    if scheme == "NoNormalization":
        return None
    if scheme == "RescaleTo01Normalization":
        return MapRange(step="map_range", low=None, high=None, to_low=0.0, to_high=1.0, clip=False)
    if scheme == "RGBTo01Normalization":
        return MapRange(step="map_range", low=0.0, high=255.0, to_low=0.0, to_high=1.0, clip=False)
    if scheme != "CTNormalization":
        raise _refuse(f"the normalisation {_short(scheme)!r} is not known", where)
    every = plans.get("foreground_intensity_properties_per_channel")
    every = plans.get("foreground_intensity_properties_by_modality") if every is None else every
    given = every.get("0") if isinstance(every, dict) else None
    names = ("percentile_00_5", "percentile_99_5", "mean", "std")
    if not isinstance(given, dict) or not all(isinstance(given.get(name), int | float) for name in names):
        raise _refuse("CTNormalization without foreground_intensity_properties_per_channel", where)
    low, high, mean, deviation = (float(given[name]) for name in names)
    try:
        return ClipStandardise(
            step="clip_standardise", low=low, high=high, mean=mean, deviation=max(deviation, 1e-8)
        )
    except ValidationError as error:
        raise _refuse(f"intensity properties of the foreground: {error.errors()[0]['msg']}", where) from error


def _only_channel(dataset: Mapping[str, Any], where: str) -> str:
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict) or not channels:
        raise _refuse("dataset.json has no channel_names", where)
    if len(channels) != 1:
        names = ", ".join(_short(name) for name in channels.values())
        raise ImportRefusal(
            f"the model reads {len(channels)} channels together ({names})",
            where=where,
            remedy="A package reads one series; models of several sequences are not read yet.",
        )
    return _short(next(iter(channels.values())))


def _named(arguments: Mapping[str, Any], key: str, known: Mapping[str, Any], where: str) -> Any:
    given = arguments.get(key)
    last = given.rsplit(".", 1)[-1] if isinstance(given, str) else ""
    if last not in known:
        raise _refuse(f"the network's {key} is {_short(given)!r}", where)
    return known[last]


def _given(arguments: Mapping[str, Any], key: str, known: set[str], where: str) -> dict[str, Any]:
    given = arguments.get(key) or {}
    if not isinstance(given, dict) or set(given) - known:
        raise _refuse(f"the network's {key} is {_short(given)}", where)
    return given


def _per_stage(
    arguments: Mapping[str, Any], key: str, stages: object, where: str, *, less: int = 0
) -> tuple[int, ...]:
    given = arguments.get(key)
    if type(given) is int and type(stages) is int and 0 < stages <= 32:
        return (given,) * (stages - less)
    return tuple(_integers(arguments, key, where))


def _integers(values: Mapping[str, Any], key: str, where: str) -> list[int]:
    given = values.get(key)
    if not isinstance(given, list) or not all(type(one) is int for one in given):
        raise _refuse(f"{key} is {_short(given)}, not a list of whole numbers", where)
    return given


def _tuples(arguments: Mapping[str, Any], key: str, where: str) -> tuple[tuple[int, ...], ...]:
    given = arguments.get(key)
    if not isinstance(given, list) or not all(isinstance(one, Sequence) for one in given):
        raise _refuse(f"the network's {key} is {_short(given)}, not a list of lists", where)
    return tuple(tuple(_integers({key: one}, key, where)) for one in given)


def _short(value: object) -> str:
    return plain_words(value, 80)


def _refuse(what: str, where: str) -> ImportRefusal:
    return ImportRefusal(what, where=where, remedy=_DEFAULTS_ONLY)
