"""What a person would write into the draft of an import, for tests."""

import json
from pathlib import Path
from typing import Any

FILLED = {
    "findings.negative_statement": "Nothing was outlined.",
    "operating_points.0.chosen_on": "0.5, as trained",
    "card.intended_use": "Tests.",
    "card.not_for": ["patients"],
    "card.limits": ["knows nothing"],
    "card.line": "Random weights.",
    "card.licences": ["CC0"],
    "card.commercial_use": True,
    "findings.segments.0.category": {"value": "49755003", "scheme": "SCT", "meaning": "Altered"},
    "findings.segments.0.type": {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"},
    "inputs.0.applicability": {
        "all": [
            {
                "attribute": "Modality",
                "op": "equals",
                "value": "CT",
                "code": "wrong_modality",
                "sentence": "The model reads CT.",
            }
        ]
    },
}


def fill(folder: Path, leave_out: tuple[str, ...] = (), **more: Any) -> None:
    """Fill every place but some; `more`: whole blocks of the draft's top level to replace."""
    path = folder / "draft.json"
    draft = json.loads(path.read_text())
    for place, value in FILLED.items():
        *parts, last = place.split(".")
        target = draft
        for part in parts:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if place not in leave_out:
            target[last] = value
    draft.update(more)
    path.write_text(json.dumps(draft))
