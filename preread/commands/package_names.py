"""Which package a command is about: by id, or by the folder it lies in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preread.commands.options import fail, settings_and_logs

if TYPE_CHECKING:
    from models.package import Package

PackageName = Annotated[str, typer.Argument(metavar="NAME", help="Id of a package, or the folder of one.")]


def package_named(name: str, config: Path | None) -> "Package":
    """The package of that id or in that folder.

    Raises
    ------
    models.package.PackageError
        It is there, and may not run.
    typer.Exit
        There is none; standard error says which there are.
    """
    from models.package import installed_packages_folder, list_packages, load_package

    if Path(name).is_dir():
        return load_package(Path(name))
    settings = settings_and_logs(config)
    listings = list_packages([installed_packages_folder(), *settings.packages.folders])
    for listing in listings:
        if listing.package is not None and listing.package.manifest.id == name:
            return listing.package
        if listing.error is not None and listing.folder.name == name:
            raise listing.error
    known = ", ".join(listing.folder.name for listing in listings) or "none"
    raise fail(f"no package is called {name}. Known: {known}.")
