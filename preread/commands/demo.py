"""`preread demo`: the main job end to end, on this machine, in minutes."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from preread.commands.options import EXIT_FAILED, Json, let_libraries_be_quiet, wrong_use


def demo(
    studies: Annotated[
        Path | None,
        typer.Option(
            help="Send the DICOM studies found anywhere below this folder, in zip files too, instead of "
            "generated ones."
        ),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(metavar="AE@HOST:PORT", help="Use this archive instead of an embedded one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep the result objects in this folder, one folder per study.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave services and page running; Ctrl-C ends.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the generated studies.")] = 45,
    as_json: Json = False,
) -> None:
    """Push studies with known truth through archive, services and models, and tell what was found."""
    from config.logs import configure
    from preread.demo.run import Plan, run_demo
    from preread.demo.sender import Address

    try:
        address = Address.parse(archive) if archive is not None else None
    except ValueError as error:
        raise wrong_use(f"--archive: {error}") from None
    if studies is not None and not studies.is_dir():
        raise wrong_use(f"--studies: {studies} is not a folder")
    configure(level="warning")
    let_libraries_be_quiet()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_once)
    raise typer.Exit(run_demo(Plan(studies, address, out, keep, as_json, seed)))


def _leave_once(came: int, _: object) -> None:
    """Services are stopped and what they kept is removed; a second signal does not disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if came == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(EXIT_FAILED)
