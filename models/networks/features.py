"""The pooled bottleneck of a network, asked for in one way whatever the network is.

Who wants to know how far an input lies from the training cases needs one vector for each input; who wants to
know where a class came from needs the map behind it. Both are defined by one layer: the deepest one.

`featured(network)` gives the two for every network of the registry that torch runs; `recorded_features` reads
the vectors in passing, during a prediction, without a second run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from config.errors import PrereadError


@runtime_checkable
class HasFeatures(Protocol):
    """A network with a bottleneck."""

    @property
    def feature_layer(self) -> nn.Module:
        """The layer whose output (N, C, *sizes), 2 or 3 sizes, is the deepest map: what Grad-CAM weighs.

        N is the batch, or, where a network reads several slices or sequences per case, their total number.
        """
        ...

    def features(self, x: Tensor) -> Tensor:
        """(n, ...) as `forward` takes it -> (n, c) float32, one vector per case; gradients flow."""
        ...


def pooled(maps: Tensor) -> Tensor:
    """Mean over all sizes: (N, C, *sizes) -> (N, C), float32."""
    return maps.float().flatten(2).mean(2)


def featured(network: nn.Module) -> HasFeatures:
    """The network itself where it has features of its own, or a view of it for one of MONAI's.

    Raises
    ------
    PrereadError
        The network does not let anyone see inside (an ONNX graph).
    """
    if isinstance(network, HasFeatures):
        return network
    layer = _monai_bottleneck(network)
    if layer is None:
        raise PrereadError(
            f"{type(network).__name__} has no bottleneck that can be read",
            remedy="Use a network of the registry that torch runs; an ONNX graph gives its outputs only.",
        )
    return _Watched(network, layer)


@contextmanager
def recorded_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Inside the block each forward pass appends its vectors (N, C) to the list, without gradient."""
    found: list[Tensor] = []

    def note(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.append(pooled(output.detach()))

    handle = featured(network).feature_layer.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


class _Watched:
    """A network that was not written for this: its bottleneck is read from outside."""

    def __init__(self, network: nn.Module, layer: nn.Module) -> None:
        self._network, self._layer = network, layer

    @property
    def feature_layer(self) -> nn.Module:
        return self._layer

    def features(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        handle = self._layer.register_forward_hook(lambda _layer, _inputs, output: found.append(output))
        try:
            self._network(x)
        finally:
            handle.remove()
        return pooled(torch.cat(found))


def _monai_bottleneck(network: nn.Module) -> nn.Module | None:
    """The deepest layer of the four networks of `models.networks.monai_networks`, known by their names.

    By class name, so that the library is not loaded to look at a network that is not its own.
    """
    inside = cast("Any", network)
    match type(network).__name__ if type(network).__module__.startswith("monai.networks.nets.") else "":
        case "UNet":
            layer = inside.model
            while isinstance(layer, nn.Sequential) and len(layer) == 3 and hasattr(layer[1], "submodule"):
                layer = layer[1].submodule
            return cast("nn.Module", layer)
        case "BasicUNet":
            return cast("nn.Module", inside.down_4)
        case "SegResNet":
            return cast("nn.Module", inside.down_layers[-1])
        case "DynUNet":
            return cast("nn.Module", inside.bottleneck)
    return None
