"""PURE figures of classes: of whole images, or of slices with and without a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation import classification
from models.evaluation.calibration import (
    ReliabilityBin,
    brier,
    error_if_calibrated,
    expected_calibration_error,
    reliability,
)
from models.evaluation.figures import FigureMaker, Indices, ReportFigure, known
from models.evaluation.measures import CaseMeasures
from models.evaluation.risk_coverage import risk_coverage

# Of those examined, how many have the disease: stated, since no test set knows it.
PREVALENCES = (0.01, 0.05, 0.20)


@dataclass(frozen=True, eq=False)
class ClassCases:
    """What was said and what is true.

    names : of the classes; positive : index of the one that sensitivity is about
    scores : (n, classes), rows sum to 1
    truth, found : (n,) class index; found at the shipped setting, not always the highest score
    groups : of each; of : what they are called
    is_stratified : whether no group has both kinds
    has_prevalence : whether a prevalence among those examined means anything
    score_words : what the score of the positive class is
    """

    names: tuple[str, ...]
    positive: int
    scores: NDArray[np.float64]
    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    groups: tuple[str, ...]
    of: str
    is_stratified: bool
    has_prevalence: bool
    score_words: str

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """(n,) truly of the positive class."""
        return np.asarray(self.truth == self.positive)

    @property
    def positive_scores(self) -> NDArray[np.float64]:
        """(n,) score of the positive class."""
        return np.asarray(self.scores[:, self.positive])


@dataclass(frozen=True)
class PredictiveValues:
    """What a positive and a negative answer are worth where `prevalence` of those examined are positive."""

    prevalence: float
    positive: float | None
    negative: float | None


@dataclass(frozen=True)
class ClassReport:
    """Curves and tables of a classifier, as a report shows them."""

    names: tuple[str, ...]
    positive: str
    of: str
    score_words: str
    false_positive_rate: tuple[float, ...]
    sensitivity: tuple[float, ...]
    shipped_false_positive_rate: float
    shipped_sensitivity: float
    confusion: tuple[tuple[int, ...], ...]
    predictive_values: tuple[PredictiveValues, ...]
    reliability: tuple[ReliabilityBin, ...]
    error_if_calibrated: tuple[float, float]  # mean and 97.5th percentile of the ECE of a calibrated model
    coverage: tuple[float, ...]
    risk: tuple[float, ...]


def image_classes(cases: Sequence[CaseMeasures], names: Sequence[str], positive: str) -> ClassCases:
    """Classes of whole images, as the package gives them."""
    results = [case.result for case in cases]
    return ClassCases(
        tuple(names),
        names.index(positive),
        np.array([[(result.class_scores or {})[name] for name in names] for result in results]),
        np.array([names.index(result.true_class or "") for result in results]),
        np.array([names.index(result.found_class or "") for result in results]),
        tuple(result.group for result in results),
        "images",
        is_stratified=True,
        has_prevalence=True,
        score_words=f"score of the class {positive}",
    )


def slice_classes(cases: Sequence[CaseMeasures]) -> ClassCases:
    """Slices with and without a lesion; a slice is called positive when something is drawn in it."""
    scores = np.array([score for case in cases for score in case.slice_scores], float)
    return ClassCases(
        ("without lesion", "with lesion"),
        1,
        np.column_stack([1 - scores, scores]),
        np.array([int(flag) for case in cases for flag in case.slice_has_lesion], np.int64),
        np.array([int(flag) for case in cases for flag in case.slice_is_drawn], np.int64),
        tuple(case.result.group for case in cases for _ in case.slice_scores),
        "slices",
        is_stratified=False,
        has_prevalence=False,
        score_words="highest probability in the slice, which nothing trained to be a chance",
    )


def class_figures(cases: ClassCases) -> tuple[ReportFigure, ...]:
    """Figures over all of them."""
    maker = FigureMaker(cases.groups, cases.of)
    # A draw without a positive case has no area under its curve: each kind keeps its number.
    by_kind = tuple("yes" if flag else "no" for flag in cases.is_positive) if cases.is_stratified else None
    stratified = FigureMaker(cases.groups, cases.of, by_kind)
    called, is_positive, scores = cases.found == cases.positive, cases.is_positive, cases.positive_scores
    classes, name = len(cases.names), cases.names[cases.positive]
    confidence = np.asarray(cases.scores[np.arange(len(cases.found)), cases.found])
    is_right = cases.found == cases.truth

    def table(indices: Indices) -> NDArray[np.int64]:
        return classification.confusion(cases.found[indices], cases.truth[indices], classes)

    def sensitivity(indices: Indices) -> float:
        return classification.sensitivity(called[indices], is_positive[indices])

    def specificity(indices: Indices) -> float:
        return classification.specificity(called[indices], is_positive[indices])

    def area(indices: Indices) -> float:
        return classification.auc(scores[indices], is_positive[indices])

    def balanced(indices: Indices) -> float:
        return classification.balanced_accuracy(table(indices))

    def f1(indices: Indices) -> float:
        return classification.macro_f1(table(indices))

    def error(indices: Indices) -> float:
        return expected_calibration_error(scores[indices], is_positive[indices])

    def squares(indices: Indices) -> float:
        return brier(cases.scores[indices], cases.truth[indices])

    def silence(indices: Indices) -> float:
        return risk_coverage(confidence[indices], is_right[indices]).area

    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    return known(
        [
            stratified.make("class_auc", f"area under the ROC curve, {name} or not", "area", area),
            maker.make(
                "class_sensitivity",
                f"{name}: called so at the shipped setting",
                "share",
                sensitivity,
                n=positives,
                among=is_positive,
            ),
            maker.make(
                "class_specificity",
                f"not {name}: not called so at the shipped setting",
                "share",
                specificity,
                n=negatives,
                among=~is_positive,
            ),
            maker.make("balanced_accuracy", "mean of the share found of each class", "mean", balanced),
            maker.make("macro_f1", "F1, mean over the classes", "mean", f1),
            maker.make("ece", f"calibration error of {name}, 15 bins of equal mass", "error", error),
            maker.make(
                "brier", "squared error of the scores, summed over the classes (Brier)", "mean", squares
            ),
            maker.make("risk_coverage_area", "share wrong, mean over all coverages", "area", silence),
        ]
    )


def class_report(cases: ClassCases) -> ClassReport | None:
    """Curves and tables; None where only one kind of case is there."""
    is_positive, called = cases.is_positive, cases.found == cases.positive
    if is_positive.all() or not is_positive.any():
        return None
    curve = classification.roc(cases.positive_scores, is_positive)
    sensitivity = classification.sensitivity(called, is_positive)
    specificity = classification.specificity(called, is_positive)
    table = classification.confusion(cases.found, cases.truth, len(cases.names))
    confidence = np.asarray(cases.scores[np.arange(len(cases.found)), cases.found])
    silent = risk_coverage(confidence, cases.found == cases.truth)
    return ClassReport(
        names=cases.names,
        positive=cases.names[cases.positive],
        of=cases.of,
        score_words=cases.score_words,
        false_positive_rate=tuple(map(float, curve.false_positive_rate)),
        sensitivity=tuple(map(float, curve.sensitivity)),
        shipped_false_positive_rate=1 - specificity,
        shipped_sensitivity=sensitivity,
        confusion=tuple(tuple(map(int, row)) for row in table),
        predictive_values=tuple(
            PredictiveValues(share, *classification.predictive_values(sensitivity, specificity, share))
            for share in (PREVALENCES if cases.has_prevalence else ())
        ),
        reliability=reliability(cases.positive_scores, is_positive),
        error_if_calibrated=error_if_calibrated(cases.positive_scores),
        coverage=tuple(map(float, silent.coverage)),
        risk=tuple(map(float, silent.risk)),
    )
