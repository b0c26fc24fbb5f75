"""A sorter at work: slices in, answers out. Milliseconds on a CPU, so it stays there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.building import build_own_network, in_channels_last
from models.package import REINSTALL, PackageError
from models.predictor import weights_in
from models.sorting.answers import Probabilities, SeriesAnswers, answer_all, probabilities_of
from models.sorting.package import SorterPackage
from models.sorting.slices import Plane, canvases_of, chosen_slices, network_input


@dataclass(frozen=True)
class SorterGoldenReport:
    """How this machine did on the golden slices."""

    passed: bool
    difference: float  # largest, of all probabilities
    message: str


class Sorter:
    """A loaded sorter.

    Raises
    ------
    PackageError
        The weights are not those of the declared network.
    """

    def __init__(self, package: SorterPackage) -> None:
        self.package = package
        self.network = build_own_network(package.manifest.network)
        weights = weights_in(package.path("weights"), package.manifest.network.registry, self.network)
        self.network.load_state_dict(weights)
        in_channels_last(self.network)
        self.network.eval()

    def wanted(self, count: int) -> list[int]:
        """Indices of the slices that `sort` is to be given, of a series of `count`."""
        return chosen_slices(count, self.package.manifest.input.positions)

    def sort(self, planes: Sequence[Plane]) -> SeriesAnswers:
        """What the series shows; the same slices give the same answers on the same CPU.

        Parameters
        ----------
        planes : the wanted slices, (rows, columns) each, bright is bright; sizes may differ
        """
        manifest = self.package.manifest
        probabilities = self.probabilities(canvases_of(planes, manifest.input))
        pixels = min((max(plane.shape) for plane in planes), default=0)
        return SeriesAnswers(self.package.name, answer_all(manifest.questions, probabilities, pixels))

    def probabilities(self, canvases: NDArray[np.float32]) -> dict[str, Probabilities]:
        """Of each question, for slices that are on the canvas already, (k, side, side)."""
        if not len(canvases):
            return {}
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(network_input(canvases))).double().numpy()
        return probabilities_of(self.package.manifest.questions, logits)

    def verify_golden(self) -> SorterGoldenReport:
        """Answer about the package's generated slices and compare with what the package says comes out."""
        golden = self.package.manifest.golden
        planes, expected = read_golden(self.package)
        names = [question.name for question in self.package.manifest.questions]
        said: list[tuple[str, str]] = []
        difference = 0.0
        for plane, row in zip(planes, expected, strict=True):
            found = self.probabilities(canvases_of([plane], self.package.manifest.input))
            flat = np.concatenate([found[name] for name in names])
            difference = max(difference, float(np.abs(flat - row).max()))
            said += [(one.question, one.name) for one in self.sort([plane]).given]
        faults = []
        if not difference <= golden.tolerance:
            faults.append(f"probabilities differ by up to {difference:.4f}")
        if tuple(said) != golden.answers:
            faults.append("other answers than the package declares")
        return SorterGoldenReport(not faults, difference, "; ".join(faults) or "as expected")


def read_golden(package: SorterPackage) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Golden images (cases, rows, columns) and their probabilities (cases, all outputs)."""
    try:
        with np.load(package.path("golden_in"), allow_pickle=False) as stored:
            planes = stored["planes"]
        with np.load(package.path("golden_out"), allow_pickle=False) as stored:
            expected = stored["probabilities"].astype(np.float64)
    except (ValueError, KeyError, OSError) as error:
        raise PackageError(
            f"golden case is not readable: {error}", where=str(package.folder), remedy=REINSTALL
        ) from error
    if planes.ndim != 3 or expected.shape != (len(planes), package.manifest.network.classes):
        raise PackageError(
            f"golden case has the shapes {planes.shape} and {expected.shape}",
            where=str(package.folder),
            remedy=REINSTALL,
        )
    return planes, expected
