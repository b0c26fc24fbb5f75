"""A draft becomes a package: every empty place is filled, and this machine computes what the original did."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.adapters.draft import NOTES_NAME, places_to_fill
from models.adapters.refusal import ImportRefusal
from models.adapters.source import parse_json
from models.grid_steps import Tiling
from models.manifest import Manifest
from models.package import (
    DRAFT_NAME,
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    Package,
    hash_of,
    load_package,
    parse_manifest,
)
from models.postprocess import postprocess
from models.predictor import GoldenReport, Predictor, golden_volume
from models.resample import FloatArray
from models.steps import Threshold
from models.structure_labels import cleaned

GOLDEN_BYTES_MAX: Final = 256 << 20
_INPUT_KEYS: Final[tuple[str, ...]] = ("image", "affine", "pixel_spacing_mm", "slice_spacing_mm")
_ROLES: Final = {
    "golden/input.npz": "golden_in",
    "golden/expected.npz": "golden_out",
    "CARD.md": "card",
    NOTES_NAME: "import_notes",
}


@dataclass(frozen=True)
class Finished:
    """The package, and how its golden case came out."""

    package: Package
    golden: GoldenReport


def finish(folder: Path, golden_input: Path, golden_expected: Path, *, tolerance: float) -> Finished:
    """Make the package in place of the draft.

    Parameters
    ----------
    golden_input : npz with image (slices, rows, columns) and, for a series, affine and spacings
    golden_expected : npz with probability of the same shape, as the original computes it; or nnU-Net's own
        file with probabilities (heads, slices, rows, columns)
    tolerance : largest difference of a probability

    Raises
    ------
    ImportRefusal
        A place is empty, a file is not what it should be, or preread computes something else than the
        original; the draft stays as it was.
    """
    draft_path = folder / DRAFT_NAME
    if not draft_path.is_file():
        raise ImportRefusal(
            f"no {DRAFT_NAME}", where=str(folder), remedy="Run `preread models import` first."
        )
    if draft_path.stat().st_size > MANIFEST_BYTES_MAX:
        raise ImportRefusal("is too large", where=str(draft_path), remedy="Import the model again.")
    text = draft_path.read_bytes()
    draft = parse_json(text, str(draft_path))
    check_filled(draft, str(draft_path))
    weights = "network.onnx" if (folder / "network.onnx").is_file() else "weights.safetensors"
    made = [folder / name for name in _ROLES if name != NOTES_NAME] + [folder / MANIFEST_NAME]
    try:
        finished = _finished(folder, draft, weights, golden_input, golden_expected, tolerance)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        draft_path.write_bytes(text)
        raise
    return finished


def check_filled(draft: Any, where: str) -> None:
    """Refuse a draft with empty places, naming each."""
    segments = _at(draft, "findings.segments")
    is_of_structures = _at(draft, "findings.kind") == "structures" and isinstance(segments, list)
    labels = [str(_at(one, "label")) for one in segments] if is_of_structures else []
    empty = [place for place, _, _ in places_to_fill(labels) if _at(draft, place) is None]
    if empty:
        raise ImportRefusal(
            f"still empty: {', '.join(empty)}", where=where, remedy=f"Fill them; {NOTES_NAME} says with what."
        )
    rules = _at(draft, "inputs.0.applicability")
    if not isinstance(rules, dict) or not (rules.get("all") or rules.get("any")):
        raise ImportRefusal(
            "inputs.0.applicability names no condition in all or any: the model would read every series",
            where=where,
            remedy="Say at least which modality it reads.",
        )


def _finished(
    folder: Path, draft: dict[str, Any], weights: str, given_in: Path, given_out: Path, tolerance: float
) -> Finished:
    arrays = _arrays(given_in)
    if "image" not in arrays:
        raise ImportRefusal(
            "has no array 'image'", where=str(given_in), remedy="See docs/importing-models.md."
        )
    (folder / "golden").mkdir(exist_ok=True)
    kept: dict[str, NDArray[Any]] = {name: arrays[name] for name in _INPUT_KEYS if name in arrays}
    np.savez_compressed(folder / "golden/input.npz", allow_pickle=False, **kept)
    volume = golden_volume(kept)
    tiling = Tiling.model_validate_json(json.dumps(draft["grid"]["tiling"]))
    findings = draft["findings"]
    has_structures = findings.get("kind") == "structures"
    heads_of = [tuple(one["heads"]) for one in findings["segments"]] if has_structures else []
    expected = _arrays(given_out)
    if has_structures:
        probability = expected_maps(expected, heads_of, tiling, volume.shape, str(given_out))
    else:
        probability = expected_probability(expected, tiling, volume.shape, str(given_out))
    np.savez_compressed(folder / "golden/expected.npz", probability=probability.astype(np.float16))
    content = {**draft, "files": [], "golden": None}
    (folder / "CARD.md").write_text(card_text(draft), encoding="utf-8")
    content["files"] = [
        {
            "path": name,
            "role": role,
            "bytes": (folder / name).stat().st_size,
            "sha256": hash_of(folder / name),
        }
        for name, role in ({weights: "weights"} | _ROLES).items()
    ]
    content["golden"] = {
        "probability_tolerance": tolerance,
        "class_tolerance": 0.02,
        "lesions": 0,
        "class_name": None,
        **({"structure_voxels": [0] * len(heads_of)} if has_structures else {}),
    }
    manifest = parse_manifest(content, str(folder / DRAFT_NAME))
    if has_structures:
        content["golden"]["structure_voxels"] = _voxels(manifest, probability, volume.voxel_ml)
    else:
        content["golden"]["lesions"] = _lesions(manifest, probability, volume.voxel_ml)
    (folder / MANIFEST_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / DRAFT_NAME).unlink()
    package = load_package(folder)
    golden = Predictor(package, device="cpu").verify_golden()
    if not golden.passed:
        raise ImportRefusal(
            f"preread computes something else than the original: {golden.message}",
            where=str(folder),
            remedy="Check what IMPORT.md lists as guessed, orientation first.",
        )
    return Finished(package, golden)


def expected_probability(
    arrays: dict[str, NDArray[Any]], tiling: Tiling, shape: tuple[int, int, int], where: str
) -> FloatArray:
    """Probability of lesion from an expected file: ours, or nnU-Net's with a map for each label."""
    if "probability" in arrays:
        found = arrays["probability"]
    elif "probabilities" in arrays and arrays["probabilities"].ndim == 4:
        heads = arrays["probabilities"]
        if max(tiling.lesion_heads) >= len(heads):
            raise ImportRefusal(f"has {len(heads)} maps", where=where, remedy="Is it from another model?")
        chosen = heads[list(tiling.lesion_heads)]
        found = chosen.max(0) if tiling.activation == "sigmoid" else chosen.sum(0)
    else:
        raise ImportRefusal("has no array 'probability'", where=where, remedy="See docs/importing-models.md.")
    return _checked(found, shape, where)


def expected_maps(
    arrays: dict[str, NDArray[Any]],
    heads_of: Sequence[tuple[int, ...]],
    tiling: Tiling,
    shape: tuple[int, int, int],
    where: str,
) -> FloatArray:
    """Probability of each structure from an expected file: ours, (structures, slices, rows, columns), or
    nnU-Net's with a map for each label.
    """
    wanted = (len(heads_of), *shape)
    if "probability" in arrays:
        return _checked(arrays["probability"], wanted, where)
    if "probabilities" not in arrays or arrays["probabilities"].ndim != 4:
        raise ImportRefusal("has no array 'probability'", where=where, remedy="See docs/importing-models.md.")
    heads = arrays["probabilities"]
    if max(head for one in heads_of for head in one) >= len(heads):
        raise ImportRefusal(f"has {len(heads)} maps", where=where, remedy="Is it from another model?")
    joined = [heads[list(one)] for one in heads_of]
    found = np.stack([one.max(0) if tiling.activation == "sigmoid" else one.sum(0) for one in joined])
    return _checked(found, wanted, where)


def _checked(found: NDArray[Any], shape: tuple[int, ...], where: str) -> FloatArray:
    if found.shape != shape or not np.isfinite(found).all() or found.min() < -1e-3 or found.max() > 1.001:
        raise ImportRefusal(
            f"is no probability for an image of {shape}: its shape is {found.shape}, its values go from "
            f"{found.min():.3g} to {found.max():.3g}",
            where=where,
            remedy="Give the original's probability on the grid of the image.",
        )
    return np.asarray(np.clip(found, 0, 1), dtype=np.float32)


def card_text(draft: dict[str, Any]) -> str:
    """CARD.md from the filled card."""
    card = draft["card"]

    def listed(title: str, lines: Any) -> Iterator[str]:
        yield f"## {title}\n"
        yield from (f"- {line}" for line in lines)
        yield ""

    text = [
        f"# {draft['title']}\n",
        f"{draft['summary']}\n",
        f"{card['intended_use']}\n",
        f"{card['line']}\n",
    ]
    text += [*listed("Not for", card["not_for"]), *listed("Limits", card["limits"])]
    text += [*listed("Licences", card["licences"]), *listed("Trained on", draft["origin"]["trained_on"])]
    return "\n".join(text)


def _lesions(manifest: Manifest, probability: FloatArray, voxel_ml: float | None) -> int:
    """How many lesions the declared post-processing draws of the original's map."""
    stored = probability.astype(np.float16).astype(np.float32)
    found = postprocess(stored, manifest.postprocess, voxel_ml=voxel_ml, class_scores=None)
    return int(found.labels.max())


def _voxels(manifest: Manifest, maps: FloatArray, voxel_ml: float | None) -> list[int]:
    """Voxels of each structure after the declared post-processing of the original's maps.

    Background is what the structures leave.
    """
    first, *others = manifest.postprocess
    maps = maps.astype(np.float16).astype(np.float32)
    least = np.float32(first.probability) if isinstance(first, Threshold) else 1 - maps.sum(0)
    labels = np.where(maps.max(0) >= least, maps.argmax(0) + 1, 0).astype(np.uint16)
    kept = cleaned(labels, others, count=len(maps), voxel_ml=voxel_ml)
    return [int((kept == number).sum()) for number in range(1, len(maps) + 1)]


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz, without pickles, and with a cap on what they unpack to."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > GOLDEN_BYTES_MAX:
            raise ImportRefusal(f"{total} bytes", where=str(path), remedy="Choose a smaller golden case.")
        with np.load(path, allow_pickle=False) as stored:
            wanted = (*_INPUT_KEYS, "probability", "probabilities")
            return {name: stored[name] for name in stored.files if name in wanted}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ImportRefusal(
            f"not readable as npz of plain arrays: {str(error)[:120]}",
            where=str(path),
            remedy="Write it with numpy.savez_compressed.",
        ) from error


def _at(values: Any, place: str) -> Any:
    for part in place.split("."):
        if isinstance(values, list):
            values = values[int(part)] if int(part) < len(values) else None
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values
