"""`preread models`: the packages of this node: what they are, whether they may run, how well they do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.settings import Settings
from preread.commands.options import (
    EXIT_FAILED,
    Config,
    Json,
    fail,
    print_json,
    print_table,
    settings_and_logs,
)

if TYPE_CHECKING:
    from models.evaluation.evaluate import Figure
    from models.manifest import Evaluation
    from models.package import Package, PackageListing

Name = Annotated[str, typer.Argument(metavar="NAME", help="Id of a package, or the folder of one.")]
DataFolder = Annotated[
    Path, typer.Option("--data", help="Folder of labelled data that holds a folder for each data set.")
]
DEFAULT_DATA = Path("../shared/data")

app = typer.Typer(no_args_is_help=True, help="Model packages.")


@app.command("list")
def list_models(config: Config = None, as_json: Json = False) -> None:
    """List the packages found, and why one cannot run."""
    listings = _listings(settings_and_logs(config))
    if as_json:
        print_json([_summary(listing) for listing in listings])
    else:
        rows = [_summary(listing) for listing in listings]
        print_table(
            ("package", "version", "title", "state", "folder"),
            [
                (row["id"], row["version"], row["title"], row["error"] or "verified", row["folder"])
                for row in rows
            ],
            empty="No package. The shipped ones lie in models/packages; packages.folders names others.",
        )
    if any(listing.error for listing in listings):
        raise typer.Exit(EXIT_FAILED)


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
        ("figure", "value", "95 % interval", "cases", "on"),
        [(*_figure(figure), f"{figure.dataset}, {figure.subset}") for figure in manifest.evaluation],
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

    settings = settings_and_logs(config)
    if names:
        packages, broken = [_package(name, config) for name in names], []
    else:
        listings = _listings(settings)
        packages = [listing.package for listing in listings if listing.package is not None]
        broken = [_summary(listing) for listing in listings if listing.package is None]
    report: list[dict[str, Any]] = [
        {"id": row["id"], "passed": False, "message": row["error"]} for row in broken
    ]
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
        ("figure", "value", "95 % interval", "cases"),
        [_figure(figure) for figure in report.figures],
        empty="No figures.",
    )


def _figure(figure: "Evaluation | Figure") -> tuple[str, str, str, str]:
    low, high = figure.ci95
    return figure.metric, f"{figure.value:.3f}", f"{low:.3f} to {high:.3f}", f"{figure.n} {figure.unit}"


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


def _summary(listing: "PackageListing") -> dict[str, Any]:
    manifest = listing.package.manifest if listing.package is not None else None
    return {
        "id": manifest.id if manifest else listing.folder.name,
        "version": manifest.version if manifest else None,
        "title": manifest.title if manifest else None,
        "digest": listing.package.digest if listing.package else None,
        "error": str(listing.error) if listing.error else None,
        "folder": listing.folder,
    }
