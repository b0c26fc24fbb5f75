"""`preread models`: the packages of this node: what they are, whether they may run, how well they do."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from preread.commands.amending import calibrate, ood, uncertainty
from preread.commands.compressing import compress
from preread.commands.evaluation import compare, evaluate
from preread.commands.explaining import explain, sanity_rows
from preread.commands.importing import finish, import_model
from preread.commands.options import (
    EXIT_FAILED,
    FIGURE_COLUMNS,
    Config,
    Json,
    fail,
    figure_row,
    print_json,
    print_table,
    settings_and_logs,
)
from preread.commands.package_names import PackageName, package_named
from preread.commands.predicting import predict
from preread.commands.recipes import init
from preread.commands.sorting import golden_row, show_sorter, sorter_named
from preread.commands.training import train

app = typer.Typer(no_args_is_help=True, help="Model packages.")
app.command()(init)
app.command()(train)
app.command("import")(import_model)
app.command()(finish)
app.command()(predict)
app.command()(evaluate)
app.command()(compare)
app.command()(explain)
app.command()(ood)
app.command()(calibrate)
app.command()(uncertainty)
app.command()(compress)


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
        for package in (*offer.runs, *([offer.sorter] if offer.sorter is not None else ()))
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
def show(name: PackageName, config: Config = None, as_json: Json = False) -> None:
    """Show a package: purpose, figures with intervals, data and licence, limits."""
    if (sorter := sorter_named(name, config)) is not None:
        show_sorter(sorter, as_json)
        return
    package = package_named(name, config)
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
    if manifest.explain is not None:
        shown = "shown" if manifest.explain.method != "none" else "not shown"
        sys.stdout.write(f"\nHeat maps by {manifest.explain.sanity.tried}: {shown}\n")
        print_table(
            ("test", "found", "95 % interval", "wanted"), sanity_rows(manifest.explain.sanity), empty=""
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
    sorters = [sorter for name in names or [] if (sorter := sorter_named(name, config)) is not None]
    known = {sorter.manifest.id for sorter in sorters} | {str(sorter.folder) for sorter in sorters}
    packages = [package_named(name, config) for name in names or [] if not known & {name, str(Path(name))}]
    if not names:
        offer = offer_of(settings)
        packages = list(offer.runs)
        sorters = [] if offer.sorter is None else [offer.sorter]
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
    report += [golden_row(sorter) for sorter in sorters]
    if as_json:
        print_json(report)
    for row in [] if as_json else report:
        sys.stdout.write(f"{row['id']}: {'passed' if row['passed'] else 'FAILED'}: {row['message']}\n")
    if not report:
        raise fail("no package was found. The shipped ones lie in models/packages.")
    if not all(row["passed"] for row in report):
        raise typer.Exit(EXIT_FAILED)
