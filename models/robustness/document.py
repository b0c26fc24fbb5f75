"""A package's robustness as one value: what robustness.json holds and a report draws."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from models.robustness.adversarial import Adversarial
from models.robustness.natural import Natural

FORMAT = "preread-robustness/1"


@dataclass(frozen=True)
class Robustness:
    """One package on one part of one split; `adversarial` is None where it was not asked for or cannot be."""

    package_digest: str
    subset: Literal["scored", "frozen"]
    split_sha256: str
    cases: int
    natural: Natural
    adversarial: Adversarial | None


def write_robustness(found: Robustness, path: Path) -> None:
    """Write robustness.json; without pixels and names."""
    content = {"format": FORMAT, "passed": found.natural.passed, "found": asdict(found)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_robustness(path: Path, *, package_digest: str, subset: str, split_sha256: str) -> Robustness | None:
    """What was measured before, if it was this package on this part of this split; else None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return None
        found = TypeAdapter(Robustness).validate_python(content["found"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    wanted = (package_digest, subset, split_sha256)
    return found if (found.package_digest, found.subset, found.split_sha256) == wanted else None
