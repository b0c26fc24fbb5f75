"""`preread models ood`, `calibrate`, `uncertainty`: a package changed by what cases say of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from preread.commands.evaluation import DEFAULT_DATA, bar
from preread.commands.options import Config, DataFolder, Json, fail, print_json
from preread.commands.package_names import PackageName, package_named

if TYPE_CHECKING:
    from models.package import Package
    from models.training.cases import Case

Out = Annotated[
    Path, typer.Option(help="Folder of the package that is written; the package's own one is replaced.")
]
Version = Annotated[
    str | None, typer.Option(help="Version of what is written; without it the last number counts up.")
]


def ood(
    name: PackageName,
    out: Out,
    data: DataFolder = DEFAULT_DATA,
    version: Version = None,
    generated: Annotated[
        int | None,
        typer.Option(min=0, help="Generated cases to count as usual, too; else as many as were trained on."),
    ] = None,
    far: Annotated[
        Literal["refuse", "flag"], typer.Option(help="What happens to a study far from the training cases.")
    ] = "refuse",
    seed: Annotated[int, typer.Option(help="Seed of the generated cases, as in training.")] = 45,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Teach a package what its training cases look like: unusual inputs are flagged, far ones refused.

    Features of every case of the data folder (of a package without a recipe of ours: of the .npz files in it)
    give mean and spread; the limits are the 95th and 99.5th percentile of cases left out of the fit.
    """
    from models.ood.fitting import TooFewCases
    from models.ood.making import add_ood

    package = package_named(name, config)
    with bar(f"reading cases with {package.manifest.id}") as progress, _readable(TooFewCases):
        cases = generated_like(package, generated, seed)
        written, made = add_ood(
            package,
            data,
            out,
            version=version,
            released=_today(),
            generated=cases,
            far=far,
            progress=progress,
        )
    block = made.block
    shares = {
        part: {
            limit: made.flagged(getattr(block.limits, limit), unseen=part == "unseen")
            for limit in ("near", "far")
        }
        for part in ("all", "unseen")
    }
    if as_json:
        print_json({"package": written.folder, "ood": block.model_dump(mode="json"), "beyond": shares})
        return
    sys.stdout.write(
        f"{block.n} real cases ({block.n_unseen} unseen by the network) and {block.n_generated} generated, "
        f"{block.features} features, {block.components} components, shrinkage {block.shrinkage:.3f}\n"
        f"near from {block.limits.near:.2f}, far from {block.limits.far:.2f} "
        "(1: a typical case, left out of the fit)\n"
    )
    for part, share in shares.items():
        sys.stdout.write(
            f"{part} cases: {100 * share['near']:.1f} % beyond near, {100 * share['far']:.1f} % beyond far\n"
        )
    sys.stdout.write(f"\nPackage: {written.folder} {written.manifest.version}\n")


def calibrate(
    name: PackageName,
    out: Out,
    data: DataFolder = DEFAULT_DATA,
    version: Version = None,
    method: Annotated[
        Literal["best", "temperature", "isotonic", "none"],
        typer.Option(help="How scores are corrected; best: what is best on cases left out of its fit."),
    ] = "best",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Correct the class scores of a package on cases its training did not see: 0.8 is right 8 in 10."""
    from models.evaluation.add_calibration import add_calibration, card_sentence
    from models.evaluation.calibrating import METHODS, TooFewScores

    package = package_named(name, config)
    with bar(f"reading cases with {package.manifest.id}") as progress, _readable(TooFewScores):
        written = add_calibration(
            package,
            data,
            out,
            version=version,
            released=_today(),
            methods=METHODS if method == "best" else (method,),
            progress=progress,
        )
    block = written.manifest.calibration
    assert block is not None, "it was just written"
    if as_json:
        print_json({"package": written.folder, "calibration": block.model_dump(mode="json")})
        return
    sys.stdout.write(f"{card_sentence(block)}\n\nPackage: {written.folder} {written.manifest.version}\n")


def uncertainty(
    name: PackageName,
    out: Out,
    data: DataFolder = DEFAULT_DATA,
    version: Version = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Teach a package how sure its outlines are, on cases its training did not see.

    Dice is predicted from how alike the network outlines an image and its mirror image. Results say it only
    where keeping the surest cases was shown to keep the better ones.
    """
    from models.uncertainty.fitting import TooFewOutlines
    from models.uncertainty.making import add_uncertainty, card_sentence

    package = package_named(name, config)
    with bar(f"reading cases with {package.manifest.id}") as progress, _readable(TooFewOutlines):
        written = add_uncertainty(package, data, out, version=version, released=_today(), progress=progress)
    block = written.manifest.uncertainty
    assert block is not None, "it was just written"
    if as_json:
        print_json({"package": written.folder, "uncertainty": block.model_dump(mode="json")})
        return
    sys.stdout.write(f"{card_sentence(block)}\n\nPackage: {written.folder} {written.manifest.version}\n")


def generated_like(package: "Package", count: int | None, seed: int) -> "list[Case]":
    """Generated cases as the package's recipe mixes them in; none without one. `count`: other than its."""
    from models.training.judged_on import NotJudged, judged_on
    from preread.demo.generated_cases import generated_cases

    try:
        section = judged_on(package).recipe.generated
    except NotJudged:
        return []
    if section is None:
        return []
    return list(generated_cases(section.like, section.cases if count is None else count, seed=seed))


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


@contextmanager
def _readable(*too_few: type[ValueError]) -> Iterator[None]:
    from models.training.cases import CasesError
    from models.training.split import SplitError

    expected: tuple[type[Exception], ...] = (CasesError, SplitError, *too_few)
    try:
        yield
    except expected as error:
        raise fail(str(error)) from error
