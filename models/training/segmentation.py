"""One label for every voxel, learnt from patches: any network of `models.networks` that works on a grid, 2D
or 3D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from models.evaluation.overlap import dice
from models.evaluation.pictures import outlined
from models.training.grid_augment import changed_appearance, paste_labels
from models.training.losses import label_terms
from models.training.objective import PICTURED, Judgement, ParameterGroup, all_weights
from models.training.patch_set import GridCase, Patches, PatchSet, draw_patches
from models.training.settings import VoxelLabels
from models.training.side_outputs import SideOutputs

PICTURE_PIXELS = 200
OVERLAP = 0.5  # of windows while judging


@dataclass(eq=False)
class VoxelLabelsObjective:
    """Draws patches, a third around a label; learns by Dice and cross-entropy, coarser outputs included.

    network : of `models.networks.building.build_grid_network`, on the device of the data
    inner : whole cases to judge with
    """

    network: nn.Module
    data: PatchSet
    settings: VoxelLabels
    batch: int
    inner: PatchSet | None = None

    def __post_init__(self) -> None:
        """Ask the network for the outputs that are learnt from."""
        self.module: nn.Module = SideOutputs(self.network, len(self.settings.side_weights))
        given = self.settings.label_weights
        self._weights = None if given is None else torch.tensor(given, device=self.data.device)

    def groups(self) -> list[ParameterGroup]:
        """All weights."""
        return all_weights(self.network)

    def draw(self, generator: Generator) -> Patches:
        """Image (B, C, *patch), labels (B, *patch)."""
        patches = draw_patches(
            self.data,
            self.settings.patch,
            self.batch,
            foreground_share=self.settings.foreground_share,
            augment=self.settings.augment,
            generator=generator,
        )
        if self.settings.paste_probability > 0:
            patches = paste_labels(patches, self.settings.paste_probability, generator)
        image = changed_appearance(patches.image, self.settings.augment, generator)
        return patches._replace(image=image)

    def forward(self, module: nn.Module, batch: Patches) -> list[Tensor]:
        """Logits, finest first."""
        outputs: list[Tensor] = module(batch.image)
        return outputs

    def terms(self, outputs: list[Tensor], batch: Patches) -> dict[str, Tensor]:
        """Dice, cross-entropy and total."""
        return label_terms(
            outputs,
            batch.labels,
            side_weights=self.settings.side_weights,
            over=self.settings.dice_over,
            background=self.settings.dice_background,
            weights=self._weights,
            gamma=self.settings.focal_gamma,
        )

    def judge(self, network: nn.Module) -> Judgement | None:
        """Dice of each label, meaned over the cases that have it; the score is the mean over labels."""
        if self.inner is None:
            return None
        by_label: dict[int, list[float]] = {}
        pictures: list[np.typing.NDArray[np.uint8]] = []
        for case in self.inner.cases:
            found = self._labels_of(network, case)
            truth = case.labels.cpu().numpy()
            for label in np.unique(truth[truth > 0]).tolist():
                overlap = dice(found == label, truth == label)
                assert overlap is not None, "the label is in the truth"
                by_label.setdefault(label, []).append(overlap)
            if len(pictures) < PICTURED:
                index = int((truth > 0).reshape(len(truth), -1).sum(1).argmax()) if truth.ndim == 3 else ...
                plane = case.image[0].float().cpu().numpy()[index]
                pictures.append(outlined(plane, found[index] > 0, truth[index] > 0, PICTURE_PIXELS))
        figures = {f"dice_{label}": float(np.mean(values)) for label, values in sorted(by_label.items())}
        score = float(np.mean(list(figures.values()))) if figures else 0.0
        return Judgement(score, {**figures, "dice": score}, pictures)

    def _labels_of(self, network: nn.Module, case: GridCase) -> np.typing.NDArray[np.int64]:
        from monai.inferers.utils import sliding_window_inference

        logits = sliding_window_inference(
            case.image[None].float(), self.settings.patch, self.batch, network, OVERLAP, mode="gaussian"
        )
        assert isinstance(logits, Tensor)
        labels: np.typing.NDArray[np.int64] = logits[0].argmax(0).cpu().numpy()
        return labels
