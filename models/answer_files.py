"""What a model says of one image file, as files: labels on its grid, numbers, a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.pictures import contact_sheet, save_jpeg
from models.manifest import Manifest
from models.postprocess import Labels
from models.predictor import Prediction
from models.training.card_pictures import PicturedCase, lesion_cells, structure_cells
from models.training.cases import LPS_FROM_RAS
from models.volume import Volume

SHOWN_SLICES, COLUMNS = 24, 6


def answer_of(prediction: Prediction, manifest: Manifest, volume: Volume) -> dict[str, Any]:
    """The findings as JSON values; volumes in mL where the file has its spacing."""
    findings = manifest.findings
    counts = np.bincount(prediction.labels.ravel())
    structures = findings.kind == "structures"
    scores = prediction.structure_scores if structures else prediction.lesion_scores
    found = []
    for number, score in enumerate(scores or (), start=1):
        voxels = int(counts[number]) if number < len(counts) else 0
        found.append(
            {
                "number": number,
                "label": findings.segments[number - 1 if structures else 0].label,
                "score": None if score is None else round(float(score), 4),
                "voxels": voxels,
                "volume_ml": None if volume.voxel_ml is None else round(voxels * volume.voxel_ml, 3),
            }
        )
    classes = prediction.class_scores
    return {
        "model": f"{manifest.id} {manifest.version}",
        "findings": found,
        "class": prediction.class_name,
        "class_scores": None if classes is None else {key: round(one, 4) for key, one in classes.items()},
        "notes": list(prediction.notes),
        "card": manifest.card.line,
    }


def write_answer(
    prediction: Prediction, manifest: Manifest, volume: Volume, folder: Path, name: str
) -> dict[str, Any]:
    """Write NAME.json, NAME.labels.nii.gz (a picture's: NAME.labels.png) and NAME.jpg; returns the numbers.

    In the labels 0 is background and n finding n of the numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = answer_of(prediction, manifest, volume)
    (folder / f"{name}.json").write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _write_labels(prediction.labels, volume, folder, name)
    case = PicturedCase(volume, None, "")
    if manifest.findings.kind == "structures":
        cells = structure_cells(case, prediction.labels, manifest.findings)
    else:
        cells = lesion_cells(case, prediction.labels)
    shown = cells[:: -(-len(cells) // SHOWN_SLICES)]
    save_jpeg(contact_sheet(shown, min(COLUMNS, len(shown))), folder / f"{name}.jpg")
    return answer


def _write_labels(labels: Labels, volume: Volume, folder: Path, name: str) -> None:
    if volume.affine is None and len(labels) == 1:
        from PIL import Image

        Image.fromarray(labels[0].astype(np.uint16)).save(folder / f"{name}.labels.png")
        return
    import nibabel as nib

    affine = np.eye(4) if volume.affine is None else LPS_FROM_RAS @ volume.affine
    # NIfTI indexes (column, row, slice) and maps to RAS.
    image = nib.Nifti1Image(labels.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    nib.save(image, folder / f"{name}.labels.nii.gz")
