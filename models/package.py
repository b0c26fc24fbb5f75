"""Read and check a model package: a folder with model.json, weights, card and golden case. No code inside, no
torch.

A package is refused by name of what is wrong: format, schema, a missing, changed or unlisted file. The
weights' names and shapes are compared with the declared network when a Predictor is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.errors import PrereadError
from models.manifest import FORMAT, FileRole, Manifest, PackageFile

MANIFEST_NAME = "model.json"
DRAFT_NAME = "draft.json"  # of an import that is not finished, see models.adapters.draft
SCHEMA_NAME = "package.schema.json"
SCHEMA_DRAFT = "https://json-schema.org/draft/2020-12/schema"
MANIFEST_BYTES_MAX = 256 * 1024
SORT = "sort"  # the task of a package that no study is read with
REINSTALL = "install the package again from its source; a package that was changed does not run"


class PackageError(PrereadError):
    """A folder that is not a package, or one that was changed."""


@dataclass(frozen=True)
class Package:
    """A checked package. `digest` is the sha256 of the canonical JSON of model.json, which holds all
    checksums.
    """

    manifest: Manifest
    folder: Path
    digest: str

    def path(self, role: FileRole) -> Path:
        """Path of the file with a role that occurs once."""
        return self.folder / self.manifest.file(role).path


@dataclass(frozen=True)
class PackageListing:
    """A folder that claims to be a package: the package, or why it is none."""

    folder: Path
    package: Package | None
    error: PackageError | None


def installed_packages_folder() -> Path:
    """The folder of the packages shipped with preread."""
    return Path(__file__).parent / "packages"


def load_package(folder: Path) -> Package:
    """Read and verify a package.

    Raises
    ------
    PackageError
        Not a package, another format, a schema violation, or a file that is missing, changed or not listed.
    """
    content = read_content(folder)
    if _kind_of(content) == SORT:
        raise PackageError(
            "sorts series and reads no study by itself",
            where=str(folder),
            remedy="Nothing to do: it is used when series are chosen; `preread models show` describes it.",
        )
    manifest = parse_manifest(content, str(folder / MANIFEST_NAME))
    check_files(manifest.files, folder)
    return Package(manifest, folder, digest_of(content))


def read_content(folder: Path) -> Any:
    """The decoded text of a package, whatever it says.

    Raises
    ------
    PackageError
        There is none, it is too large, or no JSON.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file() and (folder / DRAFT_NAME).is_file():
        raise PackageError(
            "imported and not verified",
            where=str(folder),
            remedy=f"Fill {DRAFT_NAME} and run `preread models finish`; IMPORT.md says how.",
        )
    if not path.is_file():
        raise PackageError(
            f"no {MANIFEST_NAME}", where=str(folder), remedy="Give the folder of a model package."
        )
    if path.stat().st_size > MANIFEST_BYTES_MAX:
        raise PackageError(f"larger than {MANIFEST_BYTES_MAX} bytes", where=str(path), remedy=REINSTALL)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise PackageError(f"not readable as JSON: {error}", where=str(path), remedy=REINSTALL) from error


def is_sorter(folder: Path) -> bool:
    """Whether a folder says that it is a package of the series sorter, see `models.sorting.package`."""
    try:
        return _kind_of(read_content(folder)) == SORT
    except PackageError:
        return False


def _kind_of(content: Any) -> object:
    task = content.get("task") if isinstance(content, dict) else None
    return task.get("kind") if isinstance(task, dict) else None


def parse_manifest(content: Any, where: str) -> Manifest:
    """Check decoded JSON against the schema; raises PackageError that names the first fields at fault."""
    if not isinstance(content, dict):
        raise PackageError("holds no JSON object", where=where, remedy=REINSTALL)
    found = content.get("format")
    if found != FORMAT:
        raise PackageError(
            f"unknown format {found!r}, this version reads {FORMAT}",
            where=where,
            remedy="Use a package made for this version of preread.",
        )
    try:
        # Through JSON mode, where a list is a tuple: the types stay strict otherwise.
        return Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        faults = [f"{place_of_fault(fault)}: {fault['msg']}" for fault in error.errors()[:3]]
        raise PackageError(
            f"does not follow the schema ({'; '.join(faults)})",
            where=where,
            remedy=f"Compare it with models/{SCHEMA_NAME}.",
        ) from error


def place_of_fault(fault: ErrorDetails) -> str:
    """The field at fault, as it is written in the file: without the names of alternatives."""
    parts = [str(part) for part in fault["loc"] if "@" not in str(part)]
    if fault["type"] == "union_tag_invalid":
        parts.append(str(fault["ctx"]["discriminator"]).strip("'"))
    return ".".join(parts) or MANIFEST_NAME


def check_files(files: Sequence[PackageFile], folder: Path) -> None:
    """Every listed file is there, unchanged and no link; nothing else is there."""
    listed = {item.path for item in files} | {MANIFEST_NAME}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise PackageError(f"{name} is a link", where=str(folder), remedy=REINSTALL)
        if path.is_file() and name not in listed:
            raise PackageError(
                f"{name} is not listed in {MANIFEST_NAME}",
                where=str(folder),
                remedy="Remove it or " + REINSTALL,
            )
    for item in files:
        path = folder / item.path
        if not path.is_file():
            raise PackageError(f"{item.path} ({item.role}) is missing", where=str(folder), remedy=REINSTALL)
        if path.stat().st_size != item.bytes or hash_of(path) != item.sha256:
            raise PackageError(
                f"{item.path} ({item.role}) does not have the checksum the package declares",
                where=str(folder),
                remedy=REINSTALL,
            )


def list_packages(folders: Iterable[Path]) -> list[PackageListing]:
    """Every sub-folder of the given folders, sorted by name, with its package or its error.

    Sorters are left out: see `models.sorting.package.list_sorters`.
    """
    listings = []
    for folder in folders:
        if not folder.is_dir():
            continue
        for candidate in sorted(
            path
            for path in folder.iterdir()
            if path.is_dir() and path.name[0] not in "._" and not is_sorter(path)
        ):
            try:
                listings.append(PackageListing(candidate, load_package(candidate), None))
            except PackageError as error:
                listings.append(PackageListing(candidate, None, error))
    return listings


def canonical_json(content: Any) -> bytes:
    """One spelling of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(content: Any) -> str:
    """Digest of the decoded model.json."""
    return hashlib.sha256(canonical_json(content)).hexdigest()


def hash_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def package_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of model.json, as shipped in models/package.schema.json."""
    schema = Manifest.model_json_schema(mode="validation")
    return {**schema, "$schema": SCHEMA_DRAFT, "title": FORMAT}


def write_schema() -> Path:
    """Write the shipped schema again after the manifest's types changed; a test keeps the two in step."""
    path = Path(__file__).parent / SCHEMA_NAME
    path.write_text(json.dumps(package_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path
