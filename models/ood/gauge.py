"""Whether an input is usual for a package, near the edge of what it was trained on, or far from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.features import recorded_features
from models.ood.block import Ood
from models.ood.inputs import unusual
from models.ood.statistics import FeatureStatistics, Floats, StatisticsError, read_statistics
from models.package import REINSTALL, Package, PackageError
from models.volume import Volume

Standing = Literal["usual", "near", "far"]


@dataclass(frozen=True)
class Likeness:
    """How like the training cases an input is.

    Parameters
    ----------
    distance : of its features, 1 for a typical case
    limit : the one that decides: `far` where it is passed, else `near`
    unusual : a clause for each quantity of the input outside its range
    is_refused : far, and the package wants such an input not to be analysed
    """

    standing: Standing
    distance: float
    limit: float
    unusual: tuple[str, ...]
    is_refused: bool

    @property
    def sentence(self) -> str:
        """What a reader should see; empty for a usual input."""
        if self.standing == "usual":
            return ""
        parts = list(self.unusual)
        if self.distance > self.limit:
            parts.insert(
                0, f"{self.distance:.1f} times as far from them as a typical one, limit {self.limit:.1f}"
            )
        return f"Unlike the cases the model was trained on ({'; '.join(parts)}): read with caution."


class Gauge:
    """A package's block and its statistics, ready to judge."""

    def __init__(self, block: Ood, statistics: FeatureStatistics) -> None:
        self.block, self.statistics = block, statistics

    def judge(self, volume: Volume, vector: Floats) -> Likeness:
        """An input by its volume and its features (c,).

        Raises
        ------
        PackageError
            The statistics are of another network.
        """
        if vector.shape != self.statistics.mean.shape:
            raise PackageError(
                f"the network gives {len(vector)} features, the statistics know {self.block.features}",
                where=self.block.file,
                remedy="Make the block again: preread models ood.",
            )
        distance = float(self.statistics.distance(vector[None])[0])
        limits, clauses = self.block.limits, unusual(volume, self.block.inputs)
        # Not "below the limit": a distance that is no number is far.
        if not distance <= limits.far:
            return Likeness("far", distance, limits.far, clauses, self.block.action.far == "refuse")
        standing: Standing = "near" if distance > limits.near or clauses else "usual"
        return Likeness(standing, distance, limits.near, clauses, False)


def read_gauge(package: Package) -> Gauge | None:
    """The gauge of a package; None where it has no block.

    Raises
    ------
    PackageError
        Statistics that cannot be used.
    """
    block = package.manifest.ood
    if block is None:
        return None
    path = package.path("ood")
    try:
        return Gauge(block, read_statistics(path, block))
    except StatisticsError as error:
        raise PackageError(f"statistics of features: {error}", where=str(path), remedy=REINSTALL) from error


@contextmanager
def watched(network: nn.Module, gauge: Gauge | None) -> Iterator[list[Tensor]]:
    """Inside the block the features of every forward pass are kept, where a gauge wants them."""
    if gauge is None:
        yield []
        return
    with recorded_features(network) as found:
        yield found


def case_vector(found: Sequence[Tensor]) -> Floats:
    """Mean over slices, windows and mirror images, in double precision: [(N, C), ...] -> (C,)."""
    return np.asarray(torch.cat(list(found)).double().mean(0).cpu().numpy())
