"""The watch over our generic package names: runs first and stops the program when one is not ours.

`config`, `db` and `models` are names that other distributions use too, and a path entry before ours wins
silently. `preread` itself is unique, so the folder it lies in is the anchor: each of the six must resolve
beside it, and no other installed distribution may have written files under its name.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NoReturn

OUR_PACKAGES = ("config", "db", "models", "listener", "pipeline", "preread")
OUR_DISTRIBUTION = "preread"
EXIT_FAILED = 1


@dataclass(frozen=True)
class Trespass:
    """One of our package names that resolves elsewhere or has a second owner."""

    name: str
    ours: Path
    theirs: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"preread: the package {self.name!r} is not ours alone.\n"
            f"  ours:   {self.ours}\n  theirs: {self.theirs}\n  {self.remedy}"
        )


def house() -> Path:
    """The folder in which our six packages lie."""
    return Path(__file__).resolve().parent.parent


def trespasses() -> list[Trespass]:
    """Every package name that another place or distribution claims; empty when all is well."""
    return [*_resolved_elsewhere(), *_owned_twice(distributions())]


def check() -> None:
    """End the program with names, paths and remedy if a package is not ours; else return."""
    found = trespasses()
    if found:
        _leave(found)


def _resolved_elsewhere() -> list[Trespass]:
    found = []
    for name in OUR_PACKAGES:
        ours = house() / name
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == ours:
            continue
        theirs = "nothing: it is not on the path" if spec is None else str(spec.origin or _places(spec))
        remedy = (
            "Start preread from an environment of its own (scripts/setup makes one), with an empty "
            "PYTHONPATH and from a folder without a package of that name."
        )
        found.append(Trespass(name, ours, theirs, remedy))
    return found


def _places(spec: object) -> str:
    return ", ".join(str(place) for place in getattr(spec, "submodule_search_locations", None) or ["?"])


def _owned_twice(installed: Iterable[Distribution]) -> list[Trespass]:
    found = []
    for distribution in installed:
        # RECORD is read as text: parsing it for each distribution costs a quarter of a second at every start.
        record = "\n" + (distribution.read_text("RECORD") or "")
        names = [name for name in OUR_PACKAGES if f"\n{name}/" in record]
        title = str(distribution.metadata["Name"]) if names else ""
        if title.lower() == OUR_DISTRIBUTION:
            continue
        found += [
            Trespass(
                name,
                house() / name,
                f"the distribution {title}, in {distribution.locate_file(name)}",
                f"Remove it (pip uninstall {title}), then install preread again.",
            )
            for name in names
        ]
    return found


def _leave(found: list[Trespass]) -> NoReturn:
    sys.stderr.write("\n".join(str(trespass) for trespass in found) + "\n")
    sys.exit(EXIT_FAILED)
