"""From a package to a smaller one, judged beside it on the cases that its training did not see.

Nothing is written unless the smaller one gains enough and loses nothing, see `models.compression.verdict`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from config.errors import PrereadError
from models.amending import amend_package
from models.compression.beside import Beside, Both, Progress, alternating_seconds, beside
from models.compression.candidates import (
    Candidate,
    School,
    as_student,
    in_bfloat16,
    in_integers,
    with_fewer_channels,
)
from models.compression.verdict import Gain, objections
from models.evaluation.compare import PairedRow
from models.evaluation.redeclared import figure_lines, redeclared
from models.manifest import Evaluation
from models.package import Package
from models.predictor import Predictor
from models.training.cases import Case
from models.training.package_cases import PackageCases, package_cases
from models.training.recipe_file import RecipeFile

Method = Literal["bf16", "int8", "prune", "distil"]
HEADING = "Compression"
TIMED_CASES = 4
CASES_MIN = 10
SAME = 1e-4  # of a probability: two libraries differ by less when they compute the same


@dataclass(frozen=True, eq=False)
class Wish:
    """What is to be done.

    share : of the channels that prune takes out
    student, teachers : of distil, see `models.compression.candidates.as_student`
    school : of prune and distil; its cases are replaced by those of the training folds and its own
    """

    method: Method
    share: float = 0.4
    student: RecipeFile | None = None
    teachers: Sequence[Path] = ()
    school: School | None = None


@dataclass(frozen=True, eq=False)
class Compressed:
    """What came of it; `package` is None where it may not be shipped.

    words : how it was made
    rows : compressed minus original on the same cases
    objections : why not
    """

    package: Package | None
    words: str
    gain: Gain
    rows: tuple[PairedRow, ...]
    objections: tuple[str, ...]


def compress_package(
    package: Package,
    data_folder: Path,
    out: Path,
    wish: Wish,
    *,
    version: str | None,
    released: str,
    progress: Progress | None = None,
) -> Compressed:
    """Compress, judge beside the original, and write the package into `out` where nothing objects.

    Raises
    ------
    CasesError, SplitError
        The data folder is not the package's.
    PrereadError
        The network cannot be compressed that way, what came out is the network that went in, or there are too
        few unseen cases to judge by.
    """
    seen, unseen = parted(package_cases(package, data_folder))
    if len(unseen) < CASES_MIN:
        raise PrereadError(
            f"{len(unseen)} cases that the network was not trained on",
            where=package.manifest.id,
            remedy=f"At least {CASES_MIN} are needed to judge what compression loses.",
        )
    candidate = _candidate(package, seen, wish)
    with tempfile.TemporaryDirectory() as scratch:

        def write(
            folder: Path, lines: Sequence[str], evaluation: tuple[Evaluation, ...] | None = None
        ) -> Package:
            blocks = (
                candidate.blocks if evaluation is None else {**candidate.blocks, "evaluation": evaluation}
            )
            return amend_package(
                package,
                folder,
                version=version,
                released=released,
                blocks=blocks,
                files=candidate.files,
                without=candidate.without,
                section=(HEADING, lines),
                answers_change=True,
            )

        draft = write(Path(scratch) / package.folder.name, [])
        both = Predictor(package, device="cpu"), Predictor(draft, device="cpu")
        if wish.method == "bf16":
            both[1].use(replace(both[1].layout, dtype="bfloat16"))
        _refuse_unchanged(both, unseen[0], wish.method)
        found = beside(both, unseen, progress)
        gain = Gain(
            package.manifest.file("weights").bytes,
            draft.manifest.file("weights").bytes,
            *alternating_seconds(both, unseen[:TIMED_CASES]),
        )
    against = objections(gain, found.rows, found.drawn, found.mistakes)
    written = None
    if not against:
        evaluation = _evaluation(package, found)
        lines = [*card_lines(package, candidate, gain, found.rows), *figure_lines(evaluation)]
        written = write(out, lines, evaluation)
    return Compressed(written, candidate.words, gain, found.rows, against)


def parted(cases: PackageCases) -> tuple[list[Case], list[Case]]:
    """Cases to learn ranges and weights from, and others to judge by: those the network has not seen.

    Where it has seen none, as with a folder of files, one fold is set apart to learn from.
    """
    placed = list(cases.placed)
    if all(one.is_unseen for one in placed):
        first = min((one.fold for one in placed), default=0)
        return (
            [one.case for one in placed if one.fold == first],
            [one.case for one in placed if one.fold != first],
        )
    return (
        [one.case for one in placed if not one.is_unseen],
        [one.case for one in placed if one.is_unseen],
    )


def card_lines(package: Package, candidate: Candidate, gain: Gain, rows: Sequence[PairedRow]) -> list[str]:
    """What the card says of it."""
    return [
        f"Made from version {package.manifest.version} by `preread models compress`. {candidate.words} "
        f"{gain.bytes_after / 1e6:.2f} MB instead of {gain.bytes_before / 1e6:.2f} MB, {gain.speed:.2f} "
        "times as fast on the CPU it was made on (measured alternately). Figures over all folds are of "
        "networks that were not compressed and stay on the earlier version's card. Compressed minus original "
        "on the same cases, none of them trained on:",
        "",
        "| figure | original | compressed | difference, 95 % interval | n |",
        "|---|---|---|---|---|",
        *[
            f"| {row.metric} | {row.first:.3f} | {row.second:.3f} | {row.difference.value:+.4f}, "
            f"{row.difference.ci95[0]:+.4f} to {row.difference.ci95[1]:+.4f} | {row.n} {row.of} |"
            for row in rows
        ],
    ]


def _candidate(package: Package, seen: Sequence[Case], wish: Wish) -> Candidate:
    match wish.method:
        case "bf16":
            return in_bfloat16(package)
        case "int8":
            return in_integers(package, [case for case in seen if not case.is_simulated] or seen)
    assert wish.school is not None, "prune and distil are given one"
    school = replace(wish.school, cases=[*seen, *wish.school.cases])
    if wish.method == "prune":
        return with_fewer_channels(package, wish.share, school)
    assert wish.student is not None, "distil is given one"
    return as_student(package, wish.student, wish.teachers, school)


def _evaluation(package: Package, found: Beside) -> tuple[Evaluation, ...]:
    """Rows of this very file; those of other folds' networks are not its own."""
    rows = redeclared(package, found.results)
    return tuple(row for row in rows if row.subset in ("scored", "frozen"))


def _refuse_unchanged(both: Both, case: Case, method: Method) -> None:
    """A compressed network that computes the same is the one it was made from."""
    first, second = (predictor.predict(case.volume).probability for predictor in both)
    if float(np.abs(first - second).max()) < SAME:
        raise PrereadError(
            f"{method} changed nothing: the network is the one it was made from",
            where=both[1].package.manifest.id,
            remedy="It may be compressed already; `preread models show` says how.",
        )
