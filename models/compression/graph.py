"""A network of the registry as an ONNX graph in floating point, written so that our own list of operators
reads it.

Normalisation is folded into convolutions and whatever is constant is computed once. The pooled bottleneck is
an output beside the answer, so that a package still knows how like its training cases an input is.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from config.errors import PrereadError
from models.networks.features import featured, pooled
from models.networks.unet import Maps
from models.resample import FloatArray

INPUT, FEATURES = "image", "bottleneck"
LESION, CLASSES, LOGITS = "lesion", "classes", "logits"
OPSET: Final = 17


class _Exported(nn.Module):
    """What leaves the graph: the answer's logits, then pooled features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._deepest: list[Tensor] = []
        featured(network).feature_layer.register_forward_hook(
            lambda _module, _inputs, output: self._deepest.append(output)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self._deepest.clear()
        return (*answers(self.network(x)), pooled(self._deepest[-1]))


def answers(output: Any) -> tuple[Tensor, ...]:
    """The logits of a network's output: of the lesion and of classes where there are any, or of all heads."""
    if isinstance(output, Maps):
        return (output.lesion,) if output.classes is None else (output.lesion, output.classes)
    assert isinstance(output, Tensor), "in evaluation"
    return (output,)


def float_graph(network: nn.Module, example: FloatArray, names: Sequence[str], *, fixed_size: bool) -> bytes:
    """The network as a graph with outputs `names`, FEATURES last.

    Parameters
    ----------
    network : in evaluation mode; it gets a hook that stays
    example : (1, channels, *sizes)
    names : LESION and, with classes, CLASSES, or LOGITS
    fixed_size : only the number of images may vary; otherwise their sizes may, too

    Raises
    ------
    PrereadError
        The packages that write graphs are not installed, or the network has something they cannot write.
    """
    _onnx()
    outputs = [*names, FEATURES]
    sizes = {} if fixed_size else {axis: f"size{axis}" for axis in range(2, example.ndim)}
    flat = {CLASSES, FEATURES}
    axes = {name: {0: "n", **({} if name in flat else sizes)} for name in (INPUT, *outputs)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter warns of its age and of sizes that it takes for fixed: they are.
        warnings.simplefilter("ignore")
        path = Path(folder) / "float.onnx"
        try:
            torch.onnx.export(
                _Exported(network).eval(),
                (torch.from_numpy(example),),
                str(path),
                opset_version=OPSET,
                dynamo=False,
                input_names=[INPUT],
                output_names=outputs,
                dynamic_axes=axes,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise PrereadError(
                f"the network cannot be written as a graph: {str(error).splitlines()[0][:200]}",
                remedy="Compress it by bf16, prune or distil.",
            ) from error
        return folded(path)


def folded(path: Path) -> bytes:
    """A graph with its constants computed, by onnxruntime's basic rules: ONNX's own operators stay."""
    onnx, onnxruntime = _onnx()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path.with_suffix(".folded.onnx"))
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(options.optimized_model_filepath)
    # It lists every domain it knows, and our reader refuses all but ONNX's own: none is used.
    own = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(own)
    content: bytes = model.SerializeToString()
    return content


def _onnx() -> tuple[Any, Any]:
    """The two packages, which are extras."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise PrereadError(
            f"{error.name} is not installed", remedy="Install it: pip install 'preread[onnx]'."
        ) from error
    return onnx, onnxruntime
