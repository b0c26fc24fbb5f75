"""A network of heads at work on named structures: volume in, one label for each voxel out, cleaned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.inference.structures import structures_on_grid
from models.inference.wanted import Wanted
from models.inference.windows_run import Network
from models.manifest import Manifest
from models.networks.registry import CanvasNetworkSpec
from models.resample import FloatArray
from models.steps import Argmax, Threshold
from models.structure_labels import OutlinedStructures, cleaned, mean_probabilities
from models.volume import Volume

VOXELS_SHARE = 0.01  # by which a structure of the golden case may differ, where rounding decides; or
VOXELS_FEW = 5


@dataclass(frozen=True, eq=False)
class StructurePrediction:
    """Structures of a volume; arrays are (slices, rows, columns) of the source.

    Parameters
    ----------
    decided : probability of the structure that the network gave each voxel to; 0 where it was none
    maps : (structures, slices, rows, columns) probability of each; None where they were not asked for
    """

    structures: OutlinedStructures
    decided: FloatArray
    maps: FloatArray | None


def predict_structures(
    volume: Volume, manifest: Manifest, network: Network, device: torch.device, *, with_maps: bool = False
) -> StructurePrediction:
    """Outline the structures of a volume.

    Parameters
    ----------
    manifest : of a package of structures
    with_maps : four bytes for each voxel and structure

    Raises
    ------
    PreprocessError, TooLarge
        As `models.inference.structures.structures_on_grid`.
    """
    assert manifest.grid is not None, "the manifest's own check: structures have a grid"
    assert not isinstance(manifest.network, CanvasNetworkSpec), "the same check"
    heads_of = tuple(segment.heads for segment in manifest.findings.segments)
    count = len(heads_of)
    first, *others = manifest.postprocess
    assert isinstance(first, Argmax | Threshold), "the same check"
    found = structures_on_grid(
        volume,
        manifest.grid,
        network,
        Wanted(
            manifest.network.heads,
            manifest.grid.tiling.activation,
            heads_of,
            maps=tuple(range(1, count + 1)) if with_maps else (),
            threshold=first.probability if isinstance(first, Threshold) else 0.5,
            decided=True,
        ),
        batch=manifest.inference.batch,
        device=device,
        bytes_per_window_voxel=manifest.runtime.memory.per_canvas_pixel,
    )
    assert found.labels is not None, "asked for"
    assert found.decided is not None, "asked for"
    labels = cleaned(found.labels.astype(np.uint16), others, count=count, voxel_ml=volume.voxel_ml)
    scores = mean_probabilities(labels, found.decided, count=count)
    maps = np.stack([found.probabilities[number] for number in range(1, count + 1)]) if with_maps else None
    return StructurePrediction(OutlinedStructures(labels, scores), found.decided, maps)


def other_sizes(found: tuple[int, ...], expected: tuple[int, ...]) -> list[str]:
    """Which structures have another size than expected, in words; a few voxels are rounding."""
    return [
        f"segment {number} has {got} voxels instead of {wanted}"
        for number, (got, wanted) in enumerate(zip(found, expected, strict=True), start=1)
        if abs(got - wanted) > max(VOXELS_FEW, VOXELS_SHARE * wanted)
    ]
