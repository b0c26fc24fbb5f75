"""An evaluation from package and data folder to every figure: predictions kept, measures made anew."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models.evaluation.class_figures import (
    ClassCases,
    ClassReport,
    class_figures,
    class_report,
    image_classes,
    slice_classes,
)
from models.evaluation.document import Evaluation, FlowStep, JudgedCase, PackageIdentity
from models.evaluation.evaluate import figures_of, labels_in, subset_of
from models.evaluation.figures import FigureMaker, ReportFigure, Statistic, mean_over, ratio_over
from models.evaluation.froc import SizeBand
from models.evaluation.gates import StratumFigure, judge_gates, read_gates
from models.evaluation.headline import headline
from models.evaluation.kept_predictions import KeptPredictions
from models.evaluation.lesion_figures import FrocReport, bands_of, froc_report, lesion_figures
from models.evaluation.measures import CaseMeasures, measure, measure_structures
from models.evaluation.outline_figures import outline_counts, outline_figures
from models.evaluation.scales import scale_in, scale_of
from models.evaluation.strata import UNKNOWN_STRATA, strata_of
from models.evaluation.structure_headline import structure_headline
from models.evaluation.structure_metrics import read_metric
from models.evaluation.structure_report import report_figures, structure_flow
from models.evaluation.structure_rows import StructureRow, structure_rows
from models.evaluation.structure_strata import structure_strata
from models.package import Package
from models.training.card import METRIC_WORDS, metric_words
from models.training.judged_on import JudgedOn, judged_on
from models.training.split import axilla_images

ReportSubset = Literal["scored", "frozen"]
Progress = Callable[[int, int], None]


def judge_cases(
    kept: KeptPredictions,
    data_folder: Path,
    subset: ReportSubset,
    progress: Progress | None = None,
) -> tuple[JudgedCase, ...]:
    """Every case of the subset, predicted (or remembered) and measured.

    Raises
    ------
    CasesError, SplitError
        The folder is not the one the frozen split was drawn for.
    NotJudged
        No recipe of ours made the package.
    """
    package = kept.predictor.package
    on = judged_on(package)
    kind, cases, scale = on.kind, on.cases_in(data_folder), scale_of(on.recipe)
    items = subset_of(on.split, kind, subset)
    group_sizes = Counter(item.group for item in on.split.items.values())
    axilla = axilla_images() if kind == "breast-us" else frozenset()
    structures = labels_in(package.manifest)
    judged = []
    for item in items:
        case = cases.load(item.name)
        said = kept.of(case.volume)
        of_case = scale_in(case, scale, kind)
        if structures:
            measures = measure_structures(case, said, structures, of_case)
        else:
            measures = measure(case, said, package.manifest.postprocess, of_case)
        judged.append(JudgedCase(measures, strata_of(kind, case, measures, group_sizes, axilla)))
        if progress is not None:
            progress(len(judged), len(items))
    return tuple(judged)


def evaluate_fully(package: Package, cases: Sequence[JudgedCase], subset: ReportSubset) -> Evaluation:
    """All figures of judged cases."""
    on = judged_on(package)
    kind, scale, word = on.kind, scale_of(on.recipe), on.recipe.data.unit
    measures = [case.measures for case in cases]
    found = (
        structures_found(package, on, cases)
        if labels_in(package.manifest)
        else lesions_found(package, on, cases, subset)
    )
    gates = read_gates(package.manifest.id) if subset == "scored" else None
    over_folds = [row for row in package.manifest.evaluation if row.subset == "out-of-fold"]
    return Evaluation(
        package=PackageIdentity(
            package.manifest.id,
            package.manifest.version,
            package.manifest.title,
            package.digest,
            package.manifest.file("weights").sha256,
        ),
        kind=kind,
        dataset=on.dataset,
        length_unit=scale.length_unit,
        split_sha256=on.split.sha256,
        subset=subset,
        case_word=word,
        flow=(*flow_of(on, subset, cases), *found.flow),
        figures=found.figures,
        outlines=outline_counts(measures),
        bands=found.bands,
        froc=found.froc,
        classes=found.classes,
        strata=found.strata,
        gates=None if gates is None else judge_gates(gates, found.figures, found.strata, over_folds),
        gates_reason="" if gates is None else gates.reason,
        headline=found.headline,
        unknown=(scale.caveat, UNKNOWN_STRATA[kind]),
        environment={
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        cases=tuple(cases),
        structures=found.structures,
    )


@dataclass(frozen=True)
class Found:
    """What depends on whether lesions or structures are looked for; as in Evaluation."""

    flow: tuple[FlowStep, ...]
    figures: tuple[ReportFigure, ...]
    strata: tuple[StratumFigure, ...]
    headline: tuple[str, ...]
    bands: tuple[SizeBand, ...] = ()
    froc: FrocReport | None = None
    classes: ClassReport | None = None
    structures: tuple[StructureRow, ...] = ()


def lesions_found(package: Package, on: JudgedOn, cases: Sequence[JudgedCase], subset: ReportSubset) -> Found:
    """Outlines, lesions as things to be found, classes."""
    kind, scale, word = on.kind, scale_of(on.recipe), on.recipe.data.unit
    measures = [case.measures for case in cases]
    classes = classes_of(package, cases)
    report = class_report(classes)
    declared = declared_figures(on, cases, subset)
    known = {one.metric for one in declared}
    figures = (
        *declared,
        *outline_figures(measures, scale, word),
        # A detector declares its CPM itself.
        *(one for one in lesion_figures(measures, scale, word) if one.metric not in known),
        # The area under the curve of the declared classes is declared itself.
        *(one for one in class_figures(classes) if kind != "breast-us" or one.metric != "class_auc"),
    )
    return Found(
        flow=lesion_flow(measures, word),
        figures=figures,
        strata=stratum_figures(cases),
        headline=headline(kind, figures, report, scale),
        bands=bands_of(measures, scale),
        froc=froc_report(measures),
        classes=report,
    )


def structures_found(package: Package, on: JudgedOn, cases: Sequence[JudgedCase]) -> Found:
    """Outlines and volumes of each structure; nothing of lesions."""
    scale, word = scale_of(on.recipe), on.recipe.data.unit
    measures = [case.measures for case in cases]
    figures = report_figures(measures, scale, word)
    rows = structure_rows(measures, package.manifest.findings, scale)
    return Found(
        flow=structure_flow(rows, word),
        figures=figures,
        strata=structure_strata(cases),
        headline=structure_headline(rows, figures, scale),
        structures=rows,
    )


def declared_figures(
    on: JudgedOn, cases: Sequence[JudgedCase], subset: ReportSubset
) -> tuple[ReportFigure, ...]:
    """The figures that packages declare, in the form of a report."""
    results = [case.measures.result for case in cases]
    rows = figures_of(on.kind, results, subset, unit=on.recipe.data.unit)
    return tuple(
        ReportFigure(
            row.metric,
            metric_words(row.metric),
            statistic_of(row.metric),
            row.value,
            row.ci95,
            row.n,
            row.unit,
        )
        for row in rows
    )


def statistic_of(metric: str) -> Statistic:
    """Of a declared figure."""
    of_structure = None if metric in METRIC_WORDS else read_metric(metric)
    if of_structure is not None:
        return of_structure[0].statistic
    if metric.startswith("auc"):
        return "area"
    if metric.endswith("median"):
        return "median"
    return "mean" if metric.startswith("dice") else "share"


def classes_of(package: Package, cases: Sequence[JudgedCase]) -> ClassCases:
    """Classes of images, or slices with and without a lesion where the model has no classes."""
    measures = [case.measures for case in cases]
    declared = package.manifest.findings.classes
    if not declared:
        return slice_classes(measures)
    # Sensitivity is about the class a person should see soon, else about the first that is a finding.
    ranked = sorted(declared, key=lambda item: (not item.urgent, item.negative, item.index))
    return image_classes(measures, [item.name for item in declared], ranked[0].name)


def stratum_figures(cases: Sequence[JudgedCase]) -> tuple[StratumFigure, ...]:
    """Dice, lesions found and, with classes, accuracy: of all cases, then of every part of every division."""
    parts: dict[str, dict[str, list[JudgedCase]]] = {"all": {"cases": list(cases)}}
    for case in cases:
        for division, part in case.strata.items():
            parts.setdefault(division, {}).setdefault(part, []).append(case)
    return tuple(
        row
        for division, members in parts.items()
        # By size where the parts are bands: below 2, 2 to 8, 8 and more.
        for part in sorted(members, key=lambda name: name.replace("below", "0"))
        for row in figures_of_part(division, part, members[part])
    )


def figures_of_part(division: str, part: str, cases: Sequence[JudgedCase]) -> list[StratumFigure]:
    """The figures of one part, where they are defined."""
    results = [case.measures.result for case in cases]
    maker = FigureMaker(tuple(result.group for result in results), "cases")
    lesions = [case.measures.true_lesions for case in cases]
    there = [len(one) for one in lesions]
    figures = [
        maker.make(
            "dice",
            "",
            "mean",
            mean_over([result.dice for result in results]),
            n=sum(result.dice is not None for result in results),
        ),
        maker.make(
            "lesion_sensitivity",
            "",
            "share",
            ratio_over([sum(lesion.is_found for lesion in one) for one in lesions], there),
            n=sum(there),
        ),
    ]
    if all(result.true_class is not None for result in results):
        right = [float(result.true_class == result.found_class) for result in results]
        figures.append(maker.make("accuracy", "", "share", mean_over(right)))
    return [
        StratumFigure(division, part, figure.metric, figure.value, figure.ci95, figure.n)
        for figure in figures
        if figure is not None
    ]


def flow_of(on: JudgedOn, subset: ReportSubset, cases: Sequence[JudgedCase]) -> tuple[FlowStep, ...]:
    """From the data folder to the cases that are scored."""
    split, word = on.split, on.recipe.data.unit
    scored = len(split.scored())
    known = "" if on.kind == "own" else "15 % of the source are kept apart, unseen"
    steps = [FlowStep(len(split.items), f"{word} in the data folder", known)]
    if split.excluded():
        steps.append(
            FlowStep(len(split.excluded()), f"{word} left out", "their near-duplicates carry another class")
        )
    others = f"folds 1 to {split.fold_numbers[-1]} of the frozen split"
    steps += [
        FlowStep(len(split.training()), f"{word} trained on", others),
        FlowStep(scored, f"{word} of fold 0", "never trained on, no group on both sides"),
    ]
    if subset == "frozen":
        steps.append(
            FlowStep(len(cases), f"{word} of the frozen subset", "every so many of fold 0, in order")
        )
    return tuple(steps)


def lesion_flow(cases: Sequence[CaseMeasures], word: str) -> tuple[FlowStep, ...]:
    """Scored cases with and without a lesion."""
    counts = outline_counts(cases)
    return (
        FlowStep(counts.compared, f"{word} with a lesion", "their outlines are compared"),
        FlowStep(
            counts.false_alarms + counts.both_empty,
            f"{word} without a lesion",
            f"no Dice: drawn on in {counts.false_alarms}, rightly left alone in {counts.both_empty}",
        ),
    )
