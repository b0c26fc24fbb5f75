"""Two packages beside each other on the same cases: what each says, how long it takes, where they differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.compression.verdict import new_mistakes, newly_drawn
from models.evaluation.case_result import CaseResult, structures_result
from models.evaluation.class_figures import ClassCases, image_classes, slice_classes
from models.evaluation.compare import PairedRow, compare_cases, row_of
from models.evaluation.evaluate import labels_in
from models.evaluation.figures import mean_over
from models.evaluation.kept_predictions import said_of
from models.evaluation.measures import CaseMeasures, measure
from models.evaluation.scales import SCALES, Scale, scale_in, scale_of
from models.package import Package
from models.predictor import Predictor
from models.preprocess import PreprocessError
from models.training.cases import Case, DataKind
from models.training.judged_on import NotJudged, judged_on

Both = tuple[Predictor, Predictor]
Progress = Callable[[int, int], None]
ROUNDS = 5


@dataclass(frozen=True)
class Beside:
    """What came of reading the same cases with both.

    rows : second minus first
    drawn, mistakes : as `models.compression.verdict` has them
    results : of the second
    """

    rows: tuple[PairedRow, ...]
    drawn: tuple[str, ...]
    mistakes: frozenset[tuple[str, str]]
    results: tuple[CaseResult, ...]


def alternating_seconds(
    both: Both, cases: Sequence[Case], rounds: int = ROUNDS
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of both for all cases in each round, one after the other, so that both meet one machine.

    A round before the first is not counted.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for predictor, kept in zip(both, seconds, strict=True):
            start = time.perf_counter()
            for case in cases:
                predictor.predict(case.volume)
            if number:
                kept.append(time.perf_counter() - start)
    return tuple(seconds[0]), tuple(seconds[1])


def beside(both: Both, cases: Sequence[Case], progress: Progress | None = None) -> Beside:
    """Read each case with both and compare; a case that either cannot take is left out of both."""
    manifest = both[0].package.manifest
    if manifest.findings.kind == "structures":
        return _structures(both, cases, progress)
    scale, kind = _scale(both[0].package)
    measures: tuple[list[CaseMeasures], list[CaseMeasures]] = ([], [])
    for done, case in enumerate(cases):
        try:
            said = [said_of(predictor.predict(case.volume)) for predictor in both]
        except PreprocessError:
            continue
        for predictor, one, kept in zip(both, said, measures, strict=True):
            steps = predictor.package.manifest.postprocess
            kept.append(measure(case, one, steps, scale_in(case, scale, kind)))
        if progress is not None:
            progress(done + 1, len(cases))
    first, second = ([one.result for one in part] for part in measures)
    classes = _classes(both[0].package, measures[0]), _classes(both[1].package, measures[1])
    return Beside(
        compare_cases(*measures, classes, "cases"),
        newly_drawn(first, second),
        frozenset(new_mistakes(first, second)),
        tuple(second),
    )


def _structures(both: Both, cases: Sequence[Case], progress: Progress | None) -> Beside:
    """Mean Dice over the structures of each case; one that the truth does not have is not counted."""
    (scale, kind), labels = _scale(both[0].package), labels_in(both[0].package.manifest)
    results: tuple[list[CaseResult], list[CaseResult]] = ([], [])
    for done, case in enumerate(cases):
        try:
            found = [predictor.predict(case.volume).labels for predictor in both]
        except PreprocessError:
            continue
        for numbers, kept in zip(found, results, strict=True):
            kept.append(structures_result(case, numbers, labels, scale_in(case, scale, kind)))
        if progress is not None:
            progress(done + 1, len(cases))
    overlaps = [[one.dice for one in part] for part in results]
    groups, outlined = [one.group for one in results[0]], [one is not None for one in overlaps[0]]
    row = row_of("dice", [mean_over(values) for values in overlaps], groups, n=sum(outlined), of="cases")
    return Beside(() if row is None else (row,), newly_drawn(*results), frozenset(), tuple(results[1]))


def _scale(package: Package) -> tuple[Scale, DataKind]:
    """In what the package's cases are measured; of one without a recipe, in pixels."""
    try:
        on = judged_on(package)
    except NotJudged:
        kind: DataKind = "breast-us" if package.manifest.inputs[0].unit == "image" else "brain-flair"
        return SCALES[kind], kind
    return scale_of(on.recipe), on.kind


def _classes(package: Package, cases: Sequence[CaseMeasures]) -> ClassCases:
    """Classes of the images where the package and the cases have them, else of slices."""
    classes = package.manifest.findings.classes
    known = all(case.result.true_class is not None for case in cases)
    if not classes or not known:
        return slice_classes(cases)
    positive = next((one.name for one in classes if one.urgent), classes[0].name)
    return image_classes(cases, [one.name for one in classes], positive)
