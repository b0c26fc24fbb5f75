"""PURE: MONAI's transforms by name, to our steps. What is not in the table refuses the bundle by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import ValidationError

from models.adapters.monai_config import check_target
from models.adapters.reading import plain_words
from models.adapters.refusal import ImportRefusal
from models.grid_steps import CropNonzero, GridStep, MapRange, OrientGrid, ResampleGrid, TransposeGrid, ZScore

MODULES: Final = ("monai.transforms.",)
_REMEDY: Final = (
    "Export the network to ONNX, and write the steps by hand: docs/importing-models.md lists them."
)
# They load, rearrange or rename, and leave the numbers as they are.
_WITHOUT_EFFECT: Final = frozenset(
    [
        "LoadImage",
        "EnsureChannelFirst",
        "AddChannel",
        "EnsureType",
        "ToTensor",
        "CastToType",
        "SelectItems",
        "CopyItems",
        "DeleteItems",
        "Identity",
        "ToDevice",
    ]
)
_SIDE: Final = {"L": "L", "R": "R", "A": "A", "P": "P", "S": "H", "I": "F"}
Order = Literal[0, 1, 3]
_ORDERS: Final[dict[object, Order]] = {"bilinear": 1, "nearest": 0, "trilinear": 1, 0: 0, 1: 1, 3: 3}


@dataclass
class Chain:
    """Steps so far, and sentences about what is not quite the same."""

    dimensions: int
    steps: list[GridStep] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    is_turned: bool = False


def steps_of(
    transforms: Any, dimensions: int, orient: OrientGrid, where: str
) -> tuple[tuple[GridStep, ...], list[str]]:
    """Steps of a list of transforms, and sentences about guesses.

    Parameters
    ----------
    transforms : as the configuration describes them, references followed
    orient : used where no transform says how volumes lie
    """
    chain = Chain(dimensions)
    for one in transforms if isinstance(transforms, list) else [transforms]:
        name = plain_name(check_target(one, where, modules=MODULES))
        arguments = {
            key: value
            for key, value in one.items()
            if key
            not in ("_target_", "_disabled_", "keys", "allow_missing_keys", "meta_keys", "dtype", "device")
        }
        if one.get("_disabled_") is True or name in _WITHOUT_EFFECT:
            continue
        if name not in _TABLE:
            raise ImportRefusal(
                f"the transform {plain_words(name, 60)} is not read", where=where, remedy=_REMEDY
            )
        if name != "Orientation" and not chain.is_turned:
            _turn(chain, orient)
            chain.guessed.append(
                f"Orientation: no transform says how volumes lie; columns towards {orient.columns}, rows "
                f"towards {orient.rows}, slices towards {orient.slices} are assumed; see --orientation."
            )
        try:
            _TABLE[name](chain, arguments)
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ImportRefusal(
                f"the transform {name} with {plain_words(arguments, 160)}: {plain_words(what, 120)}",
                where=where,
                remedy=_REMEDY,
            ) from error
    if not chain.is_turned:
        _turn(chain, orient)
    return tuple(chain.steps), chain.guessed


def plain_name(name: str) -> str:
    """A transform's name without the suffix that says that it works on a dictionary."""
    known = {*_TABLE, *_WITHOUT_EFFECT}
    return name if name in known else re.sub(r"(d|D|Dict)$", "", name)


def _turn(chain: Chain, orient: OrientGrid) -> None:
    """Orientation, and MONAI's order of axes: columns first."""
    chain.steps.append(orient)
    chain.steps.append(
        TransposeGrid(step="transpose_grid", axes=(2, 1, 0) if chain.dimensions == 3 else (0, 2, 1))
    )
    chain.is_turned = True


def _orientation(chain: Chain, given: dict[str, Any]) -> None:
    axcodes = str(_only(given, "axcodes", ignored=("labels", "as_closest_canonical")))
    if len(axcodes) != 3 or chain.is_turned:
        raise ValueError("three letters are read, once and first")
    sides = [_SIDE[letter] for letter in axcodes]
    _turn(
        chain,
        OrientGrid.model_validate(
            {"step": "orient_grid", "columns": sides[0], "rows": sides[1], "slices": sides[2]}
        ),
    )


def _spacing(chain: Chain, given: dict[str, Any]) -> None:
    ignored = ("mode", "padding_mode", "diagonal", "align_corners", "recompute_affine", "scale_extent")
    pixdim = _only(given, "pixdim", ignored=(*ignored, "min_pixdim", "max_pixdim", "ensure_same_shape"))
    if given.get("min_pixdim") or given.get("max_pixdim"):
        raise ValueError("limits of spacing are not read")
    mode = given.get("mode", "bilinear")
    mode = mode[0] if isinstance(mode, list) and mode else mode
    sizes = [float(one) for one in pixdim] if isinstance(pixdim, list) else [float(pixdim)] * 3
    if len(sizes) < chain.dimensions:
        raise ValueError(f"{chain.dimensions} spacings are needed")
    places: list[float | None] = [None, *sizes[:2]] if chain.dimensions == 2 else list(sizes[:3])
    kept = [None if one is None or one <= 0 else one for one in places]
    chain.steps.append(
        ResampleGrid(step="resample_grid", spacing_mm=(kept[0], kept[1], kept[2]), order=_ORDERS[mode])
    )
    chain.guessed.append(
        "Spacing: MONAI places its new voxels by the affine, preread by the volume's corners."
    )


def _range(chain: Chain, given: dict[str, Any]) -> None:
    low, high = float(given["a_min"]), float(given["a_max"])
    to_low, to_high = given.get("b_min"), given.get("b_max")
    _nothing_else(given, ("a_min", "a_max", "b_min", "b_max", "clip"))
    if to_low is None or to_high is None:
        raise ValueError("without b_min and b_max it is not read")
    chain.steps.append(
        MapRange(
            step="map_range",
            low=low,
            high=high,
            to_low=float(to_low),
            to_high=float(to_high),
            clip=bool(given.get("clip", False)),
        )
    )


def _scale(chain: Chain, given: dict[str, Any]) -> None:
    _nothing_else(given, ("minv", "maxv", "channel_wise"))
    low, high = float(given.get("minv", 0.0)), float(given.get("maxv", 1.0))
    chain.steps.append(MapRange(step="map_range", low=None, high=None, to_low=low, to_high=high, clip=False))


def _normalise(chain: Chain, given: dict[str, Any]) -> None:
    _nothing_else(given, ("nonzero", "channel_wise", "subtrahend", "divisor"))
    shift, divisor = given.get("subtrahend"), given.get("divisor")
    shift = shift[0] if isinstance(shift, list) and len(shift) == 1 else shift
    divisor = divisor[0] if isinstance(divisor, list) and len(divisor) == 1 else divisor
    if shift is None and divisor is None:
        chain.steps.append(ZScore(step="zscore", mask="nonzero" if given.get("nonzero") else "all"))
        return
    if given.get("nonzero"):
        raise ValueError("fixed numbers within a mask are not read")
    low = 0.0 if shift is None else float(shift)
    high = low + (1.0 if divisor is None else float(divisor))
    chain.steps.append(MapRange(step="map_range", low=low, high=high, to_low=0.0, to_high=1.0, clip=False))


def _crop(chain: Chain, given: dict[str, Any]) -> None:
    ignored = ("source_key", "allow_smaller", "start_coord_key", "end_coord_key", "mode", "k_divisible")
    _nothing_else(given, (*ignored, "margin"))
    if given.get("margin", 0) not in (0, [0, 0, 0], [0, 0]) or given.get("k_divisible", 1) != 1:
        raise ValueError("a margin is not read")
    chain.steps.append(CropNonzero(step="crop_nonzero"))
    chain.guessed.append("CropForeground: MONAI keeps what is above 0, preread what is not 0.")


def _pad(chain: Chain, given: dict[str, Any]) -> None:
    # Windows are padded with zeros where the image is smaller; more padding only adds empty windows.
    chain.guessed.append(
        "Padding before the windows was left out; images smaller than a window are padded with 0."
    )


def _only(given: dict[str, Any], key: str, *, ignored: tuple[str, ...]) -> Any:
    _nothing_else(given, (key, *ignored))
    return given[key]


def _nothing_else(given: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"the argument {unknown[0]!r} is not read")


_TABLE: Final[dict[str, Callable[[Chain, dict[str, Any]], None]]] = {
    "Orientation": _orientation,
    "Spacing": _spacing,
    "ScaleIntensityRange": _range,
    "ScaleIntensity": _scale,
    "NormalizeIntensity": _normalise,
    "CropForeground": _crop,
    "SpatialPad": _pad,
    "DivisiblePad": _pad,
}
TRANSFORMS: Final = tuple(sorted({*_TABLE, *_WITHOUT_EFFECT}))
