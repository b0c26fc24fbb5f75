"""A package's network on canvas images, step by step differentiable: stacked, standardised, run, answered.

The canvas image is what preprocessing made of the source: scaled intensities from 0 to `high`. Attacks change
it there; what was before (resampling, scaling) is not attacked.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from config.errors import PrereadError
from models.evaluation.overlap import dice
from models.networks.registry import EffNetLite0UNetSpec
from models.networks.unet import Maps
from models.postprocess import chosen_class, threshold_of
from models.predictor import Predictor
from models.preprocess import neighbour_indices
from models.robustness.answers import Answer
from models.steps import GreyScale, StackSlices, Standardise, Threshold, TissueScale


class CanvasModel:
    """The network of a package behind its canvas.

    Raises
    ------
    PrereadError
        The package has no canvas: its network reads a grid, or is no network that torch can differentiate.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.manifest = predictor.package.manifest
        if not isinstance(self.manifest.network, EffNetLite0UNetSpec):
            raise PrereadError(
                "networks on a grid are not attacked",
                where=self.manifest.id,
                remedy="Measure natural corruptions alone.",
            )
        self._network, self._device = predictor.network, predictor.device
        self.high = next(
            (step.maximum for step in self.manifest.preprocess if isinstance(step, TissueScale)), 1.0
        )
        scales = (GreyScale, TissueScale)
        assert any(isinstance(step, scales) for step in self.manifest.preprocess)

    def tensor(self, image: NDArray[np.float32]) -> Tensor:
        """(n, H, W) on the device of the network."""
        return torch.from_numpy(np.ascontiguousarray(image)).to(self._device)

    def maps(self, image: Tensor) -> Maps:
        """What the network says of canvas slices (n, H, W), before activations."""
        stacked = image[:, None]
        for step in self.manifest.preprocess:
            if isinstance(step, StackSlices):
                indices = torch.from_numpy(neighbour_indices(len(image), step.neighbours))
                stacked = image[indices.to(image.device)]
            elif isinstance(step, Standardise):
                stacked = (stacked - step.mean) / step.deviation
        maps: Maps = self._network(stacked.contiguous(memory_format=torch.channels_last))
        return maps

    def answer(self, image: Tensor, truth: NDArray[np.bool_]) -> Answer:
        """What the package answers on the canvas, its mirror image included where it predicts so.

        The outline is that of its threshold, on the canvas, without the steps that drop small regions; the
        class is that of prediction.

        Parameters
        ----------
        truth : (n, H, W) on the canvas
        """
        with torch.inference_mode():
            maps = self.maps(image)
            lesion, scores = torch.sigmoid(maps.lesion.float()), _chances(maps)
            if self.manifest.inference.flip:
                other = self.maps(image.flip(2))
                lesion = (lesion + torch.sigmoid(other.lesion.float()).flip(3)) / 2
                mirrored = _chances(other)
                if scores is not None and mirrored is not None:
                    scores = (scores + mirrored) / 2
        probability = lesion[:, 0].cpu().numpy()
        step = next(one for one in self.manifest.postprocess if isinstance(one, Threshold))
        found = probability >= threshold_of(probability, step)
        named, name = None, None
        if scores is not None:
            means = scores.mean(0).double().cpu().numpy()
            classes = self.manifest.findings.classes
            named = {item.name: float(means[item.index]) for item in classes}
            name = chosen_class(named, self.manifest.postprocess)
        return Answer(dice(found, truth), name, named)


def _chances(maps: Maps) -> Tensor | None:
    return None if maps.classes is None else torch.softmax(maps.classes.float(), 1)
