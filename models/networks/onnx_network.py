"""An ONNX graph as a network: run by onnxruntime on the CPU, after its operators were checked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import PrereadError
from models.networks.registry import OnnxSpec
from models.onnx_graph import read_graph


class OnnxNetwork(nn.Module):
    """(B, channels, *window) -> (B, heads, *window), one window at a time where the graph wants that.

    Raises
    ------
    PrereadError
        onnxruntime is not installed, the graph is not one that is read, or onnxruntime does not take it.
    """

    def __init__(self, path: Path, spec: OnnxSpec) -> None:
        super().__init__()
        self._session = session_of(path)
        self._spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """One batch."""
        return self._outputs(x, [self._spec.output])[0]

    def _outputs(self, x: Tensor, names: list[str]) -> list[Tensor]:
        single = self._spec.one_at_a_time
        groups = [x[index : index + 1] for index in range(len(x))] if single else [x]
        found = [
            self._session.run(names, {self._spec.input: group.contiguous().cpu().float().numpy()})
            for group in groups
        ]
        return [
            torch.cat([torch.from_numpy(one) for one in parts]).to(x.device)
            for parts in zip(*found, strict=True)
        ]


class FeaturedOnnxNetwork(OnnxNetwork):
    """A graph that also gives its pooled bottleneck, see models.networks.features."""

    def __init__(self, path: Path, spec: OnnxSpec) -> None:
        super().__init__(path, spec)
        assert spec.features is not None, "the caller's choice"
        self._features = spec.features
        # A layer of torch to look at: whoever records features sees them pass here.
        self.bottleneck = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """One batch."""
        logits, features = self._outputs(x, [self._spec.output, self._features])
        self.bottleneck(features[..., None, None])  # (B, C) -> (B, C, 1, 1), a map of one pixel
        return logits

    @property
    def feature_layer(self) -> nn.Module:
        """Gives (B, C, 1, 1)."""
        return self.bottleneck

    def features(self, x: Tensor) -> Tensor:
        """(B, channels, *window) -> (B, C); no gradient flows."""
        return self._outputs(x, [self._features])[0]


def onnx_network(path: Path, spec: OnnxSpec) -> OnnxNetwork:
    """The network of a graph, with features where it gives them. Raises as `OnnxNetwork`."""
    return OnnxNetwork(path, spec) if spec.features is None else FeaturedOnnxNetwork(path, spec)


def session_of(path: Path) -> Any:
    """An onnxruntime session of a file, after its operators were checked.

    Raises
    ------
    PrereadError
        As `OnnxNetwork`.
    """
    read_graph(path.read_bytes(), path.name)
    try:
        import onnxruntime
    except ImportError as error:
        raise PrereadError(
            "the model is an ONNX graph, and onnxruntime is not installed",
            where=path.name,
            remedy="Install it into preread's environment: pip install 'preread[onnx]'.",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PrereadError(
            f"onnxruntime does not take the graph: {str(error).splitlines()[0][:200]}",
            where=path.name,
            remedy="Export it again; onnx.checker.check_model says more.",
        ) from error
