"""The block of a judged explanation into a package's model.json; nothing else of the package changes."""

from __future__ import annotations

import json

from models.explanation.block import Explain
from models.package import (
    MANIFEST_NAME,
    REINSTALL,
    Package,
    PackageError,
    digest_of,
    load_package,
    parse_manifest,
)


def write_block(package: Package, block: Explain) -> Package:
    """Declare the block in the package's folder; returns the package as it is now, with another digest.

    Raises
    ------
    PackageError
        The folder holds another package by now.
    """
    path = package.folder / MANIFEST_NAME
    content = json.loads(path.read_bytes())
    if digest_of(content) != package.digest:
        raise PackageError("was changed while it was judged", where=str(path), remedy=REINSTALL)
    content["explain"] = block.model_dump(mode="json")
    parse_manifest(content, str(path))
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return load_package(package.folder)
