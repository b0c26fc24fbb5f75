"""Judge a package on cases its training did not see: figures with intervals, and each case's own.

Runs the shipped file through the same Predictor that the worker uses, post-processing included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import interval, widened
from models.evaluation.case_result import CaseResult, result_of, structures_result
from models.evaluation.classification import accuracy, auc
from models.evaluation.detection_figures import JudgedBoxes, detection_rows, judged_boxes
from models.evaluation.figures import FigureMaker
from models.evaluation.overlap import mean_of_known
from models.evaluation.scales import Scale, scale_in
from models.evaluation.structure_metrics import VOLUME_BIAS, read_metric
from models.evaluation.structures import structure_figures
from models.manifest import Manifest
from models.package import Package
from models.predictor import Predictor
from models.training.cases import Case, DataKind, Listed
from models.training.judged_on import CasesIn, JudgedOn
from models.training.split import Split, axilla_images

# scored: fold 0, which the shipped file never saw. frozen: the small part of it that is checked on every
# change. out-of-fold: all cases, each judged by the network of the same recipe that did not see its fold.
# naive: fold 0 of a split that ignores groups, judged by a network of its own, to be set beside the others.
Subset = Literal["scored", "frozen", "out-of-fold", "naive"]
CaseWord = Literal["patients", "images"]
Indices = NDArray[np.int64]
# Every so many cases of the scored fold: seconds, not minutes.
FROZEN_STEP: dict[DataKind, int] = {"brain-flair": 7, "breast-us": 4}
FROZEN_MAX = 25  # cases of the frozen part of other data


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % interval (percentile bootstrap by group, 2000 draws)."""

    metric: str
    value: float
    ci95: tuple[float, float]
    n: int
    unit: Literal["patients", "images"]


@dataclass(frozen=True)
class EvaluationReport:
    """All figures of one package on one part of one split."""

    package_id: str
    package_digest: str
    dataset: str
    split_sha256: str
    subset: Subset
    figures: tuple[Figure, ...]
    cases: tuple[CaseResult, ...]


def judge_all(
    predictor: Predictor,
    cases: CasesIn,
    items: Sequence[Listed],
    *,
    scale: Scale,
    progress: Callable[[int, int], None] | None = None,
) -> list[CaseResult]:
    """Predict and compare each case that is named.

    Parameters
    ----------
    scale : in what structures are measured, the spacing of each case aside
    progress : is called with (done, of)
    """
    results = []
    for done, item in enumerate(items):
        case = cases.load(item.name)
        if predictor.package.manifest.findings.kind == "structures":
            results.append(judge_structures(predictor, case, scale_in(case, scale, cases.kind)))
        else:
            results.append(judge(predictor, case))
        if progress is not None:
            progress(done + 1, len(items))
    return results


def report_of(
    package: Package, on: JudgedOn, results: Sequence[CaseResult], subset: Subset
) -> EvaluationReport:
    """Figures of results, as those of a package."""
    return EvaluationReport(
        package.manifest.id,
        package.digest,
        on.dataset,
        on.split.sha256,
        subset,
        figures_of(on.kind, results, subset, unit=on.recipe.data.unit),
        tuple(results),
    )


def figures_of(
    kind: DataKind, results: Sequence[CaseResult], subset: Subset, *, unit: CaseWord = "images"
) -> tuple[Figure, ...]:
    """The figures of a data set. `unit`: what a case of a data set of one's own is called."""
    if any(result.structures for result in results):
        return figures_of_structures(results, unit)
    boxes = [result.boxes for result in results if result.boxes is not None]
    if results and len(boxes) == len(results):
        return detector_figures(results, boxes, unit)
    if kind == "own":
        return own_figures(results, unit)
    if kind == "brain-flair":
        return brain_figures(results)
    # Only the scored fold was searched for images of the axilla.
    return breast_figures(results, frozenset() if subset in ("out-of-fold", "naive") else axilla_images())


def frozen_part(report: EvaluationReport, on: JudgedOn) -> EvaluationReport:
    """The frozen subset of a report on the whole scored fold, without predicting again."""
    names = {item.name for item in subset_of(on.split, on.kind, "frozen")}
    cases = tuple(case for case in report.cases if case.name in names)
    figures = figures_of(on.kind, cases, "frozen", unit=on.recipe.data.unit)
    return replace(report, subset="frozen", figures=figures, cases=cases)


def subset_of(split: Split, kind: DataKind, subset: Subset) -> list[Listed]:
    """Cases of the scored fold, or every so many of them, in order of stratum and name."""
    items = sorted(split.scored(), key=lambda item: (item.stratum, item.name))
    if subset == "scored":
        return items
    return items[:: FROZEN_STEP.get(kind, -(-len(items) // FROZEN_MAX))]


def judge(predictor: Predictor, case: Case) -> CaseResult:
    """Predict one case and compare."""
    prediction = predictor.predict(case.volume)
    result = result_of(case, prediction.labels, prediction.class_name, prediction.class_scores)
    if prediction.detected is None:
        return result
    return replace(result, boxes=judged_boxes(case, prediction.detected))


def judge_structures(predictor: Predictor, case: Case, scale: Scale) -> CaseResult:
    """Predict one case and compare each structure; `scale` with the spacing of the case."""
    prediction = predictor.predict(case.volume)
    return structures_result(case, prediction.labels, labels_in(predictor.package.manifest), scale)


def labels_in(manifest: Manifest) -> tuple[str, ...]:
    """Labels of a package's structures by number; empty where it finds lesions."""
    if manifest.findings.kind == "lesions":
        return ()
    return tuple(segment.label for segment in manifest.findings.segments)


def figures_of_structures(results: Sequence[CaseResult], unit: CaseWord) -> tuple[Figure, ...]:
    """Figures of named structures that a package declares.

    The bias of a volume is declared in mL alone: a row of a manifest has no place for another unit.
    """
    maker = FigureMaker(tuple(result.group for result in results), unit, groups_min=1)
    figures = structure_figures([result.structures for result in results], maker)
    return tuple(
        Figure(figure.metric, figure.value, figure.ci95, figure.n, unit)
        for figure in figures
        if figure.ci95 is not None and (figure.unit == "mL" or not is_bias(figure.metric))
    )


def is_bias(metric: str) -> bool:
    """Whether a figure is the bias of a structure's volume."""
    read = read_metric(metric)
    return read is not None and read[0] is VOLUME_BIAS


def brain_figures(results: Sequence[CaseResult]) -> tuple[Figure, ...]:
    """Per-patient Dice, mean and median."""
    groups = [result.group for result in results]
    values = [result.dice for result in results]

    def mean(indices: Indices) -> float:
        return mean_of_known([values[index] for index in indices])

    def median(indices: Indices) -> float:
        return float(np.median([value for index in indices if (value := values[index]) is not None]))

    everything = np.arange(len(results))
    return (
        Figure("dice_per_patient_mean", mean(everything), interval(mean, groups), len(results), "patients"),
        Figure(
            "dice_per_patient_median", median(everything), interval(median, groups), len(results), "patients"
        ),
    )


def breast_figures(results: Sequence[CaseResult], axilla: frozenset[str]) -> tuple[Figure, ...]:
    """Lesion Dice, accuracy over three classes, malignant AUC, share of normal images drawn on.

    The lesion Dice is given once more without images of the axilla, where these are known.
    """
    lesions = [result for result in results if result.dice is not None]
    in_breast = [result for result in lesions if result.name not in axilla]
    normals = [result for result in results if result.true_class == "normal"]
    names = ("benign", "malignant", "normal")
    truth = np.array([names.index(result.true_class or "") for result in results])
    found = np.array([names.index(result.found_class or "") for result in results])
    malignant = np.array([(result.class_scores or {})["malignant"] for result in results])

    def lesion_dice(indices: Indices) -> float:
        return mean_of_known([lesions[index].dice for index in indices])

    def breast_dice(indices: Indices) -> float:
        return mean_of_known([in_breast[index].dice for index in indices])

    def class_accuracy(indices: Indices) -> float:
        return accuracy(found[indices], truth[indices])

    def malignant_auc(indices: Indices) -> float:
        return auc(malignant[indices], truth[indices] == names.index("malignant"))

    def normals_drawn(indices: Indices) -> float:
        return float(np.mean([normals[index].is_drawn for index in indices]))

    figures = []
    for metric, figure, part in (
        ("dice_per_lesion_image_mean", lesion_dice, lesions),
        ("dice_per_lesion_image_mean_without_axilla", breast_dice, in_breast),
        ("accuracy_three_classes", class_accuracy, results),
        ("auc_malignant", malignant_auc, results),
        ("normals_drawn_on", normals_drawn, normals),
    ):
        if part is in_breast and not axilla:
            continue
        groups = [result.group for result in part]
        if figure is malignant_auc:
            # A draw keeps its numbers of malignant and other images: the area is not defined without both.
            ci95 = interval(figure, groups, strata=[str(r.true_class == "malignant") for r in part])
        else:
            ci95 = interval(figure, groups)
        if figure is normals_drawn:
            ci95 = widened(ci95, len(set(groups)))
        figures.append(Figure(metric, figure(np.arange(len(part))), ci95, len(part), "images"))
    return tuple(figures)


def own_figures(results: Sequence[CaseResult], unit: CaseWord) -> tuple[Figure, ...]:
    """Dice where there is something to outline, cases without it that are drawn on, and classes if any."""
    outlined = [result for result in results if result.dice is not None]
    empty = [result for result in results if result.dice is None]
    classed = [result for result in results if result.class_scores is not None]

    def values(indices: Indices) -> list[float]:
        return [value for index in indices if (value := outlined[index].dice) is not None]

    def drawn(indices: Indices) -> float:
        return float(np.mean([empty[index].is_drawn for index in indices]))

    def right(indices: Indices) -> float:
        return float(np.mean([classed[index].found_class == classed[index].true_class for index in indices]))

    def dice_mean(indices: Indices) -> float:
        return float(np.mean(values(indices)))

    def dice_median(indices: Indices) -> float:
        return float(np.median(values(indices)))

    figures = []
    for metric, figure, part in (
        ("dice_per_case_mean", dice_mean, outlined),
        ("dice_per_case_median", dice_median, outlined),
        ("negatives_drawn_on", drawn, empty),
        ("class_accuracy", right, classed),
    ):
        if not part:
            continue
        groups = [result.group for result in part]
        ci95 = interval(figure, groups)
        if figure in (drawn, right):
            ci95 = widened(ci95, len(set(groups)))
        figures.append(Figure(metric, figure(np.arange(len(part))), ci95, len(part), unit))
    return tuple(figures)


def detector_figures(
    results: Sequence[CaseResult], boxes: Sequence[JudgedBoxes], unit: CaseWord
) -> tuple[Figure, ...]:
    """What a detector declares, see models.evaluation.detection_figures; drawn by group."""
    groups, everything = [result.group for result in results], np.arange(len(results))
    return tuple(
        Figure(metric, figure(everything), interval(figure, groups), len(results), unit)
        for metric, figure in detection_rows(boxes).items()
    )
