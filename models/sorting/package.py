"""Read and check a sorter's package, as `models.package` does with those that read studies.

The same rules: a plain folder, every file listed with its checksum, no links, no code, a bound on the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.manifest import FORMAT, FileRole
from models.package import (
    MANIFEST_NAME,
    SCHEMA_DRAFT,
    PackageError,
    check_files,
    digest_of,
    is_sorter,
    place_of_fault,
    read_content,
)
from models.sorting.manifest import SorterManifest

SCHEMA_NAME = "sorter.schema.json"


@dataclass(frozen=True)
class SorterPackage:
    """A checked package; `digest` as of `models.package.Package`."""

    manifest: SorterManifest
    folder: Path
    digest: str

    def path(self, role: FileRole) -> Path:
        """Path of the file with a role that occurs once."""
        found = next(item for item in self.manifest.files if item.role == role)
        return self.folder / found.path

    @property
    def name(self) -> str:
        """Id and version, as results name it."""
        return f"{self.manifest.id} {self.manifest.version}"


@dataclass(frozen=True)
class SorterListing:
    """A folder that claims to be a sorter: the package, or why it is none."""

    folder: Path
    package: SorterPackage | None
    error: PackageError | None


def load_sorter(folder: Path) -> SorterPackage:
    """Read and verify a sorter's package.

    Raises
    ------
    PackageError
        Not a sorter, another format, a schema violation, or a file that is missing, changed or not listed.
    """
    content = read_content(folder)
    manifest = parse_sorter(content, str(folder / MANIFEST_NAME))
    check_files(manifest.files, folder)
    return SorterPackage(manifest, folder, digest_of(content))


def parse_sorter(content: Any, where: str) -> SorterManifest:
    """Check decoded JSON against the schema; raises PackageError that names the first fields at fault."""
    remedy = f"Compare it with models/sorting/{SCHEMA_NAME}."
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PackageError(f"is not of the format {FORMAT}", where=where, remedy=remedy)
    try:
        return SorterManifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        faults = [f"{place_of_fault(fault)}: {fault['msg']}" for fault in error.errors()[:3]]
        raise PackageError(
            f"does not follow the schema ({'; '.join(faults)})", where=where, remedy=remedy
        ) from error


def list_sorters(folders: Iterable[Path]) -> list[SorterListing]:
    """Every sub-folder of the given folders that says it is a sorter, sorted by name."""
    listings = []
    for folder in folders:
        if not folder.is_dir():
            continue
        for candidate in sorted(path for path in folder.iterdir() if path.is_dir() and is_sorter(path)):
            try:
                listings.append(SorterListing(candidate, load_sorter(candidate), None))
            except PackageError as error:
                listings.append(SorterListing(candidate, None, error))
    return listings


def sorter_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a sorter's model.json."""
    schema = SorterManifest.model_json_schema(mode="validation")
    return {**schema, "$schema": SCHEMA_DRAFT, "title": f"{FORMAT} sort"}


def write_sorter_schema() -> Path:
    """Write the shipped schema again after the types changed; a test keeps the two in step."""
    path = Path(__file__).parent / SCHEMA_NAME
    path.write_text(json.dumps(sorter_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path
