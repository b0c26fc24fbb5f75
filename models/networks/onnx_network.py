"""An ONNX graph as a network: run by onnxruntime on the CPU, after its operators were checked again."""

from __future__ import annotations

from pathlib import Path

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
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise PrereadError(
                f"onnxruntime does not take the graph: {str(error).splitlines()[0][:200]}",
                where=path.name,
                remedy="Export it again; onnx.checker.check_model says more.",
            ) from error
        self._spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """One batch."""
        single = self._spec.one_at_a_time
        groups = [x[index : index + 1] for index in range(len(x))] if single else [x]
        found = [
            torch.from_numpy(
                self._session.run(
                    [self._spec.output], {self._spec.input: group.contiguous().cpu().float().numpy()}
                )[0]
            )
            for group in groups
        ]
        return torch.cat(found).to(x.device)
