"""Which kind of foreign model a path holds, and its adapter. What is not read is refused with the way out."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import Final

from models.adapters.checkpoint_scan import check_checkpoint
from models.adapters.draft import check_free, write_draft
from models.adapters.monai_bundle import read_bundle
from models.adapters.nnunet import read_nnunet
from models.adapters.onnx_model import read_onnx
from models.adapters.reading import Reading, Wishes
from models.adapters.refusal import EXPORT_ONNX, EXPORT_WEIGHTS, ImportRefusal
from models.adapters.source import Source, opened

_CHECKPOINTS: Final = (".pt", ".pth", ".ckpt", ".ts", ".pt2", ".pkl", ".pickle", ".bin")
_OTHERS: Final = (".h5", ".hdf5", ".keras", ".pb", ".tflite", ".mlmodel", ".engine")


def import_model(place: Path, folder: Path, package_id: str, wishes: Wishes, today: date) -> Reading:
    """Read a foreign model and write the draft of a package.

    Parameters
    ----------
    place : folder, zip or .onnx file
    folder : new; nothing is written anywhere else, and nothing at all when the model is refused

    Raises
    ------
    ImportRefusal
        What is wrong, in which file, and what to do instead.
    """
    check_free(folder)
    with tempfile.TemporaryDirectory() as scratch:
        reading = _read(place, wishes, Path(scratch))
        write_draft(reading, folder, package_id, today)
    return reading


def _read(place: Path, wishes: Wishes, scratch: Path) -> Reading:
    suffix = place.suffix.lower()
    if place.is_file() and suffix in _CHECKPOINTS:
        # Its pickle may be hostile, or a program: that is said first.
        check_checkpoint(place, place.name)
        raise ImportRefusal(
            "weights alone do not say what the network is",
            where=place.name,
            remedy="Give the folder that nnU-Net or MONAI wrote, or export the network to ONNX.",
        )
    if place.is_file() and suffix in _OTHERS:
        raise ImportRefusal(f"{suffix} files are not read", where=place.name, remedy=EXPORT_ONNX)
    if place.is_file() and suffix == ".onnx":
        return read_onnx(place, wishes, scratch)
    with opened(place) as source:
        if source.named("plans.json"):
            return read_nnunet(source, wishes, scratch)
        if any("/configs/" in f"/{name}" for name in source.sizes):
            return read_bundle(source, wishes, scratch)
        raise ImportRefusal(
            "neither a trained nnU-Net, a MONAI bundle nor an ONNX file" + _looks_like(source),
            where=place.name,
            remedy=EXPORT_WEIGHTS,
        )


def _looks_like(source: Source) -> str:
    if source.named("saved_model.pb") or source.ending(".keras", ".h5"):
        return "; it looks like TensorFlow or Keras"
    if source.ending(".ts", ".pt2"):
        return "; it looks like an exported torch program"
    return ""
