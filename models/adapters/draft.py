"""The draft of a package: what a foreign model says, in our words, and empty places for what it cannot say.

A folder with weights, draft.json and IMPORT.md. It is not a package: the loader says so and it does not run.
A person fills the empty places; `models.adapters.finishing` makes the package, once its golden case passes.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from models.adapters.reading import Reading, plain_words
from models.adapters.refusal import ImportRefusal
from models.manifest import MEASURED_OF_STRUCTURES, MeasurementName
from models.package import DRAFT_NAME
from models.training.sections import measurement

NOTES_NAME: Final = "IMPORT.md"
_COLOUR: Final = (70.0, 45.0, 55.0)  # CIELab; further structures turn its hue
_GOLDEN_ANGLE: Final = math.radians(137.508)
_MEASURED: Final[dict[str, tuple[MeasurementName, ...]]] = {
    "series": ("volume_ml", "long_axis_mm", "short_axis_mm"),
    "image": ("area_mm2", "long_axis_mm", "area_px"),
}
_BATCH: Final = 1

# (place in draft.json, what to write there, an example)
TO_FILL: Final = (
    (
        "inputs.0.applicability",
        "which series the model reads; at least one condition, with a code and a sentence for each refusal",
        '{"all": [{"attribute": "Modality", "op": "equals", "value": "CT", "code": "wrong_modality", '
        '"sentence": "The model reads CT."}], "min_slices": 10}',
    ),
    (
        "grid.steps",
        "what was done to an image before the network saw it, in order; docs/importing-models.md lists them",
        '[{"step": "orient_grid", "columns": "L", "rows": "P", "slices": "H"}, '
        '{"step": "zscore", "mask": "all"}]',
    ),
    (
        "findings.segments.0.category",
        "code of the kind of thing that is drawn",
        '{"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Altered Structure"}',
    ),
    (
        "findings.segments.0.type",
        "code of what is drawn",
        '{"value": "52988006", "scheme": "SCT", "meaning": "Lesion"}',
    ),
    (
        "findings.negative_statement",
        "the sentence of a report without a finding",
        '"No lesion was outlined by the model."',
    ),
    (
        "operating_points.0.chosen_on",
        "on which cases the threshold was chosen",
        '"0.5, as trained; not tuned on any case here"',
    ),
    ("card.intended_use", "what it is for", '"Research: a second look at ... Not a medical device."'),
    ("card.not_for", "what it must not be used for", '["diagnosis or exclusion of disease"]'),
    ("card.limits", "what is known to go wrong", '["Trained at one hospital."]'),
    ("card.line", "one sentence for reports", '"Trained on ...; not validated on your scanner."'),
    ("card.licences", "of weights and training data", '["weights CC BY 4.0", "data: not known"]'),
    ("card.commercial_use", "whether the licences allow it", "false"),
)


_OF_LESIONS: Final = (
    "findings.segments.0.category",
    "findings.segments.0.type",
    "findings.negative_statement",
)


def places_to_fill(structures: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """What a person must fill.

    Parameters
    ----------
    structures : labels of the structures; none for a package that draws lesions
    """
    if not structures:
        return TO_FILL
    codes = []
    for index, label in enumerate(structures):
        place = f"findings.segments.{index}"
        codes += [
            (
                f"{place}.category",
                f"code of the kind of thing that {label} is",
                '{"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}',
            ),
            (
                f"{place}.type",
                f"code of {label}",
                '{"value": "78961009", "scheme": "SCT", "meaning": "Spleen"}',
            ),
        ]
    return (*(one for one in TO_FILL if one[0] not in _OF_LESIONS), *codes)


def draft_of(reading: Reading, package_id: str, today: date) -> dict[str, Any]:
    """The manifest of the package as far as the model says it; None where a person must write."""
    findings = _structures(reading) if reading.structures else _lesions(reading)
    argmax = bool(reading.structures) and reading.grid.tiling.activation == "softmax"
    thresholds = {} if argmax else {"probability": 0.5}
    return {
        "format": "preread-model/1",
        "id": package_id,
        "version": "1.0.0",
        "title": reading.title,
        "summary": f"Outlines {reading.finding}; imported, see {NOTES_NAME}."[:300],
        "released": today.isoformat(),
        "task": {"kind": "segment"},
        "network": reading.network.model_dump(mode="json"),
        "inputs": [{"name": "image", "unit": reading.unit, "applicability": None}],
        "preprocess": [],
        "grid": {
            "steps": [step.model_dump(mode="json") for step in reading.grid.steps]
            if reading.steps_known
            else None,
            "tiling": reading.grid.tiling.model_dump(mode="json"),
        },
        "inference": {"flip": False, "batch": _BATCH},
        "postprocess": [{"step": "argmax"} if argmax else {"step": "threshold", "probability": 0.5}],
        "findings": findings,
        "operating_points": [
            {"name": "standard", "default": True, "thresholds": thresholds, "chosen_on": None}
        ],
        "evaluation": [],
        "training": None,
        "origin": {
            "format": reading.format,
            "name": reading.name,
            "sha256": reading.sha256,
            "trained_on": list(reading.trained_on),
        },
        "runtime": {
            "torch": "2.13",
            "devices": ["cpu"] if reading.format == "onnx" else ["cpu", "cuda"],
            "memory": {
                "base": (200 << 20) + 8 * reading.parameters,
                "per_canvas_pixel": reading.bytes_per_pixel,
                "per_voxel": 28,  # beside the logits, which models.inference.fit counts
            },
            "parameters": reading.parameters,
        },
        "card": {
            "intended_use": None,
            "not_for": None,
            "limits": None,
            "line": None,
            "licences": None,
            "commercial_use": None,
            "regulatory": "research",
        },
    }


def _lesions(reading: Reading) -> dict[str, Any]:
    measurements = [measurement(name) for name in _MEASURED[reading.unit]]
    return {
        "segments": [_segment(1, reading.finding)],
        "measurements": [one.model_dump(mode="json") for one in measurements],
        "classes": [],
        "negative_statement": None,
    }


def _structures(reading: Reading) -> dict[str, Any]:
    measurements = [measurement(name) for name in _MEASURED[reading.unit]]
    return {
        "kind": "structures",
        "segments": [
            {**_segment(number, one.label), "heads": list(one.heads)}
            for number, one in enumerate(reading.structures, start=1)
        ],
        "measurements": [
            one.model_dump(mode="json") for one in measurements if one.name in MEASURED_OF_STRUCTURES
        ],
        "classes": [],
        "totals": [],
    }


def _segment(number: int, label: str) -> dict[str, Any]:
    light, a, b = _COLOUR
    hue = math.atan2(b, a) + (number - 1) * _GOLDEN_ANGLE
    chroma = math.hypot(a, b)
    return {
        "number": number,
        "label": label,
        "category": None,
        "type": None,
        "region": None,
        "colour": [light, round(chroma * math.cos(hue), 1), round(chroma * math.sin(hue), 1)],
    }


def write_draft(reading: Reading, folder: Path, package_id: str, today: date) -> None:
    """Write the folder, whole or not at all.

    Raises
    ------
    ImportRefusal
        There is something in its place.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import-") as scratch:
        made = Path(scratch) / "draft"
        made.mkdir()
        shutil.copyfile(reading.weights, made / reading.weights_name)
        draft = draft_of(reading, package_id, today)
        (made / DRAFT_NAME).write_text(json.dumps(draft, indent=1) + "\n", encoding="utf-8")
        (made / NOTES_NAME).write_text(notes(reading, package_id), encoding="utf-8")
        if folder.exists():
            folder.rmdir()  # empty, or this fails and nothing is lost
        made.replace(folder)


def check_free(folder: Path) -> None:
    """Refuse to write over anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ImportRefusal("is there already", where=str(folder), remedy="Name a new folder with --out.")


def notes(reading: Reading, package_id: str) -> str:
    """IMPORT.md."""
    lines = [
        f"# {package_id}: imported, not verified",
        "",
        f"From {reading.format}, `{reading.name}`, sha256 of what was read `{reading.sha256}`.",
        "Nothing of it was run. This folder is a draft: it is no package and does not run.",
        "",
        "## What was read",
        "",
        *(f"- {plain_words(sentence)}" for sentence in reading.read),
        "",
        "## What is guessed",
        "",
        *(f"- {plain_words(sentence)}" for sentence in reading.guessed),
        "",
        "## What a person must fill",
        "",
        f"In `{DRAFT_NAME}`; each is `null` now.",
        "",
        *(
            f"- `{place}`: {what}. For example `{example}`"
            for place, what, example in places_to_fill([one.label for one in reading.structures])
            if place != "grid.steps" or not reading.steps_known
        ),
        "",
        "Look at the rest of the draft too: title, label, colour, measurements, threshold.",
        "",
        "## What comes then",
        "",
        "Make a golden case where the model lives: one input, generated or free to share, and the",
        "probability the original gives for it (of several structures a map for each, in their order).",
        "docs/importing-models.md says how. Then:",
        "",
        "    preread models finish FOLDER --golden-input input.npz --golden-expected expected.npz",
        "",
        "This writes the package only when preread computes what the original did.",
        "",
    ]
    return "\n".join(lines)
