"""From a package and its labelled cases to the same package with a block `ood`.

The features are recorded while the package predicts as it always does, so what is fitted is what will be
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.amending import amend_package
from models.networks.features import recorded_features
from models.ood.block import InputName, Ood, OodAction, OodLimits
from models.ood.fitting import cross_fitted_distances, fit_statistics, limits_of
from models.ood.gauge import Gauge, case_vector
from models.ood.inputs import described, ranges_of
from models.ood.statistics import FeatureStatistics, Floats, to_bytes
from models.package import Package
from models.predictor import Predictor
from models.preprocess import PreprocessError
from models.training.cases import Case
from models.training.package_cases import PackageCases, package_cases
from models.volume import Volume

FILE = "ood.safetensors"
HEADING = "Inputs unlike the training cases"


@dataclass(frozen=True, eq=False)
class CaseFeatures:
    """What is known of n cases: vectors (n, c) and the rest (n,)."""

    vectors: Floats
    folds: NDArray[np.int64]
    is_unseen: NDArray[np.bool_]
    is_real: NDArray[np.bool_]
    inputs: Sequence[dict[InputName, float]]


@dataclass(frozen=True, eq=False)
class OodMade:
    """A block, its statistics, and the distances its limits were read from.

    Parameters
    ----------
    distances : (n,) cross-fitted, of the real cases
    is_unseen : (n,) which of them the network was not trained on
    """

    block: Ood
    statistics: FeatureStatistics
    distances: Floats
    is_unseen: NDArray[np.bool_]

    @property
    def gauge(self) -> Gauge:
        """Ready to judge."""
        return Gauge(self.block, self.statistics)

    def flagged(self, limit: float, *, unseen: bool) -> float:
        """Share of the cross-fitted cases beyond a limit: of the unseen ones, or of all."""
        part = self.distances[self.is_unseen] if unseen else self.distances
        return float((part > limit).mean()) if len(part) else 0.0


def features_of(predictor: Predictor, volume: Volume) -> Floats:
    """(c,) mean features of a volume, as the worker gets them.

    Raises
    ------
    PreprocessError, TooLarge
        As `Predictor.predict`.
    PrereadError
        The network has no bottleneck that can be read.
    """
    with recorded_features(predictor.network) as found:
        predictor.predict(volume)
    return case_vector(found)


def collect(
    predictor: Predictor, cases: PackageCases, progress: Callable[[int, int], None] | None = None
) -> CaseFeatures:
    """Features and input quantities of every case that the package can read."""
    vectors: list[Floats] = []
    inputs: list[dict[InputName, float]] = []
    folds: list[int] = []
    unseen: list[bool] = []
    real: list[bool] = []
    for done, placed in enumerate(cases.placed):
        try:
            vectors.append(features_of(predictor, placed.case.volume))
        except PreprocessError:
            continue  # It is refused anyway.
        folds.append(placed.fold)
        unseen.append(placed.is_unseen)
        real.append(not placed.case.is_simulated or placed.is_unseen)
        inputs.append(described(placed.case.volume))
        if progress is not None:
            progress(done + 1, cases.count)
    return CaseFeatures(np.array(vectors), np.array(folds), np.array(unseen), np.array(real), inputs)


def make_ood(found: CaseFeatures, *, split_sha256: str | None, far: str = "refuse") -> OodMade:
    """Block and statistics from the features of cases.

    Generated cases take part in the statistics, but say nothing of how far a real case may lie.

    Raises
    ------
    TooFewCases
        The cases do not say what is usual.
    """
    statistics, shrinkage = fit_statistics(found.vectors)
    distances = cross_fitted_distances(found.vectors, found.folds)
    real = found.is_real
    typical = float(np.median(distances[real]))
    statistics, distances = statistics.in_units_of(typical), distances / typical
    limits = limits_of(distances[real], found.is_unseen[real])
    block = Ood(
        layer="bottleneck",
        file=FILE,
        features=found.vectors.shape[1],
        components=len(statistics.axes),
        shrinkage=round(shrinkage, 6),
        limits=OodLimits(near=round(limits.near, 4), far=round(limits.far + 1e-4, 4)),
        inputs=ranges_of(found.inputs),
        action=OodAction(near="flag", far="flag" if far == "flag" else "refuse"),
        n=int(real.sum()),
        n_generated=int((~real).sum()),
        n_unseen=int(found.is_unseen[real].sum()),
        split_sha256=split_sha256,
    )
    return OodMade(block, statistics, distances[real], found.is_unseen[real])


def add_ood(
    package: Package,
    data_folder: Path,
    out: Path,
    *,
    version: str | None,
    released: str,
    generated: Sequence[Case] = (),
    far: str = "refuse",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Package, OodMade]:
    """Make the block and write the package with it into `out`, which may be its own folder.

    Raises
    ------
    CasesError, SplitError, TooFewCases
        The data folder is not the package's, or holds too few cases.
    PrereadError
        The network has no features.
    """
    cases = package_cases(package, data_folder, generated)
    found = collect(Predictor(package, device="cpu"), cases, progress)
    made = make_ood(found, split_sha256=cases.split_sha256, far=far)
    written = amend_package(
        package,
        out,
        version=version,
        released=released,
        blocks={"ood": made.block},
        files={FILE: ("ood", to_bytes(made.statistics))},
        section=(HEADING, card_lines(made)),
        answers_change=False,
    )
    return written, made


def card_lines(made: OodMade) -> list[str]:
    """What the card says of it."""
    block = made.block
    told = {"refuse": "is not analysed", "flag": "is flagged"}[block.action.far]
    lines = [
        f"The features of an input are compared with those of {block.n} real"
        + (f" and {block.n_generated} generated" if block.n_generated else "")
        + f" cases ({block.features} pooled bottleneck features, {block.components} principal components, "
        f"Mahalanobis distance with Ledoit-Wolf shrinkage {block.shrinkage:.3f}; 1 is a typical case).",
        "",
        "| distance | an input beyond it | real cases beyond it, statistics fitted without their fold |",
        "|---|---|---|",
    ]
    for limit, what in ((block.limits.near, "is flagged"), (block.limits.far, told)):
        lines.append(f"| {limit:.2f} | {what} | {100 * made.flagged(limit, unseen=False):.1f} % |")
    if block.n_unseen:
        near, far = (made.flagged(one, unseen=True) for one in (block.limits.near, block.limits.far))
        lines += [
            "",
            f"Of the {block.n_unseen} cases that the network was not trained on, {100 * near:.1f} % lie "
            f"beyond the first limit and {100 * far:.1f} % beyond the second.",
        ]
    if block.inputs:
        names = ", ".join(one.name for one in block.inputs)
        lines += ["", f"An input is flagged, too, where one of these is outside its range: {names}."]
    return lines
