"""The prepared folder: labelled cases in one form, whatever they were read from, and what was left out.

    cases.csv       name, group, stratum, class, sha256, truth_sha256; one row per case
    cases/NAME.npz  image, mask (slices, rows, columns), class_name; affine and spacings in mm where known
    excluded.csv    name, why

`sha256` is that of the pixels alone, so that the same picture under two names is seen; `truth_sha256` that of
mask, class and geometry. Nothing in the folder names a patient, but the pixels are a patient's.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.cases import Case, CasesError, Listed
from models.volume import Volume

TABLE, EXCLUDED, FOLDER = "cases.csv", "excluded.csv", "cases"
COLUMNS = ("name", "group", "stratum", "class", "sha256", "truth_sha256")
SHOWN_FAULTS = 12
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, eq=False)
class FoundCase:
    """A case as a reader found it."""

    name: str
    group: str  # patient, or group of near-duplicates
    class_name: str | None
    volume: Volume
    labels: NDArray[Any]  # (slices, rows, columns) 0 background; what else there is, the recipe says

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(slices, rows, columns) of everything that is labelled."""
        return np.asarray(self.labels > 0)


@dataclass(frozen=True)
class LeftOut:
    """What a reader did not take. `is_fault`: it should have been a case, and something is wrong with it."""

    name: str
    why: str
    is_fault: bool


@dataclass(frozen=True)
class _Row:
    name: str
    group: str
    class_name: str
    sha256: str
    truth_sha256: str
    voxels: int  # of the mask


def write_prepared(
    found: Iterable[FoundCase | LeftOut],
    folder: Path,
    classes: Sequence[str],
    *,
    faults_are_excluded: bool,
    structures: int = 0,
) -> list[LeftOut]:
    """Write everything that was found; returns what was left out.

    Parameters
    ----------
    structures : how many the labels number, 1 and up; 0: whatever is labelled is lesion

    Raises
    ------
    CasesError
        A fault, unless faults are to be excluded, or no case at all; each is named with its reason.
    """
    rows: dict[str, _Row] = {}
    left_out: list[LeftOut] = []
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for one in found:
        case = one if isinstance(one, LeftOut) else _checked(one, rows, classes, structures)
        if isinstance(case, LeftOut):
            left_out.append(case)
            continue
        _save(case, folder / FOLDER / f"{case.name}.npz")
        rows[case.name] = _Row(
            case.name,
            case.group,
            case.class_name or "",
            pixels_sha256(case.volume.array),
            truth_sha256(case.volume, case.labels, case.class_name),
            int(case.mask.sum()),
        )
    faults = [one for one in left_out if one.is_fault]
    if faults and not faults_are_excluded:
        raise CasesError(
            f"{len(faults)} cases cannot be used:\n"
            + "\n".join(f"  {one.name}: {one.why}" for one in faults[:SHOWN_FAULTS])
            + ("\n  …" if len(faults) > SHOWN_FAULTS else ""),
            remedy="Mend them, or leave them out by name with `data.faults: exclude` in the recipe.",
        )
    if not rows:
        reasons = "; ".join(f"{one.name}: {one.why}" for one in left_out[:3]) or "it is empty"
        raise CasesError(
            f"no case was found ({reasons})", remedy="Compare the folder with the recipe's data."
        )
    bands = size_bands([row.voxels for row in rows.values()])
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row, band in sorted(zip(rows.values(), bands, strict=True), key=lambda pair: pair[0].name):
            stratum = f"{row.class_name} {band}".strip()
            writer.writerow([row.name, row.group, stratum, row.class_name, row.sha256, row.truth_sha256])
    with (folder / EXCLUDED).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("name", "why"))
        writer.writerows((one.name, one.why) for one in left_out)
    return left_out


def _checked(
    case: FoundCase, rows: dict[str, _Row], classes: Sequence[str], structures: int
) -> FoundCase | LeftOut:
    """The case with its labels as numbers from 0, or what is wrong with it."""
    shape = case.volume.array.shape
    if not NAME.fullmatch(case.name):
        why = "its name must have letters, digits, '.', '_' and '-' only, at most 100"
    elif case.name in rows:
        why = "another case has this name"
    elif case.labels.shape != shape:
        why = f"its mask is {_size(case.labels.shape)}, its image {_size(shape)}"
    elif case.volume.array.min() == case.volume.array.max():
        why = "its image holds one value only"
    elif classes and case.class_name not in classes:
        why = f"its class is {case.class_name!r}, the recipe knows {', '.join(classes)}"
    elif structures and (
        unknown := sorted(set(np.unique(case.labels).tolist()) - set(range(structures + 1)))
    ):
        why = f"its mask holds {unknown[0]:g}, the recipe knows the structures 1 to {structures}"
    else:
        labels = case.labels if structures else case.labels > 0
        return replace(case, labels=labels.astype(np.uint8))
    return LeftOut(case.name, why, is_fault=True)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def size_bands(voxels: Sequence[int]) -> list[str]:
    """nothing, small, medium or large: thirds of the cases that have something to outline."""
    sizes = sorted(count for count in voxels if count)
    if not sizes:
        return ["nothing"] * len(voxels)
    low, high = sizes[len(sizes) // 3], sizes[2 * len(sizes) // 3]
    return [
        "nothing" if not count else "small" if count < low else "medium" if count < high else "large"
        for count in voxels
    ]


def list_prepared(folder: Path) -> list[Listed]:
    """The cases of a prepared folder, sorted by name.

    Raises
    ------
    CasesError
        It is none.
    """
    return [
        Listed(row["name"], row["group"], row["stratum"], row["sha256"], row["truth_sha256"], row["class"])
        for row in _rows(folder)
    ]


def load_prepared(folder: Path, item: Listed) -> Case:
    """Read one case, and compare its pixels and truth with the table.

    Raises
    ------
    CasesError
        It is missing, or was changed after it was prepared.
    """
    path = folder / FOLDER / f"{item.name}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {key: stored[key] for key in stored.files}
        spacing, between = arrays.get("pixel_spacing_mm"), arrays.get("slice_spacing_mm")
        volume = Volume(
            arrays["image"],
            arrays.get("affine"),
            None if spacing is None else (float(spacing[0]), float(spacing[1])),
            None if between is None else float(between),
        )
        labels, class_name = arrays["mask"], str(arrays["class_name"]) or None
    except (OSError, ValueError, KeyError) as error:
        raise CasesError(
            f"{path} cannot be read: {error}", remedy="Remove the folder; train again."
        ) from None
    found = pixels_sha256(volume.array), truth_sha256(volume, labels, class_name)
    if found != (item.sha256, item.truth_sha256 or found[1]):
        raise CasesError(
            f"{path} was changed after it was prepared", remedy="Remove the folder; train again."
        )
    return Case(item.name, item.group, item.stratum, volume, labels, class_name)


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / TABLE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise CasesError(
            f"{folder} holds no prepared cases",
            remedy="Give the folder that `preread models train` wrote with --out.",
        )
    return sorted(rows, key=lambda row: row["name"])


def _save(case: FoundCase, path: Path) -> None:
    volume = case.volume
    arrays: dict[str, Any] = {
        "image": volume.array,
        "mask": case.labels,
        "class_name": np.array(case.class_name or ""),
    }
    if volume.affine is not None:
        arrays["affine"] = volume.affine
    if volume.pixel_spacing_mm is not None:
        arrays["pixel_spacing_mm"] = np.array(volume.pixel_spacing_mm)
    if volume.slice_spacing_mm is not None:
        arrays["slice_spacing_mm"] = np.array(volume.slice_spacing_mm)
    np.savez_compressed(path, **arrays)


def pixels_sha256(array: NDArray[Any]) -> str:
    """Of kind, shape and values."""
    content = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def truth_sha256(volume: Volume, labels: NDArray[np.uint8], class_name: str | None) -> str:
    """Of what is true about an image, and of where it lies."""
    content = hashlib.sha256(f"{labels.shape} {class_name}".encode())
    has_structures = int(labels.max(initial=0)) > 1
    content.update(labels.tobytes() if has_structures else np.packbits(labels > 0).tobytes())
    affine = None if volume.affine is None else np.round(volume.affine, 6).tolist()
    content.update(f"{affine} {volume.pixel_spacing_mm} {volume.slice_spacing_mm}".encode())
    return content.hexdigest()
