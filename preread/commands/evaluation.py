"""`preread models evaluate` and `compare`: how good a package is, and whether another one is better."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preread.commands.options import (
    EXIT_FAILED,
    FIGURE_COLUMNS,
    Config,
    DataFolder,
    Json,
    fail,
    print_json,
    print_table,
    wrong_use,
)
from preread.commands.package_names import PackageName, package_named
from preread.commands.sorting import evaluate_sorter, sorter_named

if TYPE_CHECKING:
    from models.evaluation.beside import BesideReport
    from models.evaluation.compare import PairedRow
    from models.evaluation.document import Evaluation, JudgedCase
    from models.evaluation.figures import ReportFigure
    from models.evaluation.run import Progress, ReportSubset
    from models.package import Package
    from models.robustness.document import Robustness

DEFAULT_DATA = Path("../shared/data")
Frozen = Annotated[bool, typer.Option("--frozen", help="Only the frozen subset that CI checks.")]


def evaluate(
    name: PackageName,
    data: DataFolder = DEFAULT_DATA,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, evaluation.json, sheets; holds pictures of patients."),
    ] = None,
    frozen: Frozen = False,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Measure, too, what corrupted and attacked images cost; needs --out, takes long, goes on "
            "where it was ended.",
        ),
    ] = False,
    attacked: Annotated[
        int, typer.Option(min=0, help="With --robustness: how many cases are attacked; 0: none.")
    ] = 24,
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Another method's figure of each case (case,metric,value): the paired difference to it.",
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, help="With --beside: how much worse on average is not worse.")
    ] = 0.005,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --beside: results.json of another fold's network (WORK/evaluate/fold-…, of a training "
            "with --out-of-fold), whose cases join the comparison; may be repeated.",
        ),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure a package on cases its training did not see; ends with 1 when it fails a gate.

    The figures come with 95 % intervals. With `--frozen` they must repeat those that the package declares.
    What was predicted stays in `--out`: a second report needs no second inference.
    """
    from models.evaluation.beside import Beside, read_others, read_theirs
    from models.evaluation.evaluate import labels_in, subset_of
    from models.evaluation.gates import frozen_differences, read_gates
    from models.evaluation.report import write_report
    from models.evaluation.run import declared_figures, evaluate_fully
    from models.predictor import Predictor
    from models.robustness.measuring import measure_robustness
    from models.training.judged_on import judged_on

    if (sorter := sorter_named(name, config)) is not None:
        with readable_data():
            evaluate_sorter(sorter, data, frozen=frozen, as_json=as_json)
        return
    package = package_named(name, config)
    on = judged_on(package)
    subset: ReportSubset = "frozen" if frozen else "scored"
    if robustness and out is None:
        raise wrong_use("--robustness needs --out: a folder that keeps what was answered")
    if results and beside is None:
        raise wrong_use("--results needs --beside: the file to compare with")
    compared = None
    if beside is not None:
        compared = Beside(read_theirs(beside), read_others(results or (), on.split), margin)
        names = [item.name for item in subset_of(on.split, on.kind, subset)]
        compared.check(names, labels_in(package.manifest))
    if robustness and out is not None:
        with bar(f"corrupting images for {package.manifest.id}") as progress, readable_data():
            measure_robustness(
                Predictor(package), data, out, subset=subset, attacked=attacked, progress=progress
            )
    with bar(f"evaluating {package.manifest.id}") as progress, readable_data():
        if out is None:
            cases = _judged(package, data, None, subset, progress)
            evaluation = evaluate_fully(package, cases, subset)
            if compared is not None:
                evaluation = replace(
                    evaluation, beside=compared.report([one.measures.result for one in cases])
                )
        else:
            evaluation = write_report(
                Predictor(package), data, out, subset=subset, beside=compared, progress=progress
            )
    gates = read_gates(package.manifest.id)
    declared = [row for row in package.manifest.evaluation if row.subset == "frozen"]
    differences: list[str] = []
    if frozen and gates is not None:
        found = declared_figures(on, evaluation.cases, subset)
        differences = frozen_differences(declared, found, gates.frozen_tolerance)
    if as_json:
        print_json({"passed": evaluation.passed, "frozen_differences": differences, **asdict(evaluation)})
    else:
        _show(evaluation, differences, out)
    falls = robustness and evaluation.robustness is not None and not evaluation.robustness.natural.passed
    if evaluation.passed is False or differences or falls:
        raise typer.Exit(EXIT_FAILED)


def compare(
    first: PackageName,
    second: Annotated[str, typer.Argument(metavar="OTHER", help="Id or folder of the other package.")],
    data: DataFolder = DEFAULT_DATA,
    out: Annotated[
        Path | None, typer.Option(help="Folder that keeps the predictions, as of `evaluate`.")
    ] = None,
    frozen: Frozen = False,
    margin: Annotated[
        float | None,
        typer.Option(min=0, help="End with 1 unless OTHER's Dice and AUC are at most this much worse."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare two packages on the same cases by paired bootstrap: OTHER minus NAME, with 95 % intervals."""
    from models.evaluation.compare import compare_cases, compare_structures
    from models.evaluation.evaluate import labels_in
    from models.evaluation.run import classes_of
    from models.training.judged_on import judged_on

    packages = [package_named(name, config) for name in (first, second)]
    on = [judged_on(package) for package in packages]
    if on[0].split.sha256 != on[1].split.sha256:
        raise wrong_use(f"{first} and {second} are judged on different data sets: nothing can be compared")
    subset: ReportSubset = "frozen" if frozen else "scored"
    with readable_data():
        cases = []
        for package in packages:
            with bar(f"predicting with {package.manifest.id} {package.manifest.version}") as progress:
                cases.append(_judged(package, data, out, subset, progress))
    measures = [[case.measures for case in judged] for judged in cases]
    of = on[0].recipe.data.unit
    if all(labels_in(package.manifest) for package in packages):
        rows = compare_structures(measures[0], measures[1], of)
    else:
        classes = [classes_of(package, judged) for package, judged in zip(packages, cases, strict=True)]
        rows = compare_cases(measures[0], measures[1], (classes[0], classes[1]), of)
    titles = [f"{package.manifest.id} {package.manifest.version}" for package in packages]
    if as_json:
        print_json([{**asdict(row), "verdict": row.verdict} for row in rows])
    else:
        _show_comparison(rows, titles)
    worse = [
        row.metric
        for row in rows
        if margin is not None
        and row.metric.startswith(("dice", "class_auc"))
        and not row.is_not_worse(margin)
    ]
    if worse:
        raise fail(f"{titles[1]} may be more than {margin:g} worse in {', '.join(worse)}.")


def _show(evaluation: "Evaluation", differences: list[str], out: Path | None) -> None:
    for sentence in evaluation.headline:
        sys.stdout.write(f"{sentence}\n")
    sys.stdout.write("\n")
    print_table(FIGURE_COLUMNS, [_row(figure) for figure in evaluation.figures], empty="No figures.")
    if evaluation.gates is not None:
        sys.stdout.write("\n")
    for gate in evaluation.gates or ():
        value = "not known" if gate.value is None else f"{gate.value:.3f}"
        sys.stdout.write(f"{'passed' if gate.passed else 'FAILED'}: {gate.demand}: {value}\n")
    if evaluation.robustness is not None:
        _show_robustness(evaluation.robustness)
    if evaluation.beside is not None:
        _show_beside(evaluation.beside)
    for difference in differences:
        sys.stdout.write(f"FAILED: the frozen subset does not repeat what is declared: {difference}\n")
    if out is not None:
        sys.stdout.write(f"\nReport: {out / 'report.html'}\n")


def _show_robustness(found: "Robustness") -> None:
    from models.robustness.natural import LIMIT_POINTS, LIMIT_SEVERITY

    sys.stdout.write("\n")
    for curve in found.natural.curves:
        drops = next(step.drops for step in curve.steps if step.severity == LIMIT_SEVERITY)
        words = ", ".join(f"{drop.metric} {drop.points:+.1f}" for drop in drops)
        sys.stdout.write(
            f"{'FAILED' if curve.faults else 'passed'}: {curve.words} at severity {LIMIT_SEVERITY} takes "
            f"at most {LIMIT_POINTS:g} points: {words}\n"
        )
    for row in found.adversarial.rows if found.adversarial else ():
        words = ", ".join(f"{drop.metric} {drop.points:+.1f}" for drop in row.drops)
        sys.stdout.write(
            f"{row.attack} on the {row.head}, {row.level:g} grey levels, {row.n} cases: loss "
            f"{row.loss_before:.3f} to {row.loss_after:.3f}; points lost: {words}\n"
        )
    for fault in found.adversarial.faults if found.adversarial else ():
        sys.stdout.write(f"FAILED: the attack shows no robustness: {fault}\n")


def _show_beside(found: "BesideReport") -> None:
    sys.stdout.write(f"\nBeside {found.words[0] if found.words else 'another method'}:\n")
    for row in found.rows:
        interval = (
            "no interval, too few cases"
            if row.ci95 is None
            else f"95 % interval {100 * row.ci95[0]:+.2f} to {100 * row.ci95[1]:+.2f}"
        )
        verdict = "lies above" if row.is_not_worse else "does not lie above"
        sys.stdout.write(
            f"{row.metric}, {row.n} {row.over}: {row.ours:.4f} less {row.theirs:.4f} is "
            f"{100 * row.difference:+.2f} points ({interval}); it {verdict} {-100 * found.margin:+g} points\n"
        )


def _show_comparison(rows: "Sequence[PairedRow]", titles: Sequence[str]) -> None:
    print_table(
        ("figure", *titles, "difference", "95 % interval", "of", titles[1]),
        [
            (
                row.metric,
                f"{row.first:.3f}",
                f"{row.second:.3f}",
                f"{row.difference.value:+.3f}",
                f"{row.difference.ci95[0]:+.3f} to {row.difference.ci95[1]:+.3f}",
                f"{row.n} {row.of}",
                row.verdict,
            )
            for row in rows
        ],
        empty="No figure is defined for both.",
    )


def _row(figure: "ReportFigure") -> tuple[str, str, str, str]:
    interval = "–" if figure.ci95 is None else f"{figure.ci95[0]:.3f} to {figure.ci95[1]:.3f}"
    value = f"{figure.value:.3f} {figure.unit}".rstrip()
    return figure.metric, value, interval, f"{figure.n} {figure.of}"


def _judged(
    package: "Package", data: Path, out: Path | None, subset: "ReportSubset", progress: "Progress"
) -> "tuple[JudgedCase, ...]":
    from models.evaluation.kept_predictions import KeptPredictions
    from models.evaluation.report import PREDICTIONS
    from models.evaluation.run import judge_cases
    from models.predictor import Predictor

    kept = KeptPredictions(Predictor(package), None if out is None else out / PREDICTIONS)
    return judge_cases(kept, data, subset, progress)


@contextmanager
def bar(words: str) -> "Iterator[Progress]":
    """A bar of progress on standard error, while something takes its time."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(words, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


@contextmanager
def readable_data() -> Iterator[None]:
    """Ends the command with the reason where the labelled data cannot be used."""
    from models.training.cases import CasesError
    from models.training.split import SplitError

    try:
        yield
    except (CasesError, SplitError) as error:
        raise fail(str(error)) from error
