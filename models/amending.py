"""A package with something added: a block, a file, other weights. The old one stays until the end.

The card gets a section, and the result must load and pass its golden case before it takes its place. Where
answers change by intent, the golden answer is that of what was written; otherwise it stays the maker's.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.manifest import FileRole, Manifest, PackageFile
from models.package import MANIFEST_NAME, Package, digest_of, hash_of, load_package
from models.predictor import Predictor, read_golden_arrays
from models.training.build import write_golden


def amend_package(
    package: Package,
    out: Path,
    *,
    version: str | None,
    released: str,
    blocks: Mapping[str, Any],
    files: Mapping[str, tuple[FileRole, bytes]],
    section: tuple[str, Sequence[str]],
    answers_change: bool,
    without: Collection[FileRole] = (),
) -> Package:
    """Write the package with the changes into `out`, which may be its own folder.

    Parameters
    ----------
    version : None counts the last number up
    blocks : fields of the manifest that change
    files : new content by path; another file of the same role is dropped
    section : heading of the card and its lines; an earlier section of that heading is replaced
    answers_change : the golden answer is computed again; otherwise the old one must come out
    without : roles whose files go; their blocks are in `blocks`, as None

    Raises
    ------
    PrereadError
        What was written does not load, or does not repeat its golden case.
    """
    folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package.folder, folder)
    old = package.manifest
    roles = {role for role, _ in files.values()} | set(without)
    kept = {item.path: item.role for item in old.files}
    for path, role in list(kept.items()):
        if role in roles:
            (folder / path).unlink()
            del kept[path]
    for path, (role, content) in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        kept[path] = role
    card = folder / old.file("card").path
    number = version or next_version(old.version)
    title = re.sub(
        rf"^(# .*\({re.escape(old.id)} ){re.escape(old.version)}\)",
        rf"\g<1>{number})",
        card.read_text(encoding="utf-8"),
        count=1,
    )
    card.write_text(with_section(title, *section), encoding="utf-8")

    def manifest(update: Mapping[str, Any]) -> Manifest:
        listed = tuple(
            PackageFile(
                path=path, role=role, bytes=(folder / path).stat().st_size, sha256=hash_of(folder / path)
            )
            for path, role in kept.items()
        )
        changed = {"version": number, "released": released, "files": listed, **blocks, **update}
        # Validated anew: a copy alone would not check that blocks and files agree.
        return Manifest.model_validate({**dict(old), **changed})

    golden = old.golden
    if answers_change:
        draft = manifest({})
        predictor = Predictor(Package(draft, folder, digest_of(draft.model_dump(mode="json"))), device="cpu")
        golden = write_golden(predictor, read_golden_arrays(package), golden)
    text = json.dumps(manifest({"golden": golden}).model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
    report = Predictor(load_package(folder), device="cpu").verify_golden()
    if not report.passed:
        raise RuntimeError(f"{folder}: the golden case does not repeat itself: {report.message}")
    shutil.rmtree(out, ignore_errors=True)
    folder.rename(out)
    return load_package(out)


def next_version(version: str) -> str:
    """1.2.3 -> 1.2.4."""
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def with_section(card: str, heading: str, lines: Sequence[str]) -> str:
    """The card with a section at its end, in place of an earlier one of that heading."""
    without = re.sub(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", "", card, flags=re.MULTILINE | re.DOTALL)
    return without.rstrip() + "\n\n" + "\n".join([f"## {heading}", "", *lines]) + "\n"
