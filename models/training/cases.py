"""Labelled cases for training and evaluation: two known data folders, .npz files, any other once prepared.

A case is a Volume, labels on its grid, and for images a class. Labels and pixels stay in memory; nothing is
written here (see prepared).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from config.errors import PrereadError
from models.volume import Volume

DataKind = Literal["brain-flair", "breast-us", "own"]  # own: any other, see recipe_file
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class CasesError(PrereadError):
    """A data folder or case file that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled volume or image."""

    name: str
    group: str  # patient, or group of near-duplicates: never on both sides of a split
    stratum: str  # what folds are balanced by: institution, or class
    volume: Volume
    labels: NDArray[np.uint8]  # (slices, rows, columns) 0 background; 1 lesion, or the number of a structure
    class_name: str | None
    is_simulated: bool = False

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(slices, rows, columns) of everything that is labelled."""
        return self.labels > 0


@dataclass(frozen=True)
class Listed:
    """A case before its pixels are read, with what a split needs."""

    name: str
    group: str
    stratum: str
    sha256: str
    truth_sha256: str = ""  # of the mask; with sha256 it names what a case teaches
    class_name: str = ""


def list_cases(kind: DataKind, folder: Path) -> list[Listed]:
    """Names, groups and content hashes of a data folder, sorted by name.

    Raises
    ------
    CasesError
        The folder or its table is missing.
    """
    if kind == "own":
        from models.training.prepared import list_prepared

        return list_prepared(folder)
    table = folder / ("cases.csv" if kind == "brain-flair" else "images.csv")
    if not table.is_file():
        raise CasesError(f"{table} is missing; give the folder {kind} of the labelled data")
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if kind == "brain-flair":
        rows = [row for row in rows if row["split"] == "shared"]
        listed = [
            Listed(
                row["patient"],
                row["patient"],
                row["institution"],
                _sha256(flair_path(folder, row["patient"])),
                _sha256(folder / f"{row['patient']}_mask.nii.gz"),
            )
            for row in rows
        ]
    else:
        listed = [
            Listed(
                Path(row["file"]).stem,
                row["duplicate_group"],
                row["class"],
                _sha256(folder / "images" / row["file"]),
                _mask_sha256(folder / "masks" / row["file"]),
                row["class"],
            )
            for row in rows
        ]
    return sorted(listed, key=lambda item: item.name)


def load_case(kind: DataKind, folder: Path, item: Listed) -> Case:
    """Read one case."""
    if kind == "own":
        from models.training.prepared import load_prepared

        return load_prepared(folder, item)
    return _load_brain(folder, item) if kind == "brain-flair" else _load_breast(folder, item)


def load_cases(kind: DataKind, folder: Path, items: Sequence[Listed]) -> Iterator[Case]:
    """Read several cases, in order."""
    for item in items:
        yield load_case(kind, folder, item)


def load_extra(folder: Path) -> list[Case]:
    """Generated cases: every .npz of a folder, in name order.

    Arrays of each file: `image` (slices, rows, columns) or (rows, columns); `mask` of the same shape;
    optional `class_name` (text), `pixel_spacing_mm` (2,), `slice_spacing_mm` (), `affine` (4, 4).
    """
    cases = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {key: stored[key] for key in stored.files}
        if "image" not in arrays or "mask" not in arrays or arrays["image"].shape != arrays["mask"].shape:
            raise CasesError(f"{path} must hold `image` and `mask` of one shape")
        image, mask = arrays["image"], (arrays["mask"] > 0).astype(np.uint8)
        if image.ndim == 2:
            image, mask = image[None], mask[None]
        spacing = arrays.get("pixel_spacing_mm")
        slice_spacing = arrays.get("slice_spacing_mm")
        volume = Volume(
            image,
            arrays.get("affine"),
            None if spacing is None else (float(spacing[0]), float(spacing[1])),
            None if slice_spacing is None else float(slice_spacing),
        )
        class_name = str(arrays["class_name"]) if "class_name" in arrays else None
        cases.append(
            Case(path.stem, path.stem, class_name or "", volume, mask, class_name, is_simulated=True)
        )
    return cases


def flair_path(folder: Path, patient: str) -> Path:
    """FLAIR volume of a patient."""
    return folder / f"{patient}_flair.nii.gz"


def _load_brain(folder: Path, item: Listed) -> Case:
    import nibabel as nib  # Training only: a worker that predicts does not need it.

    flair: Any = nib.load(flair_path(folder, item.name))
    mask: Any = nib.load(folder / f"{item.name}_mask.nii.gz")
    # NIfTI indexes (column, row, slice) and maps to RAS.
    affine = LPS_FROM_RAS @ np.asarray(flair.affine, dtype=np.float64)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    volume = Volume(
        np.ascontiguousarray(np.asarray(flair.dataobj).transpose(2, 1, 0)),
        affine,
        (float(steps[1]), float(steps[0])),
        float(steps[2]),
    )
    truth = (np.asarray(mask.dataobj).transpose(2, 1, 0) > 0).astype(np.uint8, order="C")
    return Case(item.name, item.group, item.stratum, volume, truth, None)


def _load_breast(folder: Path, item: Listed) -> Case:
    from PIL import Image

    with Image.open(folder / "images" / f"{item.name}.png") as picture:
        image = np.asarray(picture.convert("L"))[None]
    mask_path = folder / "masks" / f"{item.name}.png"
    if mask_path.is_file():
        with Image.open(mask_path) as picture:
            mask = (np.asarray(picture.convert("L")) > 0)[None].astype(np.uint8)
    else:
        mask = np.zeros(image.shape, np.uint8)
    return Case(item.name, item.group, item.stratum, Volume(image.copy()), mask, item.stratum)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise CasesError(f"{path} is named in the table but missing; copy the data folder again")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mask_sha256(path: Path) -> str:
    """Images without a lesion have no mask."""
    return _sha256(path) if path.is_file() else ""
