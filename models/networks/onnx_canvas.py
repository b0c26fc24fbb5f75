"""An ONNX graph in place of a network on a whole canvas: lesion map, classes and features out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from config.errors import PrereadError
from models.networks.onnx_network import session_of
from models.networks.registry import OnnxCanvasSpec
from models.networks.unet import Maps


class OnnxCanvasNetwork(nn.Module):
    """(B, channels, H, W) -> Maps, computed by onnxruntime on the CPU.

    Raises
    ------
    PrereadError
        onnxruntime is not installed, the graph is not one that is read, or it has other outputs.
    """

    def __init__(self, path: Path, spec: OnnxCanvasSpec) -> None:
        super().__init__()
        self._session = session_of(path)
        self._names = ["lesion", *(["classes"] if spec.classes else []), "bottleneck"]
        found = sorted(port.name for port in self._session.get_outputs())
        if found != sorted(self._names):
            raise PrereadError(
                f"the graph gives {', '.join(found)}, declared are {', '.join(self._names)}",
                where=path.name,
                remedy="Make it again: preread models compress.",
            )
        # A layer of torch to look at: whoever records features sees them pass here.
        self.bottleneck = nn.Identity()

    def forward(self, x: Tensor) -> Maps:
        """Logits of one batch."""
        found = self._session.run(self._names, {"image": np.ascontiguousarray(x.cpu().float().numpy())})
        values = {
            name: torch.from_numpy(value).to(x.device) for name, value in zip(self._names, found, strict=True)
        }
        self.bottleneck(values["bottleneck"][..., None, None])  # (B, C) -> (B, C, 1, 1), a map of one pixel
        return Maps(values["lesion"], [], values.get("classes"))

    @property
    def feature_layer(self) -> nn.Module:
        """See models.networks.features."""
        return self.bottleneck

    def features(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, C); no gradient flows."""
        found = self._session.run(["bottleneck"], {"image": np.ascontiguousarray(x.cpu().float().numpy())})
        return torch.from_numpy(found[0]).to(x.device)
