"""Makes the golden files beside it from dynamic-network-architectures, the package that nnU-Net builds its
networks with. Not part of the tests: they read the files, and never import that package, whose requirements
(timm, torchvision) do not fit this project.

    pip install --no-deps --target /some/folder dynamic-network-architectures==0.4.4
    PYTHONPATH=/some/folder python tests/nnunet_golden/make.py

Each file holds an input and the logits of one network with random weights; names.json holds all names of the
checkpoints. The weights are drawn from their names (`drawing.draw_weights`), so they need not be stored.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import torch
from drawing import ARCHITECTURES, draw_weights
from safetensors.torch import save_file

HERE = Path(__file__).parent


def oracle(kind: str, arguments: dict, in_channels: int, heads: int) -> torch.nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    dimensions = len(arguments["kernel_sizes"][0])
    conv = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dimensions]
    norm = getattr(torch.nn, arguments["norm_op"].rsplit(".", 1)[-1])
    given = {
        **arguments,
        "conv_op": conv,
        "norm_op": norm,
        "dropout_op": None,
        "nonlin": getattr(torch.nn, arguments["nonlin"].rsplit(".", 1)[-1]),
    }
    network = {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}[kind]
    return network(input_channels=in_channels, num_classes=heads, deep_supervision=False, **given).eval()


def main() -> None:
    names = {}
    for name, one in ARCHITECTURES.items():
        network = oracle(one.kind, one.arguments, one.in_channels, one.heads)
        state = network.state_dict()
        draw_weights(state)
        network.load_state_dict(state)
        generator = torch.Generator().manual_seed(7)
        x = torch.randn((2, one.in_channels, *one.shape), generator=generator)
        with torch.inference_mode():
            y = network(x)
        save_file({"input": x, "logits": y.contiguous()}, HERE / f"{name}.safetensors")
        names[name] = list(state)
    (HERE / "names.json").write_text(json.dumps(names, indent=0) + "\n")


if __name__ == "__main__":
    # What the two networks import and never call; timm would bring torchvision.
    if importlib.util.find_spec("timm") is None:
        sys.modules["timm"] = types.ModuleType("timm")
    main()
