"""A graph in 8-bit integers (onnxruntime, static, per channel), and what its ranges are read from.

Activations get their ranges from inputs of training folds. The first convolution and the layers that give the
answer stay in floating point: what they round away nothing behind them can mend.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np

from config.errors import PrereadError
from models.compression.graph import FEATURES, INPUT
from models.grid import to_grid
from models.grid_steps import Grid
from models.inference.slab import window_sizes
from models.inference.windows import window_starts
from models.package import Package
from models.preprocess import PreprocessError, network_input, prepare
from models.resample import FloatArray
from models.training.cases import Case

SLICES_MIN: Final = 64
WINDOWS_MIN: Final = 8  # of three sizes: each has many slices
_WEIGHED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def calibration_inputs(package: Package, cases: Sequence[Case]) -> list[FloatArray]:
    """Inputs of the network, (channels, *sizes), of at least SLICES_MIN slices, evenly over the cases.

    Raises
    ------
    PrereadError
        The cases do not have as many.
    """
    manifest = package.manifest
    thick = manifest.grid.tiling.window[0] if manifest.grid and len(manifest.grid.tiling.window) == 3 else 1
    wanted = SLICES_MIN if thick == 1 else max(WINDOWS_MIN, ceil(SLICES_MIN / thick))
    per_case = ceil(wanted / max(1, len(cases)))
    step = max(1, len(cases) // wanted)
    found: list[FloatArray] = []
    for index in sorted(range(len(cases)), key=lambda one: (one % step, one)):
        if len(found) >= wanted:
            break
        volume = cases[index].volume
        try:
            if manifest.grid is not None:
                found += _windows(to_grid(volume, manifest.grid.steps).image, manifest.grid, per_case)
            else:
                stacked = network_input(prepare(volume, manifest.preprocess).image, manifest.preprocess)
                found += [stacked[place] for place in _spread(len(stacked), per_case)]
        except PreprocessError:
            continue  # It is refused anyway.
    if len(found) < wanted:
        raise PrereadError(
            f"{len(found)} inputs to read ranges from; {wanted} are needed",
            where=manifest.id,
            remedy="Give more cases: ranges of few inputs cut off what others have.",
        )
    return found


def _windows(image: FloatArray, grid: Grid, count: int) -> list[FloatArray]:
    """(1, *window), evenly over all windows of an image (slices, rows, columns)."""
    window = window_sizes(grid.tiling)
    missing = [(0, max(0, wide - size)) for wide, size in zip(window, image.shape, strict=True)]
    padded = np.pad(image, missing)
    starts = [
        window_starts(size, wide, grid.tiling.overlap)
        for size, wide in zip(padded.shape, window, strict=True)
    ]
    corners = list(product(*starts))
    parts = []
    for place in _spread(len(corners), count):
        box = tuple(slice(at, at + wide) for at, wide in zip(corners[place], window, strict=True))
        part = padded[box].astype(np.float32)
        parts.append(part if len(grid.tiling.window) == 2 else part[None])
    return parts


def _spread(size: int, count: int) -> list[int]:
    """At most `count` different indices below `size`, evenly, ends left out where there is room."""
    places = np.linspace(0, size - 1, count + 2)[1:-1]
    return sorted({int(place) for place in places.round()})


def quantised_graph(graph: bytes, inputs: Sequence[FloatArray]) -> bytes:
    """The graph in 8-bit integers, its ranges from `inputs`, each (channels, *sizes).

    Raises
    ------
    PrereadError
        The packages that write graphs are not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
    except ImportError as error:
        raise PrereadError(
            f"{error.name} is not installed", remedy="Install it: pip install 'preread[onnx]'."
        ) from error

    class Inputs(CalibrationDataReader):  # type: ignore[misc]  # untyped library
        def __init__(self) -> None:
            self._left: Iterator[FloatArray] = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            one = next(self._left, None)
            return None if one is None else {INPUT: np.ascontiguousarray(one[None])}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(graph)
        quantize_static(
            source,
            target,
            Inputs(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=kept_in_float(onnx.load(source).graph),
        )
        return target.read_bytes()


def kept_in_float(graph: Any) -> list[str]:
    """Names of the first convolution, of the last layers before each answer, and of all behind them."""
    giver = {name: node for node in graph.node for name in node.output}
    kept = {next(node.name for node in graph.node if node.op_type in _WEIGHED)}
    last: set[str] = set()
    for output in graph.output:
        if output.name != FEATURES:
            last |= _last_layers(output.name, giver)
    behind: set[str] = set()
    for node in graph.node:
        if node.name in last or behind & set(node.input):
            kept.add(node.name)
            behind |= set(node.output)
    return sorted(kept)


def _last_layers(name: str, giver: dict[str, Any]) -> set[str]:
    """The layers with weights that are met first on the way back from a value."""
    if name not in giver or giver[name].op_type == "Shape":
        return set()
    node = giver[name]
    if node.op_type in _WEIGHED:
        return {node.name}
    return {found for one in node.input for found in _last_layers(one, giver)}


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns on the root logger of what the graph here is prepared for."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
