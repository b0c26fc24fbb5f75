"""A MONAI bundle: configs/metadata.json, configs/inference.json (or YAML), models/model.pt.

Its configuration is a program to MONAI; here its network, transforms and inferer are read as values, and only
those of a list become ours. Scripts, handlers, data loading and TorchScript are left where they are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from models.adapters.conversion import convert
from models.adapters.monai_config import check_expressions, check_target, described
from models.adapters.monai_transforms import plain_name, steps_of
from models.adapters.reading import (
    STRUCTURES_GUESSED,
    NamedMaps,
    Reading,
    Wishes,
    digest_of_files,
    plain_words,
)
from models.adapters.refusal import EXPORT_ONNX, EXPORT_WEIGHTS, ImportRefusal
from models.adapters.source import Source
from models.grid_steps import Grid, Tiling
from models.networks.monai_networks import build_monai_network
from models.networks.registry import (
    MonaiBasicUNetSpec,
    MonaiDynUNetSpec,
    MonaiNetworkSpec,
    MonaiSegResNetSpec,
    MonaiUNetSpec,
)
from models.package import hash_of

_CONFIGS: Final = (
    "inference.json",
    "inference.yaml",
    "inference.yml",
    "train.json",
    "train.yaml",
    "train.yml",
)
_NETWORK_KEYS: Final = ("network_def", "network", "net", "model")
_BEFORE_KEYS: Final = (
    "preprocessing",
    "pre_transforms",
    "preprocessing_transforms",
    "deterministic_transforms",
)
_AFTER_KEYS: Final = ("postprocessing", "post_transforms")
_MODULES: Final = ("monai.networks.nets.", "monai.networks.", "monai.inferers.", "monai.transforms.")
_SPECS: Final[dict[str, type[MonaiNetworkSpec]]] = {
    "UNet": MonaiUNetSpec,
    "BasicUNet": MonaiBasicUNetSpec,
    "BasicUnet": MonaiBasicUNetSpec,
    "DynUNet": MonaiDynUNetSpec,
    "SegResNet": MonaiSegResNetSpec,
}
_RENAMED: Final = {"spatial_dims": "dimensions", "out_channels": "heads", "norm_name": "norm"}
# They change training only, or stand at the one value that is built.
_WITHOUT_EFFECT: Final = {
    "dropout": None,
    "dropout_prob": None,
    "use_conv_final": (True,),
    "adn_ordering": ("NDA",),
    "trans_bias": (False,),
}
_AFFINE: Final = ("BasicUNet", "BasicUnet", "DynUNet")  # normalise with numbers of their own by default


def read_bundle(source: Source, wishes: Wishes, scratch: Path) -> Reading:
    """Read a bundle; its weights are converted in a process of their own.

    Raises
    ------
    ImportRefusal
        Something that describes the model is an expression, not on a list, or missing; by name.
    """
    root, config_name = find_config(source)
    where = source.where(config_name)
    config = source.json(config_name) if config_name.endswith(".json") else source.yaml(config_name)
    if not isinstance(config, dict):
        raise ImportRefusal("is no object", where=where, remedy=EXPORT_ONNX)
    hashes = {config_name: hashlib.sha256(source.read(config_name)).hexdigest()}
    metadata: Any = {}
    metadata_name = f"{root}configs/metadata.json"
    if metadata_name in source.sizes:
        metadata = source.json(metadata_name)
        hashes[metadata_name] = hashlib.sha256(source.read(metadata_name)).hexdigest()
    not_understood = check_expressions(config, where)
    spec = network_spec(_first(config, _NETWORK_KEYS, where), where)
    transforms = _first(config, _BEFORE_KEYS, where)
    listed = transforms.get("transforms") if _is_compose(transforms, where) else transforms
    steps, guessed = steps_of(listed, spec.dimensions, wishes.orient, where)
    window, overlap, blend = inferer(described(config, "inferer", where), spec, where)
    # Not followed: it names folders and devices, by expressions. Only flags are read.
    activation, after = activation_of(_raw(config, _AFTER_KEYS), spec.heads)
    labels = labels_of(metadata, spec.heads)
    heads = chosen_heads(labels, wishes, activation, source.where(metadata_name))
    as_structures = wishes.outlines_structures(len(heads))
    weights = _weights(source, root, spec, scratch, hashes)
    return Reading(
        format="monai-bundle",
        name=source.place.name[:300],
        sha256=digest_of_files(hashes),
        title=plain_words(
            f"{_text(metadata, 'name') or source.place.stem} (imported from a MONAI bundle)", 300
        ),
        finding=" and ".join(labels[head] for head in heads)[:64],
        network=spec,
        grid=Grid(
            steps=steps,
            tiling=Tiling(
                window=window,
                overlap=overlap,
                blend=blend,
                activation=activation,
                lesion_heads=() if as_structures else heads,
            ),
        ),
        steps_known=True,
        unit="series" if spec.dimensions == 3 else "image",
        weights=weights,
        weights_name="weights.safetensors",
        parameters=sum(value.numel() for value in load_file(weights).values()),
        bytes_per_pixel=_bytes_per_pixel(spec),
        trained_on=tuple(text for text in (_text(metadata, "data_source"),) if text),
        read=(
            f"Configuration {config_name}; network {spec.registry} with {spec.heads} maps.",
            f"Maps: {', '.join(labels.values())}; "
            f"{'each a structure' if as_structures else 'drawn as the finding'}: "
            f"{', '.join(labels[head] for head in heads)}.",
            f"Steps: {', '.join(step.step for step in steps)}.",
            f"Window {' x '.join(map(str, window))}, overlap {overlap:g}, {blend}; then {activation}.",
            *(
                f"The maker wrote ({key}): {text}"
                for key in ("version", "description", "intended_use", "copyright", "data_source")
                if (text := _text(metadata, key))
            ),
        ),
        guessed=(
            *guessed,
            *after,
            *((STRUCTURES_GUESSED,) if as_structures else ()),
            *_left_out(source, root),
            *not_understood,
        ),
        structures=tuple(NamedMaps(labels[head], (head,)) for head in heads) if as_structures else (),
    )


def find_config(source: Source) -> tuple[str, str]:
    """The bundle's folder inside the source, and its configuration."""
    for last in _CONFIGS:
        found = [name for name in source.named(last) if f"/{name}".endswith(f"/configs/{last}")]
        if len(found) > 1:
            raise ImportRefusal(
                f"{len(found)} bundles", where=source.place.name, remedy="Give the folder of one of them."
            )
        if found:
            return found[0].removesuffix(f"configs/{last}"), found[0]
    raise ImportRefusal(
        "no configs/inference.json", where=source.place.name, remedy="Give the folder of a MONAI bundle."
    )


def network_spec(given: Any, where: str) -> MonaiNetworkSpec:
    """The registry's entry for a network's description, arguments taken literally."""
    name = check_target(given, where, modules=_MODULES)
    entry = _SPECS.get(name)
    if entry is None:
        raise ImportRefusal(
            f"the network {plain_words(name, 60)} is not read; {', '.join(sorted(set(_SPECS)))} are",
            where=where,
            remedy=EXPORT_ONNX,
        )
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in ("_target_", "_disabled_"):
            continue
        if key in _WITHOUT_EFFECT:
            allowed = _WITHOUT_EFFECT[key]
            if allowed is not None and value not in allowed:
                raise ImportRefusal(
                    f"the network's {key} is {plain_words(value, 60)}", where=where, remedy=EXPORT_ONNX
                )
            continue
        values[_RENAMED.get(key, key)] = value
    if entry in (MonaiBasicUNetSpec, MonaiSegResNetSpec):
        values = {"dimensions": 3, "in_channels": 1, "heads": 2} | values  # MONAI's own defaults
    if values.get("in_channels") != 1:
        raise ImportRefusal(
            f"the network's in_channels is {plain_words(values.get('in_channels'), 60)}",
            where=where,
            remedy="A package reads one series of one channel; models of several are not read yet.",
        )
    values |= _norm(values.pop("norm", None), name, where)
    _check_activation(values, name, where)
    spellings = {"UNet": "unet", "DynUNet": "dynunet", "SegResNet": "segresnet"}
    values["registry"] = f"monai_{spellings.get(name, 'basicunet')}@1"
    try:
        return entry.model_validate(_tuples(values))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ImportRefusal(
            f"the network's {place or 'arguments'}: {fault['msg']}", where=where, remedy=EXPORT_ONNX
        ) from error


def inferer(
    given: Any, spec: MonaiNetworkSpec, where: str
) -> tuple[tuple[int, ...], float, Literal["gaussian", "constant"]]:
    """Window, overlap and blending of a sliding-window inferer."""
    name = check_target(given, where, modules=_MODULES) if given is not None else "none"
    if name != "SlidingWindowInferer":
        raise ImportRefusal(
            f"the inferer {plain_words(name, 60)} is not read, SlidingWindowInferer is",
            where=where,
            remedy="Write a SlidingWindowInferer with the roi_size of training into the configuration.",
        )
    size, overlap, mode = given.get("roi_size"), given.get("overlap", 0.25), given.get("mode", "constant")
    sizes = tuple(size) if isinstance(size, list) else (size,) * spec.dimensions
    if len(sizes) != spec.dimensions or not all(type(one) is int and 8 <= one <= 1024 for one in sizes):
        raise ImportRefusal(f"roi_size is {plain_words(size, 60)}", where=where, remedy=EXPORT_ONNX)
    if any(one % divisor for one, divisor in zip(sizes, spec.divisors, strict=True)):
        raise ImportRefusal(
            f"roi_size {list(sizes)} is no multiple of the network's strides {list(spec.divisors)}",
            where=where,
            remedy=EXPORT_ONNX,
        )
    if (
        mode not in ("gaussian", "constant")
        or not isinstance(overlap, int | float)
        or not 0 <= overlap <= 0.9
    ):
        raise ImportRefusal("mode or overlap of the inferer is not read", where=where, remedy=EXPORT_ONNX)
    return sizes, float(overlap), "gaussian" if mode == "gaussian" else "constant"


def activation_of(after: Any, heads: int) -> tuple[Literal["softmax", "sigmoid"], list[str]]:
    """What makes probabilities of the output, and sentences about what was guessed or left out."""
    listed = after.get("transforms", []) if isinstance(after, dict) else after or []
    guesses: list[str] = []
    kind: Literal["softmax", "sigmoid"] | None = None
    for one in listed if isinstance(listed, list) else []:
        name = plain_name(str(one.get("_target_", "?")).rsplit(".", 1)[-1]) if isinstance(one, dict) else "?"
        if name == "Activations":
            kind = "softmax" if one.get("softmax") is True else kind
            kind = "sigmoid" if one.get("sigmoid") is True else kind
        elif name not in ("Invert", "SaveImage", "EnsureType", "AsDiscrete"):
            guesses.append(f"After the network: {plain_words(name, 60)} was left out.")
    if kind is None:
        kind = "sigmoid" if heads == 1 else "softmax"
        guesses.append(f"No transform says how probabilities are made: {kind}.")
    guesses.append("Outlines begin at probability 0.5.")
    return kind, guesses


def labels_of(metadata: Any, heads: int) -> dict[int, str]:
    """A name for each map: the maker's, or its number."""
    found: Any = metadata
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        found = found.get(key) if isinstance(found, dict) else None
    names = found if isinstance(found, dict) else {}
    return {head: plain_words(names.get(str(head), f"map {head}"), 60) for head in range(heads)}


def chosen_heads(labels: dict[int, str], wishes: Wishes, activation: str, where: str) -> tuple[int, ...]:
    """The maps that are the finding: the wanted ones by name or number, or all beside background."""
    wanted = wishes.labels
    by_name = {name: head for head, name in labels.items()} | {str(head): head for head in labels}
    unknown = [one for one in wanted if one not in by_name]
    if unknown:
        raise ImportRefusal(
            f"no map {plain_words(unknown[0], 60)!r}; there are {', '.join(labels.values())[:200]}",
            where=where,
            remedy="Name another --label.",
        )
    foreground = tuple(head for head in labels if not (activation == "softmax" and head == 0))
    heads = tuple(dict.fromkeys(by_name[one] for one in wanted)) if wanted else foreground
    if wishes.outlines_structures(len(heads)) and activation != "softmax" and len(heads) > 1:
        raise ImportRefusal(
            f"several maps ({', '.join(labels.values())[:200]}) that may overlap; structures do not",
            where=where,
            remedy="Say with --label which of them are the finding; several are drawn as one.",
        )
    return heads


def _weights(
    source: Source, root: str, spec: MonaiNetworkSpec, scratch: Path, hashes: dict[str, str]
) -> Path:
    name = f"{root}models/model.pt"
    if name not in source.sizes:
        exported = source.named("model.ts")
        raise ImportRefusal(
            "models/model.ts is TorchScript, a program" if exported else "no models/model.pt",
            where=source.place.name,
            remedy=EXPORT_WEIGHTS,
        )
    taken = source.take(name, scratch / "checkpoint")
    hashes[name] = hash_of(taken)
    converted = convert(taken, scratch / "weights.safetensors", source.where(name))
    taken.unlink()
    found = load_file(converted.path)
    with torch.device("meta"):
        expected = build_monai_network(spec).state_dict()
    for key in sorted(set(expected) | set(found)):
        if key not in found or key not in expected or found[key].shape != expected[key].shape:
            state = "missing" if key not in found else "not in the described network or of another shape"
            raise ImportRefusal(f"{key[:120]!r} is {state}", where=source.where(name), remedy=EXPORT_ONNX)
    return converted.path


def _first(config: dict[str, Any], keys: tuple[str, ...], where: str) -> Any:
    """The first of these parts that is there, as values."""
    for key in keys:
        if isinstance(config.get(key), dict | list):
            return described(config, key, where)
    raise ImportRefusal(f"no {keys[0]}", where=where, remedy=EXPORT_ONNX)


def _raw(config: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((config[key] for key in keys if key in config), None)


def _is_compose(value: Any, where: str) -> bool:
    return isinstance(value, dict) and check_target(value, where, modules=_MODULES) == "Compose"


def _norm(given: Any, name: str, where: str) -> dict[str, Any]:
    """The registry's word for a normalisation: a name, or a name and its arguments."""
    kind, arguments = given, {}
    if isinstance(given, list) and len(given) == 2 and isinstance(given[1], dict):
        kind, arguments = given
    if name == "SegResNet":
        if given is not None and (str(kind).lower() != "group" or set(arguments) - {"num_groups"}):
            raise ImportRefusal(
                f"the network's norm is {plain_words(given, 60)}", where=where, remedy=EXPORT_ONNX
            )
        return {"num_groups": arguments["num_groups"]} if arguments else {}
    if given is None:
        return {"norm": "instance_affine" if name in _AFFINE else "instance"}
    word = str(kind).lower()
    if word == "batch" and not arguments:
        return {"norm": "batch"}
    if word == "instance" and set(arguments) <= {"affine"}:
        return {"norm": "instance_affine" if arguments.get("affine") else "instance"}
    raise ImportRefusal(f"the network's norm is {plain_words(given, 60)}", where=where, remedy=EXPORT_ONNX)


def _check_activation(values: dict[str, Any], name: str, where: str) -> None:
    """Only a U-Net's activation is built as described; the others stand at MONAI's own."""
    if name == "UNet":
        if isinstance(values.get("act"), str):
            values["act"] = values["act"].lower()
        return
    for key in ("act", "act_name"):
        if values.pop(key, None) is not None:
            raise ImportRefusal(f"the network's {key} is set", where=where, remedy=EXPORT_ONNX)


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _bytes_per_pixel(spec: MonaiNetworkSpec) -> int:
    match spec:
        case MonaiUNetSpec():
            width = spec.channels[0]
        case MonaiBasicUNetSpec():
            width = spec.features[0]
        case MonaiSegResNetSpec():
            width = spec.init_filters
        case MonaiDynUNetSpec():
            width = (spec.filters or (32,))[0]
    return 40 * width


def _left_out(source: Source, root: str) -> list[str]:
    """What lies in the bundle and was not opened."""
    sentences = []
    scripts = [name for name in source.ending(".py") if name.startswith(root)]
    if scripts:
        sentences.append(f"{len(scripts)} Python files were not opened, {plain_words(scripts[0], 80)} first.")
    if source.named("model.ts"):
        sentences.append("models/model.ts is TorchScript and was not opened.")
    licences = [name for name in source.sizes if name.removeprefix(root).upper().startswith("LICENSE")]
    sentences.append(
        f"Its licence stands in {plain_words(licences[0], 80)}: read it."
        if licences
        else "It holds no licence."
    )
    return sentences


def _text(metadata: Any, key: str) -> str:
    found = metadata.get(key) if isinstance(metadata, dict) else None
    return plain_words(found, 280) if isinstance(found, str) else ""
