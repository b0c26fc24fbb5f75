"""`preread models explain`: whether the heat maps of a package may be shown."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from preread.commands.evaluation import DEFAULT_DATA, Frozen, bar, readable_data
from preread.commands.options import Config, DataFolder, Json, fail, print_json, print_table
from preread.commands.package_names import PackageName, package_named

if TYPE_CHECKING:
    from models.explanation.block import Explain, ExplainSanity
    from models.explanation.trust import TrustFigures


def explain(
    name: PackageName,
    data: DataFolder = DEFAULT_DATA,
    method: Annotated[
        Literal["grad-cam", "occlusion"], typer.Option(help="How the maps are made.")
    ] = "grad-cam",
    layer: Annotated[
        str | None, typer.Option(help="Layer of Grad-CAM; else the deepest that all of the class head reads.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for explain.json and attention.png; holds pictures of patients."),
    ] = None,
    frozen: Frozen = False,
    write: Annotated[
        bool,
        typer.Option("--write", help="Declare the outcome in the package's model.json; changes its digest."),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Test the heat maps of a package's classes on cases its training did not see.

    They are shown to readers only after `--write`, and only if they pass: shuffled weights must change them,
    their heat must lie in the lesion, a shift of two pixels must not move them.
    """
    from models.explanation.attending import DEFAULT_LAYER, Recipe
    from models.explanation.judging import judge_explanation, write_judged
    from models.explanation.packing import write_block
    from models.predictor import Predictor

    package = package_named(name, config)
    recipe = Recipe(method, (layer or DEFAULT_LAYER) if method == "grad-cam" else None)
    with bar(f"explaining with {package.manifest.id}") as progress, readable_data():
        try:
            judged = judge_explanation(
                Predictor(package), data, recipe, subset="frozen" if frozen else "scored", progress=progress
            )
        except ValueError as error:
            raise fail(str(error)) from error
    if out is not None:
        write_judged(judged, package.digest, out)
    digest = write_block(package, judged.block).digest if write else None
    if as_json:
        print_json(
            {
                "block": judged.block.model_dump(mode="json"),
                "faults": judged.block.sanity.faults,
                "digest": digest,
            }
        )
        return
    _show(judged.block, judged.figures)
    if out is not None:
        sys.stdout.write(f"\nPictures: {out / 'attention.png'}\n")
    if digest is not None:
        sys.stdout.write(f"\nWritten into {package.folder}; its digest is now {digest}.\n")


def _show(block: "Explain", figures: "TrustFigures") -> None:
    sanity = block.sanity
    layer = f" at {sanity.layer}" if sanity.layer else ""
    sys.stdout.write(
        f"{sanity.tried}{layer}, {sanity.n} {sanity.dataset} cases with a finding ({sanity.subset})\n\n"
    )
    print_table(("test", "found", "95 % interval", "wanted"), sanity_rows(sanity), empty="Nothing.")
    print_table(
        ("weights shuffled", "likeness to the true map"),
        [
            (
                f"{100 * share:.0f} %",
                f"{sum(c.ssim_by_stage[k] for c in figures.cases) / len(figures.cases):.3f}",
            )
            for k, share in enumerate(figures.stages)
        ],
        empty="Nothing.",
    )
    verdict = "Passed: the maps may be shown." if not sanity.faults else "NOT PASSED: no map is shown."
    sys.stdout.write(f"\n{verdict}\n" + "".join(f"- {fault}\n" for fault in sanity.faults))


def sanity_rows(sanity: "ExplainSanity") -> list[tuple[str, str, str, str]]:
    """The three tests as lines of a table."""
    from models.explanation.limits import ENERGY_RATIO_MIN, SHIFT_SSIM_MIN

    difference = sanity.ssim_randomised - sanity.ssim_random_pairs

    def ends(ci95: tuple[float, float]) -> str:
        return f"{ci95[0]:.3f} to {ci95[1]:.3f}"

    return [
        (
            "likeness with all weights shuffled, minus that of two different images",
            f"{sanity.ssim_randomised:.3f} - {sanity.ssim_random_pairs:.3f} = {difference:+.3f}",
            ends(sanity.ssim_difference_ci95),
            "below 0",
        ),
        (
            f"share of heat inside the lesion by its share of the image ({sanity.n_lesions} cases)",
            f"{sanity.energy_ratio:.2f}",
            ends(sanity.energy_ratio_ci95),
            f"at least {ENERGY_RATIO_MIN:g}",
        ),
        (
            "likeness after a shift of two pixels",
            f"{sanity.shift_ssim:.3f}",
            ends(sanity.shift_ssim_ci95),
            f"at least {SHIFT_SSIM_MIN:g}",
        ),
    ]
