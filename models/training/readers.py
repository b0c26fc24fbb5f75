"""Readers of the data people have: image and mask pairs, listed in a table or found by their names.

A closed list by the `reader` of a recipe's data section. DICOM is read by `pipeline.training_cases`, which
the command line adds to the list; models know nothing of DICOM.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.simulation.cases import phantoms
from models.training.cases import LPS_FROM_RAS, CasesError
from models.training.prepared import FoundCase, LeftOut
from models.training.sections import DataSection, GeneratedNodulesData, PairsData, TableData
from models.volume import Volume, VolumeError

# Data section, folder and what is one case ("series" or "image") in; what was found out.
Reader = Callable[[DataSection, Path, str], Iterator[FoundCase | LeftOut]]
NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
GEOMETRY_MM = 0.1  # by which corners of image and mask may differ


class ReadFault(Exception):  # becomes LeftOut, or the error of a command
    """Why a case cannot be used."""


def read_table(section: DataSection, folder: Path, unit: str) -> Iterator[FoundCase | LeftOut]:
    """Cases that a CSV lists, with the columns of `TableData`.

    Raises
    ------
    CasesError
        The table is missing or lacks a column.
    """
    assert isinstance(section, TableData)
    table = folder / section.table
    if not table.is_file():
        raise CasesError(f"{table} is missing", remedy="Write it, with the columns image,mask,group,class.")
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
        columns = set(reader.fieldnames or ())
    unknown = columns - {"image", "mask", "name", "group", "class"}
    if not {"image", "mask"} <= columns or unknown:
        raise CasesError(
            f"{table} has the columns {', '.join(sorted(columns))}",
            remedy="It needs image and mask, and may have name, group and class.",
        )
    for line, row in enumerate(rows, start=2):
        image, mask = (row[key] or "" for key in ("image", "mask"))
        name = row.get("name") or stem(image)
        if not image:
            yield LeftOut(name or f"line {line}", f"{table.name} line {line} names no image", is_fault=True)
            continue
        yield pair(
            name,
            row.get("group") or name,
            row.get("class") or None,
            folder / image,
            folder / mask if mask else None,
        )


def read_pairs(section: DataSection, folder: Path, unit: str) -> Iterator[FoundCase | LeftOut]:
    """Cases found by the patterns of `PairsData`; masks without an image are named as left out.

    Raises
    ------
    CasesError
        A pattern has no `{case}`, or an expression is none.
    """
    assert isinstance(section, PairsData)
    for pattern in (section.images, section.masks):
        if pattern.count("{case}") != 1:
            raise CasesError(
                f"{pattern!r} must hold {{case}} once", remedy="Write it as images/{case}.nii.gz."
            )
    images, masks = (_matching(folder, pattern) for pattern in (section.images, section.masks))
    for name in sorted(masks.keys() - images.keys()):
        yield LeftOut(name, f"{masks[name].name} is a mask without an image", is_fault=True)
    for name, image in images.items():
        if name not in masks and section.missing_mask == "refuse":
            why = "it has no mask; where that means that there is nothing, say missing_mask: nothing_there"
            yield LeftOut(name, why, is_fault=True)
            continue
        yield pair(
            name,
            _part(section.group, name, "group") or name,
            _part(section.class_name, name, "class_name"),
            image,
            masks.get(name),
        )


def generate_nodules(section: DataSection, folder: Path, unit: str) -> Iterator[FoundCase | LeftOut]:
    """Phantoms with nodules; the folder is not looked at."""
    assert isinstance(section, GeneratedNodulesData)
    for name, drawn in phantoms(
        section.phantoms, section.seed, slab_mm=section.slab_mm, pixel_mm=section.pixel_mm
    ):
        yield FoundCase(name, name, None, drawn.volume, drawn.labels)


READERS: Mapping[str, Reader] = {
    "table": read_table,
    "pairs": read_pairs,
    "generated-nodules": generate_nodules,
}


def _matching(folder: Path, pattern: str) -> dict[str, Path]:
    """Files of a pattern by what stands for `{case}`, in name order."""
    before, after = pattern.split("{case}")
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(f"{before}*{after}")):
        name = path.relative_to(folder).as_posix()[len(before) : -len(after) or None]
        if path.is_file() and "/" not in name:
            found[name] = path
    return found


def _part(expression: str | None, name: str, setting: str) -> str | None:
    """What a regular expression takes from a name."""
    if expression is None:
        return None
    try:
        match = re.search(expression, name)
    except re.error as error:
        remedy = f"Correct data.{setting}."
        raise CasesError(f"{expression!r} is no regular expression: {error}", remedy=remedy) from None
    if match is None:
        raise CasesError(
            f"data.{setting} {expression!r} finds nothing in the name {name!r}",
            remedy="Correct the expression, or list the cases in a table.",
        )
    return match.group(1) if match.groups() else match.group(0)


def pair(
    name: str, group: str, class_name: str | None, image: Path, mask: Path | None
) -> FoundCase | LeftOut:
    """One case from its files, or what is wrong with them."""
    try:
        volume = read_volume(image)
        if mask is None:
            truth = np.zeros(volume.array.shape, np.uint8)
        else:
            outline = read_volume(mask)
            _same_place(volume, outline)
            truth = outline.array
    except ReadFault as fault:
        return LeftOut(name, str(fault), is_fault=True)
    return FoundCase(name, group, class_name, volume, truth)


def read_volume(path: Path) -> Volume:
    """An image file as a volume: NIfTI with its geometry, pictures as one grey slice without one."""
    if not path.is_file():
        raise ReadFault(f"{path.name} is missing")
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix.lower()
    if suffix in NIFTI:
        return _nifti(path)
    if suffix in PICTURES:
        return _picture(path)
    raise ReadFault(f"{path.name} is neither NIfTI nor a picture ({', '.join((*NIFTI, *PICTURES))})")


def _nifti(path: Path) -> Volume:
    import nibabel as nib  # Training only: a worker that predicts does not need it.

    try:
        stored: Any = nib.load(path)
        array = np.asarray(stored.dataobj)
        affine = LPS_FROM_RAS @ np.asarray(stored.affine, dtype=np.float64)
    except Exception as error:  # noqa: BLE001  # nibabel raises many kinds for a broken file
        raise ReadFault(f"{path.name} cannot be read as NIfTI: {error}") from None
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise ReadFault(f"{path.name} holds {array.dtype} of shape {array.shape}; one 3D volume is needed")
    # NIfTI indexes (column, row, slice) and maps to RAS.
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    try:
        return Volume(
            np.ascontiguousarray(array.transpose(2, 1, 0)),
            affine,
            (float(steps[1]), float(steps[0])),
            float(steps[2]),
        )
    except VolumeError as error:
        raise ReadFault(f"{path.name}: {error}") from None


def _picture(path: Path) -> Volume:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            is_deep = picture.mode.startswith(("I", "F"))  # 16 bits and more keep their values
            array: NDArray[Any] = np.asarray(picture if is_deep else picture.convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ReadFault(f"{path.name} cannot be read as a picture: {error}") from None
    return Volume(array[None].copy())


def _same_place(image: Volume, mask: Volume) -> None:
    if image.array.shape != mask.array.shape:
        sizes = [" x ".join(map(str, one.array.shape)) for one in (image, mask)]
        raise ReadFault(f"its mask is {sizes[1]} (slices, rows, columns), its image {sizes[0]}")
    if image.affine is None or mask.affine is None:
        return
    slices, rows, columns = image.array.shape
    corners = np.array(
        [(x, y, z, 1) for x in (0, columns - 1) for y in (0, rows - 1) for z in (0, slices - 1)], float
    )
    apart = float(np.linalg.norm((corners @ (image.affine - mask.affine).T)[:, :3], axis=1).max())
    if apart > GEOMETRY_MM:
        raise ReadFault(f"its mask lies {apart:.1f} mm away from its image; resample it onto the image")


def stem(name: str) -> str:
    """Of a file name, without folders and .nii.gz."""
    base = Path(name).name
    return base.removesuffix(".gz").removesuffix(".nii") if base.endswith(".nii.gz") else Path(base).stem
