"""A package of a detector that learned, in two seconds, to find bright balls in noise; and such balls.

Values are those of a CT: the background lies about -800, balls are 600 above it.
"""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generated_discs import discs, fit
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from two_ranges import code, manifest_of

from models.networks.building import build_own_network, parameter_count
from models.networks.centernet import CenterNet
from models.networks.centernet_targets import centernet_loss, draw_targets
from models.networks.own_specs import CenterNetSpec
from models.package import Package, hash_of, load_package, parse_manifest
from models.predictor import Predictor, golden_volume
from models.training.build import write_golden

PACKAGE_ID = "test-ball-detector"
SPEC = CenterNetSpec(
    registry="centernet@1",
    dimensions=3,
    in_channels=1,
    features=(4, 8, 12),
    blocks=1,
    norm="group",
    classes=1,
    output_stage=1,
    head_features=12,
    candidates_max=30,
)
NOISE, BACKGROUND, ABOVE = 100.0, -800.0, 400.0
_ROLES = {
    "weights.safetensors": "weights",
    "golden/input.npz": "golden_in",
    "golden/expected.npz": "golden_out",
    "CARD.md": "card",
}


@cache
def trained() -> dict[str, Tensor]:
    """Weights that find balls with a radius of 3 to 5 voxels; they see patches of 16 voxels a side."""
    count = 48
    data = discs(count, 16, seed=3, dimensions=3, least=0, most=1, radii=(2.5, 5.5))
    torch.manual_seed(1)
    network = build_own_network(SPEC)
    assert isinstance(network, CenterNet)

    def loss(step: int) -> Tensor:
        chosen = [(4 * step + index) % count for index in range(4)]
        maps = network(data.images[chosen] + data.masks[chosen])  # 4 deviations above the noise
        truths = [data.truths[index] for index in chosen]
        targets = draw_targets(truths, cells=(8, 8, 8), stride=(2, 2, 2), classes=1)
        return centernet_loss(maps, targets)["total"]

    return fit(network, loss, steps=150, rate=2e-2).state_dict()


def balls(
    shape: tuple[int, int, int],
    given: list[tuple[tuple[float, float, float], float]],
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    seed: int = 5,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """An image and the labels of balls: middle in voxels, radius in mm."""
    labels = np.zeros(shape, np.uint8)
    places = np.indices(shape) + 0.5
    for number, (middle, radius) in enumerate(given, start=1):
        away = (places - np.reshape(middle, (3, 1, 1, 1))) * np.reshape(spacing, (3, 1, 1, 1))
        labels[(away**2).sum(0) <= radius**2] = number
    noise = np.random.default_rng(seed).normal(0, NOISE, shape)
    return np.round(BACKGROUND + ABOVE * (labels > 0) + noise).astype(np.int16), labels


def detector_manifest(**changes: Any) -> dict[str, Any]:
    """model.json without files; `changes` replace blocks of the top level."""
    content = copy.deepcopy(manifest_of())
    return {
        **content,
        "id": PACKAGE_ID,
        "title": "Balls",
        "task": {"kind": "detect"},
        "network": SPEC.model_dump(mode="json"),
        "grid": {
            "steps": [
                {"step": "orient_grid", "columns": "L", "rows": "P", "slices": "H"},
                {"step": "resample_grid", "spacing_mm": [1.0, 1.0, 1.0], "order": 1},
                {
                    "step": "clip_standardise",
                    "low": -1400.0,
                    "high": 400.0,
                    "mean": BACKGROUND,
                    "deviation": NOISE,
                },
            ],
            "tiling": {
                "window": [16, 16, 16],
                "overlap": 0.5,
                "blend": "gaussian",
                "activation": "sigmoid",
            },
        },
        "postprocess": [{"step": "keep_detections", "score": 0.4, "at_most": 5}],
        "findings": {
            "segments": [
                {
                    "number": 1,
                    "label": "Possible ball",
                    "category": code("49755003", "Morphologically Abnormal Structure"),
                    "type": code("27925004", "Nodule"),
                    "region": code("39607008", "Lung"),
                    "colour": [70.0, 45.0, 55.0],
                }
            ],
            "measurements": content["findings"]["measurements"],
            "classes": [],
            "negative_statement": "No ball was found.",
        },
        "golden": {"probability_tolerance": 0.05, "class_tolerance": 0.02, "lesions": 0, "class_name": None},
        **changes,
    }


def write_ball_detector(folder: Path, **changes: Any) -> Package:
    """Write the package into `folder`, its golden case included."""
    (folder / "golden").mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in trained().items()}, folder / "weights.safetensors")
    image, _ = balls((30, 32, 28), [((10, 12, 11), 4.0), ((20, 21, 17), 5.0)])
    arrays: dict[str, Any] = {
        "image": image,
        "affine": np.diag([1.0, 1.0, 1.0, 1.0]),
        "pixel_spacing_mm": np.array([1.0, 1.0]),
        "slice_spacing_mm": np.array(1.0),
    }
    np.savez_compressed(folder / "golden/input.npz", **arrays)
    (folder / "golden/expected.npz").write_bytes(b"")
    (folder / "CARD.md").write_text("A detector of balls, for tests.\n")
    content = detector_manifest(**changes)
    content["runtime"]["parameters"] = parameter_count(build_own_network(SPEC))

    def listed() -> list[dict[str, Any]]:
        return [
            {
                "path": name,
                "role": role,
                "bytes": (folder / name).stat().st_size,
                "sha256": hash_of(folder / name),
            }
            for name, role in _ROLES.items()
        ]

    manifest = parse_manifest({**content, "files": listed()}, "test")
    draft = Predictor(Package(manifest, folder, "0" * 64), device="cpu")
    golden = write_golden(draft, arrays, manifest.golden)
    assert golden_volume(arrays).shape == image.shape
    assert golden.lesions == 2, "the detector did not learn"
    content["golden"]["lesions"] = golden.lesions
    content["files"] = listed()
    (folder / "model.json").write_text(json.dumps(content, indent=1))
    return load_package(folder)
