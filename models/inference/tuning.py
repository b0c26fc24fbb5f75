"""A loaded package gets the layout that is fastest here and computes the right thing; measured once."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from models.inference.layout import (
    PLAIN,
    Layout,
    chosen_layout,
    fastest_first,
    keep_layout,
    kept_layout,
    layouts,
    seconds_of,
)
from models.manifest import Manifest
from models.networks.registry import OnnxSpec
from models.predictor import Predictor
from models.steps import FitCanvas, SpacingCanvas, StackSlices

SECONDS_FOR_REPEATS = 2.0  # a batch that takes longer is timed once


def tune(predictor: Predictor, folder: Path) -> None:
    """Let a predictor use the fastest layout of this package, device, torch and number of threads.

    Parameters
    ----------
    folder : where choices are kept
    """
    manifest = predictor.package.manifest
    if isinstance(manifest.network, OnnxSpec):
        return
    path = folder / f"layout-{predictor.package.digest[:16]}-{machine(predictor.device)}.json"
    layout = kept_layout(path)
    if layout is None:
        example = example_batch(manifest, predictor.device)
        is_quick = seconds_of(predictor.network, example, [PLAIN], runs=1)[PLAIN] < SECONDS_FOR_REPEATS
        tried = layouts(bfloat16=predictor.device.type in manifest.runtime.bfloat16)
        seconds = seconds_of(predictor.network, example, tried, runs=3 if is_quick else 1)
        layout = chosen_layout(fastest_first(seconds), lambda one: _is_right(predictor, one))
        keep_layout(path, layout, seconds)
    predictor.use(layout)


def machine(device: torch.device) -> str:
    """What a measurement is valid for, as part of a file name."""
    kind = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()}threads"
    )
    return f"{device.type}-{''.join(filter(str.isalnum, kind))}-torch{version('torch')}"


def example_batch(manifest: Manifest, device: torch.device) -> Tensor:
    """Noise in the shape of what the network gets: one window on a CPU, a whole batch on a GPU."""
    windows = manifest.inference.batch if device.type == "cuda" else 1
    generator = torch.Generator().manual_seed(0)
    shape: tuple[int, ...]
    if manifest.grid is not None:
        shape = (1, *manifest.grid.tiling.window)
    else:
        channels, rows, columns = 1, 0, 0
        for step in manifest.preprocess:
            match step:
                case FitCanvas():
                    rows, columns = step.rows, step.columns
                case SpacingCanvas():
                    rows = columns = step.minimum
                case StackSlices():
                    channels = 2 * step.neighbours + 1
                case _:
                    pass
        shape = (channels, rows, columns)
    return torch.randn(windows, *shape, generator=generator).to(device)


def _is_right(predictor: Predictor, layout: Layout) -> bool:
    predictor.use(layout)
    return predictor.verify_golden().passed
