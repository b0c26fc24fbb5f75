"""A package at work: volume in; probabilities, numbered lesions or structures and class scores out, on the
source grid.

The weights are compared with the declared network, name by name and shape by shape, before anything runs. The
golden case of the package shows that this machine computes what the package's maker computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.calibration import calibrated
from models.detection_prediction import DetectedBoxes, other_detections, predict_detections
from models.explanation.attention import Attention
from models.inference.batches import Batches, fitting_batch
from models.inference.layout import LaidOut, Layout
from models.inference.structures import lesion_on_grid
from models.memory import TooLarge, free_bytes
from models.networks.building import build_declared
from models.networks.onnx_canvas import OnnxCanvasNetwork
from models.networks.onnx_network import onnx_network
from models.networks.registry import OnnxCanvasSpec, OnnxSpec
from models.ood.gauge import Likeness, case_vector, read_gauge, watched
from models.package import REINSTALL, Package, PackageError
from models.postprocess import Labels, chosen_class, postprocess
from models.preprocess import network_input, prepare
from models.resample import FloatArray
from models.structure_prediction import other_sizes, predict_structures
from models.uncertainty.agreement import heard
from models.uncertainty.words import sentences
from models.volume import Volume

HEADER_BYTES_MAX = 8 << 20


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one volume; arrays are (slices, rows, columns) of the source.

    Parameters
    ----------
    probability : of lesion, or of the structure that the voxel was given to, before any post-processing
    labels : 0 background, 1 .. n one connected lesion each, the largest first; of a package of structures the
    number of the segment, and not each must occur
    lesion_scores : mean probability of each lesion; empty for structures
    class_scores : by class name, summing to 1, calibrated where the package says how; None for a model
    without classes
    class_name : the likeliest class, or what the package's image gate says
    notes : sentences a reader should see
    structure_scores : mean probability of each structure by its number, None of one that was not found; None
    for a package of lesions
    attention : the heat map of the class, where it was asked for and the package's passed its tests
    likeness : to the training cases; None where the package does not know them
    detected : boxes of a detector; its lesions are ellipsoids in them, the surest first, with their scores.
    None for other packages
    """

    probability: FloatArray
    labels: Labels
    lesion_scores: tuple[float, ...]
    class_scores: dict[str, float] | None
    class_name: str | None
    notes: tuple[str, ...]
    structure_scores: tuple[float | None, ...] | None = None
    attention: Attention | None = None
    likeness: Likeness | None = None
    detected: DetectedBoxes | None = None


@dataclass(frozen=True)
class GoldenReport:
    """How this machine did on the golden case."""

    passed: bool
    probability_difference: float  # largest, over all voxels
    class_difference: float
    lesions: int  # or structures
    class_name: str | None
    message: str


class Predictor:
    """A loaded network.

    Parameters
    ----------
    package : a checked package
    device : auto takes a GPU when there is one
    threads : of torch, for the whole process; None leaves torch's own choice

    Raises
    ------
    PackageError
        The weights are not those of the declared network.
    """

    def __init__(
        self, package: Package, *, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int | None = None
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if name not in package.manifest.runtime.devices:
            raise PackageError(
                f"does not run on {name}", where=package.manifest.id, remedy="Set device to cpu."
            )
        self.package = package
        self.device = torch.device(name)
        self.network = load_network(package).to(self.device)
        # 2D convolutions are faster so nearly everywhere; models.inference.tuning measures it.
        self.use(Layout(channels_last=any(one.dim() == 4 for one in self.network.parameters())))
        self.gauge = read_gauge(package)

    def use(self, layout: Layout) -> None:
        """Compute in this layout from now on."""
        self._laid_out = LaidOut(self.network, layout)

    @property
    def weight_bytes(self) -> int:
        """Bytes the network takes: of its weights, or of its file where another library holds them."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        held = sum(one.numel() * one.element_size() for one in tensors)
        return max(held, self.package.manifest.file("weights").bytes)

    @property
    def layout(self) -> Layout:
        """What it computes in."""
        return self._laid_out.layout

    def predict(self, volume: Volume) -> Prediction:
        """Read one volume. The same volume gives the same answer on the same CPU.

        Raises
        ------
        PreprocessError
            The volume cannot be brought to the network: no tissue, no spacing, too wide.
        TooLarge
            It would not fit into memory.
        """
        manifest = self.package.manifest
        self._check_source_memory(volume)
        if manifest.findings.kind == "structures":
            return self._predict_structures(volume)
        if manifest.task.kind == "detect":
            return self._predict_detections(volume)
        with (
            watched(self.network, self.gauge) as features,
            heard(self.network, manifest.uncertainty) as flips,
        ):
            probability, class_probabilities = self._maps(volume)
        likeness = self.gauge.judge(volume, case_vector(features)) if self.gauge else None
        scores: dict[str, float] | None = None
        if class_probabilities is not None:
            scores = {
                item.name: float(value)
                for item, value in zip(manifest.findings.classes, class_probabilities, strict=True)
            }
        lesions = postprocess(
            probability, manifest.postprocess, voxel_ml=volume.voxel_ml, class_scores=scores
        )
        notes = list(lesions.notes)
        name = chosen_class(scores, manifest.postprocess) if scores is not None else None
        if name is not None and not lesions.labels.any() and not self._is_negative(name):
            notes.append(f"The image is classed {name}, but no outline reached the threshold.")
        notes.extend(sentences(manifest.uncertainty, flips.value, lesions.labels, volume.voxel_ml))
        if scores is not None:
            scores = calibrated(scores, manifest.calibration)
        if likeness is not None and likeness.sentence:
            notes.append(likeness.sentence)
        return Prediction(
            probability, lesions.labels, lesions.scores, scores, name, tuple(notes), likeness=likeness
        )

    def _predict_structures(self, volume: Volume) -> Prediction:
        with watched(self.network, self.gauge) as features:
            found = predict_structures(volume, self.package.manifest, self._laid_out, self.device)
        likeness = self.gauge.judge(volume, case_vector(features)) if self.gauge else None
        return Prediction(
            found.decided,
            found.structures.labels,
            (),
            None,
            None,
            (likeness.sentence,) if likeness is not None and likeness.sentence else (),
            structure_scores=found.structures.scores,
            likeness=likeness,
        )

    def structure_maps(self, volume: Volume) -> tuple[FloatArray, tuple[int, ...]]:
        """Probability (structures, slices, rows, columns) of each structure, and its voxels when outlined.

        Raises
        ------
        PreprocessError, TooLarge
            As `predict`.
        """
        self._check_source_memory(volume)
        manifest = self.package.manifest
        found = predict_structures(volume, manifest, self._laid_out, self.device, with_maps=True)
        assert found.maps is not None, "asked for"
        return found.maps, found.structures.voxels

    def _predict_detections(self, volume: Volume) -> Prediction:
        with watched(self.network, self.gauge) as features:
            found = predict_detections(volume, self.package.manifest, self._laid_out, self.device)
        likeness = self.gauge.judge(volume, case_vector(features)) if self.gauge else None
        told = (likeness.sentence,) if likeness is not None and likeness.sentence else ()
        return Prediction(
            found.score_map,
            found.labels,
            found.detected.lesion_scores,
            None,
            None,
            (*found.notes, *told),
            likeness=likeness,
            detected=found.detected,
        )

    def verify_golden(self) -> GoldenReport:
        """Predict the package's generated case and compare with what the package says comes out."""
        golden = self.package.manifest.golden
        if self.package.manifest.task.kind == "detect":
            return self._verify_detections()
        volume, probability, class_scores = read_golden(self.package)
        if self.package.manifest.findings.kind == "structures":
            return self._verify_structures(volume, probability)
        found = self.predict(volume)
        difference = float(np.abs(found.probability - probability).max())
        class_difference = max(
            (abs(score - class_scores[name]) for name, score in (found.class_scores or {}).items()),
            default=0.0,
        )
        lesions = int(found.labels.max())
        faults = []
        if difference > golden.probability_tolerance:
            faults.append(f"probabilities differ by up to {difference:.4f}")
        if class_difference > golden.class_tolerance:
            faults.append(f"class scores differ by up to {class_difference:.4f}")
        if lesions != golden.lesions:
            faults.append(f"{lesions} lesions instead of {golden.lesions}")
        if found.class_name != golden.class_name:
            faults.append(f"class {found.class_name} instead of {golden.class_name}")
        message = "as expected" if not faults else "; ".join(faults)
        return GoldenReport(not faults, difference, class_difference, lesions, found.class_name, message)

    def _verify_structures(self, volume: Volume, expected: FloatArray) -> GoldenReport:
        """`expected` (structures, slices, rows, columns)."""
        manifest = self.package.manifest
        maps, voxels = self.structure_maps(volume)
        faults, difference = other_sizes(voxels, manifest.golden.structure_voxels), 1.0
        if maps.shape != expected.shape:
            faults.append(f"maps of {maps.shape} instead of {expected.shape}")
        else:
            difference = float(np.abs(maps - expected).max())
            if difference > manifest.golden.probability_tolerance:
                faults.append(f"probabilities differ by up to {difference:.4f}")
        outlined = sum(count > 0 for count in voxels)
        return GoldenReport(not faults, difference, 0.0, outlined, None, "; ".join(faults) or "as expected")

    def _verify_detections(self) -> GoldenReport:
        golden = self.package.manifest.golden
        found = self.predict(golden_volume(read_golden_arrays(self.package)))
        assert found.detected is not None, "the manifest's own check: this is a detector"
        faults, difference = other_detections(
            found.detected, read_golden_boxes(self.package), score_tolerance=golden.probability_tolerance
        )
        lesions = len(found.detected.drawn)
        if lesions != golden.lesions:
            faults.append(f"{lesions} lesions instead of {golden.lesions}")
        return GoldenReport(not faults, difference, 0.0, lesions, None, "; ".join(faults) or "as expected")

    def _maps(self, volume: Volume) -> tuple[FloatArray, NDArray[np.float64] | None]:
        """Lesion probability on the source grid, and class probabilities where the network has classes."""
        manifest = self.package.manifest
        if manifest.grid is not None:
            return lesion_on_grid(volume, manifest, self._laid_out, self.device), None
        prepared = prepare(volume, manifest.preprocess)
        stacked = network_input(prepared.image, manifest.preprocess)
        maps, class_probabilities = self._run(stacked, self._canvas_batch(stacked))
        # Resampling leaves rounding beyond 0 and 1.
        return np.clip(prepared.to_source(maps), 0, 1), class_probabilities

    def _run(self, stacked: FloatArray, batch: int) -> tuple[FloatArray, NDArray[np.float64] | None]:
        """Lesion probabilities (n, H, W), and class probabilities averaged over the slices."""
        maps = np.empty((len(stacked), *stacked.shape[2:]), np.float32)
        classes: list[NDArray[np.float64]] = []

        def compute(part: slice) -> tuple[Tensor, Tensor | None]:
            with torch.inference_mode():
                return self._with_mirror(torch.from_numpy(stacked[part]).to(self.device))

        for part, (lesion, scores) in Batches(batch, self.device).run(len(stacked), compute):
            maps[part] = lesion[:, 0].cpu().numpy()
            if scores is not None:
                classes.append(scores.double().cpu().numpy())
        return maps, np.concatenate(classes).mean(0) if classes else None

    def _with_mirror(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        lesion, scores = self._forward(batch)
        if self.package.manifest.inference.flip:
            mirrored, mirrored_scores = self._forward(batch.flip(3))
            lesion = (lesion + mirrored.flip(3)) / 2
            if scores is not None and mirrored_scores is not None:
                scores = (scores + mirrored_scores) / 2
        return lesion, scores

    def _forward(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self._laid_out(batch)
        scores = None if maps.classes is None else torch.softmax(maps.classes.float(), 1)
        return torch.sigmoid(maps.lesion.float()), scores

    def _is_negative(self, class_name: str) -> bool:
        return any(
            item.negative for item in self.package.manifest.findings.classes if item.name == class_name
        )

    def _check_source_memory(self, volume: Volume) -> None:
        memory = self.package.manifest.runtime.memory
        need = memory.base + memory.per_voxel * volume.array.size
        have = free_bytes(torch.device("cpu"))
        if need > have:
            raise TooLarge(need, have)

    def _canvas_batch(self, stacked: FloatArray) -> int:
        """Slices at a time: as many as the package says, fewer where they would not fit."""
        manifest = self.package.manifest
        need = manifest.runtime.memory.per_canvas_pixel * stacked.shape[2] * stacked.shape[3]
        return fitting_batch(min(len(stacked), manifest.inference.batch), need, free_bytes(self.device))


def load_network(package: Package) -> nn.Module:
    """The declared network with the package's weights, ready to predict.

    Raises
    ------
    PrereadError
        The weights are not those of the declared network, or what runs it is not installed.
    """
    spec = package.manifest.network
    if isinstance(spec, OnnxSpec):
        return onnx_network(package.path("weights"), spec).eval()
    if isinstance(spec, OnnxCanvasSpec):
        return OnnxCanvasNetwork(package.path("weights"), spec).eval()
    network = build_declared(spec)
    network.load_state_dict(read_weights(package, network))
    return network.eval()


def read_weights(package: Package, network: nn.Module) -> dict[str, Tensor]:
    """The package's weights, see `weights_in`."""
    return weights_in(package.path("weights"), package.manifest.network.registry, network)


def weights_in(path: Path, registry: str, network: nn.Module) -> dict[str, Tensor]:
    """Weights as float32, after names, shapes and kinds of numbers were compared with the network.

    Stored halves are widened: the CPU computes in float32.
    """
    expected = network.state_dict()
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
    if header_bytes > HEADER_BYTES_MAX:
        raise PackageError(f"weights header of {header_bytes} bytes", where=str(path), remedy=REINSTALL)
    try:
        with safe_open(path, "pt") as stored:
            names = set(stored.keys())
            if names != set(expected):
                wrong = sorted(names ^ set(expected))[0]
                raise PackageError(
                    f"weights and network {registry} differ, first at {wrong}",
                    where=str(path),
                    remedy=REINSTALL,
                )
            tensors: dict[str, Tensor] = {}
            for name, value in expected.items():
                shape, kind = list(stored.get_slice(name).get_shape()), stored.get_slice(name).get_dtype()
                if shape != list(value.shape) or kind not in ("F16", "BF16", "F32", "I64"):
                    raise PackageError(
                        f"{name} is {kind} {shape}, the network needs {list(value.shape)}",
                        where=str(path),
                        remedy=REINSTALL,
                    )
                tensors[name] = stored.get_tensor(name).to(value.dtype)
    except SafetensorError as error:
        raise PackageError(f"weights are not readable: {error}", where=str(path), remedy=REINSTALL) from error
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise PackageError("weights hold values that are not finite", where=str(path), remedy=REINSTALL)
    return tensors


def read_golden(package: Package) -> tuple[Volume, FloatArray, dict[str, float]]:
    """The golden case: volume, expected probability map (of structures, one for each), class scores."""
    arrays = read_golden_arrays(package)
    try:
        with np.load(package.path("golden_out"), allow_pickle=False) as stored:
            probability = stored["probability"].astype(np.float32)
            scores = (
                [float(value) for value in stored["class_scores"]] if "class_scores" in stored.files else []
            )
    except (ValueError, KeyError, OSError) as error:
        raise PackageError(
            f"golden case is not readable: {error}", where=str(package.folder), remedy=REINSTALL
        ) from error
    names = [item.name for item in package.manifest.findings.classes]
    return golden_volume(arrays), probability, dict(zip(names, scores, strict=True))


def read_golden_boxes(package: Package) -> DetectedBoxes:
    """What a detector must find in its golden case: the boxes that are drawn."""
    try:
        with np.load(package.path("golden_out"), allow_pickle=False) as stored:
            boxes, scores = stored["boxes"].astype(np.float64), stored["scores"].astype(np.float64)
    except (ValueError, KeyError, OSError) as error:
        raise PackageError(
            f"golden case is not readable: {error}", where=str(package.folder), remedy=REINSTALL
        ) from error
    return DetectedBoxes(boxes, scores, tuple(range(len(boxes))))


def read_golden_arrays(package: Package) -> dict[str, NDArray[Any]]:
    """The input of the golden case, see `golden_volume`."""
    try:
        with np.load(package.path("golden_in"), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, KeyError, OSError) as error:
        raise PackageError(
            f"golden case is not readable: {error}", where=str(package.folder), remedy=REINSTALL
        ) from error


def golden_volume(arrays: dict[str, NDArray[Any]]) -> Volume:
    """A Volume from the arrays of a golden input: image, and affine and spacings where it has them."""
    spacing = arrays.get("pixel_spacing_mm")
    slice_spacing = arrays.get("slice_spacing_mm")
    return Volume(
        arrays["image"],
        arrays.get("affine"),
        None if spacing is None else (float(spacing[0]), float(spacing[1])),
        None if slice_spacing is None else float(slice_spacing),
    )
