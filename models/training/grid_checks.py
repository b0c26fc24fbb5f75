"""PURE: whether network, grid, findings and objective of a recipe fit each other."""

from __future__ import annotations

from models.grid_steps import Grid
from models.networks.own_specs import CenterNetSpec, UNetSpec
from models.networks.registry import MonaiNetworkSpec, NnUNetPlainSpec, NnUNetResEncSpec
from models.training.settings import LesionBoxes, TrainSettings, VoxelLabels

TrainedOnGrid = UNetSpec | NnUNetPlainSpec | NnUNetResEncSpec | MonaiNetworkSpec | CenterNetSpec


def check_grid(network: TrainedOnGrid, grid: Grid, learning: TrainSettings, structures: int) -> None:
    """Refuse what could not be trained, or would be trained to another end than it is used for.

    Parameters
    ----------
    structures : that have a label of their own; 0: lesions

    Raises
    ------
    ValueError
        With the place, the reason and the remedy.
    """
    objective = learning.objective
    if isinstance(network, CenterNetSpec):
        _check_detector(network, grid, learning, structures)
        return
    if not isinstance(objective, VoxelLabels):
        raise ValueError(
            f"learning.objective: {network.registry} learns voxel_labels. Correct learning.objective.learns."
        )
    tiling, heads = grid.tiling, 1 + max(structures, 1)
    if network.heads != heads or tiling.activation != "softmax":
        raise ValueError(
            f"network.heads must be {heads}, background first, and grid.tiling.activation softmax; they are "
            f"{network.heads} and {tiling.activation}. Correct them."
        )
    lesion_heads = () if structures else (1,)
    if tiling.lesion_heads != lesion_heads:
        raise ValueError(
            f"grid.tiling.lesion_heads must be {list(lesion_heads)}, it is {list(tiling.lesion_heads)}. "
            "Correct it."
        )
    _check_sizes(network, objective.patch, tiling.window)


def _check_detector(network: CenterNetSpec, grid: Grid, learning: TrainSettings, structures: int) -> None:
    objective = learning.objective
    if not isinstance(objective, LesionBoxes) or structures:
        raise ValueError(
            f"learning.objective: {network.registry} learns lesion_boxes, and finds lesions. Correct "
            "learning.objective.learns and findings.kind."
        )
    tiling = grid.tiling
    if network.dimensions != 3 or network.classes != 1 or tiling.activation != "sigmoid":
        raise ValueError(
            f"network: {network.registry} in a package finds one class in 3 dimensions, and "
            "grid.tiling.activation is sigmoid. Correct them."
        )
    _check_sizes(network, objective.patch, tiling.window)


def _check_sizes(network: TrainedOnGrid, patch: tuple[int, ...], window: tuple[int, ...]) -> None:
    for name, sizes in (("learning.objective.patch", patch), ("grid.tiling.window", window)):
        if len(sizes) != network.dimensions:
            raise ValueError(
                f"{name} has {len(sizes)} sizes, network.dimensions is {network.dimensions}. Correct one."
            )
        if any(size % step for size, step in zip(sizes, network.divisors, strict=True)):
            raise ValueError(
                f"{name} {list(sizes)} must be multiples of {list(network.divisors)}, by which the network "
                "divides its maps. Correct it."
            )
