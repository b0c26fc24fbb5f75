"""`preread models import` and `finish`: a model that others made becomes a draft, and the draft a package."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from preread.commands.options import Json, fail, print_json

_SIDES = re.compile(r"[LR][PA][HF]|[LR][HF][PA]|[PA][LR][HF]|[PA][HF][LR]|[HF][LR][PA]|[HF][PA][LR]")


def import_model(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="Folder or zip of nnU-Net v2 or of a MONAI bundle, or .onnx."),
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the draft.")],
    package_id: Annotated[
        str | None, typer.Option("--id", help="Id of the package; else the name of the new folder.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Which label is the finding; again for more, drawn as one."),
    ] = None,
    structures: Annotated[
        bool,
        typer.Option(
            "--structures",
            help="Each label is a structure with a segment of its own; so it is for several without --label.",
        ),
    ] = False,
    folds: Annotated[
        list[str] | None, typer.Option("--fold", help="Which folds of nnU-Net; again for more. All without.")
    ] = None,
    orientation: Annotated[
        str,
        typer.Option(
            "--orientation",
            help="Where columns, rows and slices of the model's volumes run: L or R, P or A, H or F.",
        ),
    ] = "LPH",
    window: Annotated[
        str | None,
        typer.Option("--window", help="Window of an ONNX graph whose sizes are not fixed, such as 128x128."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read a foreign model without running it; write a draft and IMPORT.md, which says what to fill."""
    from models.adapters.importing import import_model as read_and_write
    from models.adapters.reading import Wishes
    from models.grid_steps import OrientGrid

    name = package_id or out.name
    if not re.fullmatch(r"[a-z][a-z0-9-]{2,63}", name):
        raise fail(f"{name!r} is no id: small letters, digits and hyphens, 3 to 64. Give one with --id.")
    if not _SIDES.fullmatch(orientation):
        raise fail(f"{orientation!r} is no orientation. Give three letters such as LPH or RAH.")
    if window is not None and not re.fullmatch(r"\d{1,4}(x\d{1,4}){1,2}", window):
        raise fail(f"{window!r} is no window. Give two or three sizes such as 128x128.")
    sizes = tuple(int(size) for size in window.split("x")) if window else ()
    orient = OrientGrid.model_validate(
        {
            "step": "orient_grid",
            **dict(zip(("columns", "rows", "slices"), orientation, strict=True)),
        }
    )
    wishes = Wishes(tuple(labels or ()), tuple(folds or ()), orient, sizes, structures)
    reading = read_and_write(path, out, name, wishes, datetime.now(UTC).date())
    if as_json:
        print_json({"id": name, "folder": out, "read": reading.read, "guessed": reading.guessed})
        return
    sys.stdout.write("Read:\n" + "".join(f"  {sentence}\n" for sentence in reading.read))
    sys.stdout.write("Guessed:\n" + "".join(f"  {sentence}\n" for sentence in reading.guessed))
    sys.stdout.write(
        f"\n{out} is a draft and does not run. {out / 'IMPORT.md'} says what a person must fill.\n"
    )


def finish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A filled draft of `models import`.")],
    golden_input: Annotated[
        Path, typer.Option("--golden-input", help="npz with image, affine and spacings.")
    ],
    golden_expected: Annotated[
        Path, typer.Option("--golden-expected", help="npz with the probability the original gives for it.")
    ],
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest difference of a probability.", min=1e-6, max=0.2)
    ] = 0.02,
    as_json: Json = False,
) -> None:
    """Make a package of a filled draft, if this machine computes what the original computed."""
    from models.adapters.finishing import finish as finish_draft

    finished = finish_draft(folder, golden_input, golden_expected, tolerance=tolerance)
    package, golden = finished.package, finished.golden
    if as_json:
        print_json(
            {
                "id": package.manifest.id,
                "digest": package.digest,
                "folder": package.folder,
                "probability_difference": golden.probability_difference,
                package.manifest.findings.kind: golden.lesions,
            }
        )
        return
    sys.stdout.write(
        f"{package.manifest.id} {package.manifest.version} is a package: its golden case comes out with a "
        f"largest difference of {golden.probability_difference:.4f}.\n"
        "To run it, add to the settings:\n"
        f"packages:\n  folders: [{package.folder.resolve().parent}]\n"
        f"  accepted: {{{package.manifest.id}: {package.digest}}}\n"
    )
