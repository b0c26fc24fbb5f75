"""A package's heat map of a volume: made on the network's canvas, brought back to the grid of the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from config.errors import PrereadError
from models.explanation.attention import Attention, Method, to_unit
from models.explanation.grad_cam import Score, grad_cam
from models.explanation.occlusion import occlusion
from models.manifest import Manifest
from models.networks.registry import EffNetLite0UNetSpec
from models.networks.unet import Maps
from models.preprocess import network_input, prepare
from models.resample import FloatArray
from models.steps import Standardise
from models.volume import Volume

# The deepest map that every part of the class head reads: the last stages, and the decoder beside them.
DEFAULT_LAYER = "encoder.blocks.10"
BATCH = 4  # slices at once: the gradient keeps every map of the network
PATCH, STRIDE = 32, 16  # pixels of the canvas

MapMaker = Callable[[nn.Module, Tensor, int], Tensor]
"""(network, batch (B, channels, H, W), index of the class) -> heat (B, H, W)."""


@dataclass(frozen=True)
class Recipe:
    """How heat maps of a package are made."""

    method: Method
    layer: str | None

    def maker(self, manifest: Manifest) -> MapMaker:
        """The function that makes them.

        Raises
        ------
        PrereadError
            The package has no classes, or its network is not one that is explained.
        """
        if not isinstance(manifest.network, EffNetLite0UNetSpec) or manifest.network.classes == 0:
            raise PrereadError(
                "has no class of the whole image to explain",
                where=manifest.id,
                remedy="Its outline is its explanation; nothing is to be done.",
            )
        if self.method == "occlusion":
            air = next(
                (
                    -step.mean / step.deviation
                    for step in manifest.preprocess
                    if isinstance(step, Standardise)
                ),
                0.0,
            )
            return lambda network, batch, index: occlusion(
                network, batch, _chance_of(index), patch=PATCH, stride=STRIDE, fill=air
            )
        name = self.layer or DEFAULT_LAYER

        def by_gradient(network: nn.Module, batch: Tensor, index: int) -> Tensor:
            try:
                layer = network.get_submodule(name)
            except AttributeError as error:
                raise PrereadError(
                    f"the network has no layer {name}", where=manifest.id, remedy="Name one it has."
                ) from error
            return grad_cam(network, layer, batch, _logit_of(index))

        return by_gradient


def _logit_of(index: int) -> Score:
    def score(maps: Maps) -> Tensor:
        assert maps.classes is not None  # Recipe.maker
        return maps.classes[:, index]

    return score


def _chance_of(index: int) -> Score:
    def score(maps: Maps) -> Tensor:
        assert maps.classes is not None  # Recipe.maker
        return torch.softmax(maps.classes, 1)[:, index]

    return score


def canvas_heat(
    network: nn.Module, stacked: FloatArray, index: int, make: MapMaker, *, flip: bool, device: torch.device
) -> FloatArray:
    """Heat (n, H, W) of canvas slices (n, channels, H, W); `flip`: the mean with that of the mirror image."""
    found = []
    for first in range(0, len(stacked), BATCH):
        batch = torch.from_numpy(stacked[first : first + BATCH]).to(device)
        heat = make(network, batch, index)
        if flip:
            heat = (heat + make(network, batch.flip(3), index).flip(2)) / 2
        found.append(heat.float().cpu().numpy())
    return np.concatenate(found)


def attend(
    network: nn.Module,
    device: torch.device,
    manifest: Manifest,
    volume: Volume,
    class_name: str,
    recipe: Recipe,
) -> Attention:
    """The heat map of one volume for one class, on the grid of the source.

    Raises
    ------
    PrereadError
        The package has nothing to explain.
    PreprocessError
        The volume cannot be brought to the network.
    """
    make = recipe.maker(manifest)
    index = next(item.index for item in manifest.findings.classes if item.name == class_name)
    prepared = prepare(volume, manifest.preprocess)
    stacked = network_input(prepared.image, manifest.preprocess)
    heat = canvas_heat(network, stacked, index, make, flip=manifest.inference.flip, device=device)
    return Attention(to_unit(prepared.to_source(heat)), class_name, recipe.method, recipe.layer)


def shown_attention(
    network: nn.Module, device: torch.device, manifest: Manifest, volume: Volume, class_name: str | None
) -> Attention | None:
    """The heat map a reader is shown: only of a package that passed, only for a class that is a finding."""
    block = manifest.explain
    if block is None or block.method == "none" or class_name is None:
        return None
    if any(item.negative for item in manifest.findings.classes if item.name == class_name):
        return None
    return attend(network, device, manifest, volume, class_name, Recipe(block.method, block.layer))
