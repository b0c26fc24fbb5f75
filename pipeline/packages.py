"""Which model packages run on this node: intact, enabled, accepted by digest when not shipped."""

from __future__ import annotations

from dataclasses import dataclass

from config.errors import PrereadError
from config.settings import Settings
from models.package import Package, PackageListing, installed_packages_folder, list_packages
from models.sorting.package import SorterListing, SorterPackage, list_sorters


@dataclass(frozen=True)
class Offer:
    """The packages of a node: those that run, by id, and why the others do not.

    Parameters
    ----------
    runs : sorted by id; the place of a package in it gives its results their series numbers
    refused : (name of the folder, why)
    sorter : what judges series from their pixels; None where none is installed or wanted
    """

    runs: tuple[Package, ...]
    refused: tuple[tuple[str, PrereadError], ...]
    sorter: SorterPackage | None = None

    def package(self, model: str) -> Package:
        """The package with an id.

        Raises
        ------
        PrereadError
            It does not run here (any more).
        """
        for package in self.runs:
            if package.manifest.id == model:
                return package
        raise PrereadError(
            f"the model {model} does not run on this node",
            where="packages",
            remedy="Run `preread models list` to see why, or ask for the study to be analysed again.",
        )

    def slot(self, model: str) -> int:
        """Place of a model among those that run, 0-based."""
        return [package.manifest.id for package in self.runs].index(model)


def offer_of(settings: Settings) -> Offer:
    """Look at the shipped packages and those of `packages.folders`; reads and checks every file of each."""
    runs: dict[str, Package] = {}
    refused: list[tuple[str, PrereadError]] = []
    shipped = installed_packages_folder()
    for folder in (shipped, *settings.packages.folders):
        for listing in list_packages([folder]):
            error = _refusal(listing, settings, is_shipped=folder == shipped)
            if error is None and listing.package is not None and listing.package.manifest.id in runs:
                error = PrereadError(
                    f"another package has the id {listing.package.manifest.id}",
                    where=str(listing.folder),
                    remedy="Remove one of the two.",
                )
            if error is not None:
                refused.append((listing.folder.name, error))
            elif listing.package is not None:
                runs[listing.package.manifest.id] = listing.package
    sorter = _sorter(settings, refused)
    return Offer(tuple(runs[name] for name in sorted(runs)), tuple(refused), sorter)


def _sorter(settings: Settings, refused: list[tuple[str, PrereadError]]) -> SorterPackage | None:
    """The first sorter that may run; why others may not is added to `refused`."""
    shipped = installed_packages_folder()
    found: SorterPackage | None = None
    for folder in (shipped, *settings.packages.folders) if settings.packages.pixels != "off" else ():
        for listing in list_sorters([folder]):
            error = _refusal(listing, settings, is_shipped=folder == shipped)
            if error is None and found is not None:
                error = PrereadError(
                    f"another sorter runs: {found.manifest.id}",
                    where=str(listing.folder),
                    remedy="Remove one.",
                )
            if error is not None:
                refused.append((listing.folder.name, error))
            else:
                found = listing.package
    return found


def _refusal(
    listing: PackageListing | SorterListing, settings: Settings, *, is_shipped: bool
) -> PrereadError | None:
    if listing.package is None:
        return listing.error
    name, digest = listing.package.manifest.id, listing.package.digest
    if settings.packages.enabled is not None and name not in settings.packages.enabled:
        return PrereadError(
            "not enabled", where=name, remedy="Add it to packages.enabled in the settings to run it."
        )
    if not is_shipped and settings.packages.accepted.get(name) != digest:
        return PrereadError(
            "its digest is not accepted",
            where=name,
            remedy=f"If you trust it, set packages.accepted to {{{name}: {digest}}}.",
        )
    return None
