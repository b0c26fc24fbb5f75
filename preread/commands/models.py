"""`preread models`: the packages of this node: what they are, whether they may run, how well they do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.settings import Settings
from preread.commands.importing import finish, import_model
from preread.commands.options import (
    EXIT_FAILED,
    FIGURE_COLUMNS,
    Config,
    DataFolder,
    Json,
    fail,
    figure_row,
    print_json,
    print_table,
    settings_and_logs,
)
from preread.commands.training import train

if TYPE_CHECKING:
    from models.package import Package, PackageListing

Name = Annotated[str, typer.Argument(metavar="NAME", help="Id of a package, or the folder of one.")]
DEFAULT_DATA = Path("../shared/data")

app = typer.Typer(no_args_is_help=True, help="Model packages.")
app.command()(train)
app.command("import")(import_model)
app.command()(finish)


@app.command("list")
def list_models(config: Config = None, as_json: Json = False) -> None:
    """List the packages that run here, and why others do not."""
    from pipeline.packages import offer_of

    offer = offer_of(settings_and_logs(config))
    rows: list[dict[str, Any]] = [
        {
            "id": package.manifest.id,
            "version": package.manifest.version,
            "title": package.manifest.title,
            "runs": True,
            "why_not": None,
            "digest": package.digest,
            "folder": package.folder,
        }
        for package in offer.runs
    ]
    rows += [{"id": name, "runs": False, "why_not": str(error)} for name, error in offer.refused]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("package", "version", "title", "state"),
        [(row["id"], row.get("version"), row.get("title"), row["why_not"] or "runs") for row in rows],
        empty="No package. The shipped ones lie in models/packages; packages.folders names others.",
    )


@app.command()
def show(name: Name, config: Config = None, as_json: Json = False) -> None:
    """Show a package: purpose, figures with intervals, data and licence, limits."""
    package = _package(name, config)
    manifest = package.manifest
    if as_json:
        print_json({"digest": package.digest, "folder": package.folder, **manifest.model_dump(mode="json")})
        return
    card = manifest.card
    sys.stdout.write(f"{manifest.title} ({manifest.id} {manifest.version})\n{manifest.summary}\n\n")
    sys.stdout.write(f"For: {card.intended_use}\nNot for: {'; '.join(card.not_for)}\n")
    sys.stdout.write(f"Limits: {'; '.join(card.limits)}\nLicences: {'; '.join(card.licences)}\n\n")
    print_table(
        (*FIGURE_COLUMNS, "on"),
        [(*figure_row(figure), f"{figure.dataset}, {figure.subset}") for figure in manifest.evaluation],
        empty="No figures.",
    )
    sys.stdout.write(f"\nCard: {package.path('card')}\n")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Packages; all without.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check checksums and schema, and that this machine computes the golden case as the maker did."""
    from models.predictor import Predictor
    from pipeline.packages import offer_of

    settings = settings_and_logs(config)
    report: list[dict[str, Any]] = []
    packages = [_package(name, config) for name in names or []]
    if not names:
        offer = offer_of(settings)
        packages = list(offer.runs)
        report += [{"id": name, "passed": False, "message": str(error)} for name, error in offer.refused]
    for package in packages:
        predictor = Predictor(package, device=settings.worker.device, threads=settings.worker.threads)
        golden = predictor.verify_golden()
        report.append(
            {
                "id": package.manifest.id,
                "passed": golden.passed,
                "message": golden.message,
                "device": str(predictor.device),
                "probability_difference": golden.probability_difference,
                "class_difference": golden.class_difference,
            }
        )
    if as_json:
        print_json(report)
    for row in [] if as_json else report:
        sys.stdout.write(f"{row['id']}: {'passed' if row['passed'] else 'FAILED'}: {row['message']}\n")
    if not report:
        raise fail("no package was found. The shipped ones lie in models/packages.")
    if not all(row["passed"] for row in report):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def evaluate(
    name: Name,
    data: DataFolder = DEFAULT_DATA,
    frozen: Annotated[bool, typer.Option("--frozen", help="Only the frozen subset that CI checks.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure a package on the cases its training did not see: figures with 95 % intervals."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from models.evaluation.evaluate import evaluate_package

    package = _package(name, config)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"evaluating {package.manifest.id}", total=None)
        report = evaluate_package(
            package,
            data,
            subset="frozen" if frozen else "scored",
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    if as_json:
        print_json(asdict(report))
        return
    print_table(
        FIGURE_COLUMNS,
        [figure_row(figure) for figure in report.figures],
        empty="No figures.",
    )


def _listings(settings: Settings) -> "list[PackageListing]":
    from models.package import installed_packages_folder, list_packages

    return list_packages([installed_packages_folder(), *settings.packages.folders])


def _package(name: str, config: Path | None) -> "Package":
    from models.package import load_package

    if Path(name).is_dir():
        return load_package(Path(name))
    listings = _listings(settings_and_logs(config))
    for listing in listings:
        if listing.package is not None and listing.package.manifest.id == name:
            return listing.package
        if listing.error is not None and listing.folder.name == name:
            raise listing.error
    known = ", ".join(listing.folder.name for listing in listings) or "none"
    raise fail(f"no package is called {name}. Known: {known}.")
