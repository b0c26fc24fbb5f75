"""From a registry entry to a network. One that is too large is refused before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from config.errors import PrereadError
from models.networks.centernet import CenterNet
from models.networks.classifier import DenseNetClassifier, EffNetLite0Classifier
from models.networks.conv_unet import ConvUNet
from models.networks.fusion import EarlyFusion, LateFusion
from models.networks.monai_networks import build_monai_network
from models.networks.nnunet import Members, NnUNet
from models.networks.own_specs import (
    CenterNetSpec,
    DenseNetSpec,
    EarlyFusionSpec,
    EffNetLite0ClassifierSpec,
    EffNetLite0SlimSpec,
    LateFusionSpec,
    OwnSpec,
    Rcnn2dSpec,
    SliceAttentionSpec,
    SliceLstmSpec,
    UNetSpec,
)
from models.networks.rcnn import Rcnn2d
from models.networks.registry import (
    CanvasNetworkSpec,
    EffNetLite0UNetSpec,
    GridNetworkSpec,
    MonaiNetworkSpec,
    NnUNetPlainSpec,
    NnUNetResEncSpec,
    OnnxCanvasSpec,
    OnnxSpec,
)
from models.networks.slice_sequence import SliceSequence
from models.networks.slim_classifier import EffNetLite0Slim
from models.networks.spec_parts import PARAMETERS_MAX
from models.networks.unet import EffNetLite0UNet

Built = TypeVar("Built", bound=nn.Module)


@dataclass(frozen=True)
class TrainingNoise:
    """What is left out at random while training; prediction knows nothing of it.

    Parameters
    ----------
    dropout : of single features before the last layer
    drop_rate : of whole blocks of EfficientNet-Lite0 (stochastic depth)
    missing_share : of whole sequences, in a fusion
    """

    dropout: float = 0.0
    drop_rate: float = 0.0
    missing_share: float = 0.0


QUIET = TrainingNoise()


def build_network(
    spec: EffNetLite0UNetSpec, *, dropout: float = 0.0, drop_rate: float = 0.0, decoder_dropout: float = 0.0
) -> EffNetLite0UNet:
    """A network with fresh weights; dropout and stochastic depth matter in training only."""
    return EffNetLite0UNet(
        in_channels=spec.in_channels,
        classes=spec.classes,
        decoder_channels=spec.decoder_channels,
        expanded=spec.expanded,
        dropout=dropout,
        drop_rate=drop_rate,
        decoder_dropout=decoder_dropout,
    )


def build_declared(spec: CanvasNetworkSpec | GridNetworkSpec | CenterNetSpec) -> nn.Module:
    """The network that a package names, with fresh weights; ONNX brings its own (see onnx_network).

    Raises
    ------
    PrereadError
        It would have more parameters than are ever built.
    """
    assert not isinstance(spec, OnnxCanvasSpec | OnnxSpec), "a graph in a file is not built"
    return build_network(spec) if isinstance(spec, EffNetLite0UNetSpec) else build_grid_network(spec)


def build_grid_network(
    spec: UNetSpec | NnUNetPlainSpec | NnUNetResEncSpec | MonaiNetworkSpec | CenterNetSpec,
) -> nn.Module:
    """A network of many heads with fresh weights: (B, in_channels, ...) -> (B, heads, ...) logits.

    A detector gives its maps instead.

    Raises
    ------
    PrereadError
        It would have more parameters than are ever built.
    """
    if isinstance(spec, UNetSpec | CenterNetSpec):
        return build_own_network(spec)
    if isinstance(spec, NnUNetPlainSpec | NnUNetResEncSpec):
        return _measured(lambda: Members([NnUNet(spec) for _ in range(spec.members)]), spec.registry)
    return _measured(lambda: build_monai_network(spec), spec.registry)


def build_own_network(spec: OwnSpec, noise: TrainingNoise = QUIET) -> nn.Module:
    """Any of preread's own networks with fresh weights; what it takes and gives stands at its class.

    Raises
    ------
    PrereadError
        It would have more parameters than are ever built.
    """
    return _measured(lambda: _own(spec, noise), spec.registry)


def _own(spec: OwnSpec, noise: TrainingNoise) -> nn.Module:
    match spec:
        case UNetSpec():
            return ConvUNet(spec, dropout=noise.dropout)
        case DenseNetSpec():
            return DenseNetClassifier(spec, dropout=noise.dropout)
        case EffNetLite0SlimSpec():
            return EffNetLite0Slim(spec, dropout=noise.dropout)
        case EffNetLite0ClassifierSpec():
            return EffNetLite0Classifier(spec, dropout=noise.dropout, drop_rate=noise.drop_rate)
        case CenterNetSpec():
            return CenterNet(spec, dropout=noise.dropout)
        case Rcnn2dSpec():
            return Rcnn2d(spec, dropout=noise.dropout)
        case SliceLstmSpec() | SliceAttentionSpec():
            return SliceSequence(spec, dropout=noise.dropout)
        case EarlyFusionSpec():
            return EarlyFusion(spec, lambda: _own(spec.network, noise), missing_share=noise.missing_share)
        case LateFusionSpec():
            return LateFusion(spec, dropout=noise.dropout, missing_share=noise.missing_share)


def _measured(make: Callable[[], Built], registry: str) -> Built:
    """Made once without memory, to be counted, and then in earnest."""
    with torch.device("meta"):
        count = parameter_count(make())
    if count > PARAMETERS_MAX:
        raise PrereadError(
            f"network {registry} would have {count} parameters, at most {PARAMETERS_MAX} are built",
            remedy="Give it fewer features, stages or blocks.",
        )
    return make()


def parameter_count(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


def in_channels_last(network: nn.Module) -> None:
    """Lay the kernels out as the CPU's and GPU's convolutions read them fastest, in place."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
