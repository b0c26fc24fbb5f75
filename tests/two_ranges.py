"""A package of two structures whose network is set by hand: it outlines two ranges of intensity, exactly.

Values from 250 to 450 are the anterior, from 550 to 850 the posterior part; so what must come out of an image
can be counted in the image itself.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pipeline_node import flair_slices
from pydicom.dataset import Dataset
from safetensors.torch import save_file

from models.networks.building import build_grid_network, parameter_count
from models.networks.registry import NnUNetPlainSpec
from models.package import Package, digest_of, hash_of, load_package, parse_manifest
from models.predictor import golden_volume
from models.structure_prediction import predict_structures

PACKAGE_ID = "test-two-ranges"
ANTERIOR, POSTERIOR = (250.0, 450.0), (550.0, 850.0)
BACKGROUND, IN_ANTERIOR, IN_POSTERIOR = 100, 350, 700
SPEC = NnUNetPlainSpec(
    registry="nnunet_plain@1",
    dimensions=3,
    in_channels=1,
    heads=3,
    features=(8, 8),
    kernels=((1, 1, 1), (1, 1, 1)),
    strides=((1, 1, 1), (2, 2, 2)),
    encoder_blocks=(1, 1),
    decoder_blocks=(1,),
    norm="batch",
    norm_eps=1e-5,
    bias=True,
    slope=0.0,
    members=1,
)
_EDGE = 0.01  # a range begins and ends between two values this far from its end, in thousands
_SHARPNESS = 1000.0
_ROLES = {
    "weights.safetensors": "weights",
    "golden/input.npz": "golden_in",
    "golden/expected.npz": "golden_out",
    "CARD.md": "card",
}


def set_by_hand() -> torch.nn.Module:
    """The network: eight ramps of the value, and of four of them each a plateau."""
    network = build_grid_network(SPEC)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        weights = dict(network.named_parameters())
        ends = [end / 1000 for limits in (ANTERIOR, POSTERIOR) for end in limits]
        starts = torch.tensor([at for end in ends for at in (end - _EDGE, end + _EDGE)])
        first = "members.0.encoder.stages.0.0.convs.0.conv"
        weights[f"{first}.weight"].fill_(1.0)
        weights[f"{first}.bias"].copy_(-starts)
        kept = weights["members.0.decoder.stages.0.convs.0.conv.weight"]
        for channel in range(8):
            kept[channel, 8 + channel] = 1.0  # what came through the skip, nothing from below
        last = "members.0.decoder.seg_layers.0"
        for head in (1, 2):
            for step, sign in enumerate((1, -1, -1, 1)):
                weights[f"{last}.weight"][head, 4 * (head - 1) + step] = sign * _SHARPNESS
            weights[f"{last}.bias"][head] = -_SHARPNESS * _EDGE
    return network.eval()


def two_parts(shape: tuple[int, int, int] = (10, 40, 36), *, posterior: bool = True) -> NDArray[np.uint16]:
    """An image with noise, an anterior ball and a longer posterior body behind it, some voxels apart."""
    s, r, c = np.ogrid[: shape[0], : shape[1], : shape[2]]
    noise = np.random.default_rng(8).integers(-40, 40, shape)
    image = np.full(shape, BACKGROUND) + noise
    middle = (shape[0] - 1) / 2
    image[((s - middle) / 3) ** 2 + ((r - 12) / 6) ** 2 + ((c - 17) / 5) ** 2 <= 1] = IN_ANTERIOR
    if posterior:
        image[((s - middle) / 2.5) ** 2 + ((r - 27) / 8) ** 2 + ((c - 18) / 4) ** 2 <= 1] = IN_POSTERIOR
    return image.astype(np.uint16)


def truth_of(image: NDArray[Any]) -> NDArray[np.uint16]:
    """What must be outlined: 1 anterior, 2 posterior."""
    labels = np.zeros(image.shape, np.uint16)
    for number, (low, high) in enumerate((ANTERIOR, POSTERIOR), start=1):
        labels[(image >= low) & (image <= high)] = number
    return labels


def code(value: str, meaning: str, scheme: str = "SCT") -> dict[str, str]:
    return {"value": value, "scheme": scheme, "meaning": meaning}


def manifest_of(**changes: Any) -> dict[str, Any]:
    """model.json without files and golden case; `changes` replace blocks of the top level."""
    part = {
        "category": code("91723000", "Anatomical Structure"),
        "type": code("5366008", "Hippocampus"),
        "region": code("5366008", "Hippocampus"),
        "laterality": "left",
    }
    return {
        "format": "preread-model/1",
        "id": PACKAGE_ID,
        "version": "0.1.0",
        "title": "Hippocampus, two parts",
        "summary": "Outlines two ranges of intensity; for tests.",
        "released": "2026-01-01",
        "files": [],
        "task": {"kind": "segment"},
        "network": SPEC.model_dump(mode="json"),
        "inputs": [
            {
                "name": "crop",
                "unit": "series",
                "applicability": {
                    "all": [
                        {
                            "attribute": "Modality",
                            "op": "equals",
                            "value": "MR",
                            "code": "wrong_modality",
                            "sentence": "The model reads MR.",
                        }
                    ],
                    "min_slices": 3,
                    "field_of_view_mm": [20.0, 80.0],
                    "stack_extent_mm": [5.0, 80.0],
                },
            }
        ],
        "preprocess": [],
        "grid": {
            "steps": [
                {"step": "orient_grid", "columns": "L", "rows": "P", "slices": "H"},
                {
                    "step": "map_range",
                    "low": 0.0,
                    "high": 1000.0,
                    "to_low": 0.0,
                    "to_high": 1.0,
                    "clip": False,
                },
            ],
            "tiling": {
                "window": [8, 16, 16],
                "overlap": 0.5,
                "blend": "gaussian",
                "activation": "softmax",
            },
        },
        "inference": {"flip": False, "batch": 2},
        "postprocess": [{"step": "argmax"}],
        "findings": {
            "kind": "structures",
            "segments": [
                {
                    **part,
                    "number": 1,
                    "label": "Hippocampus anterior",
                    "modifier": code("255549009", "Anterior"),
                    "colour": [70.0, 45.0, 55.0],
                    "heads": [1],
                },
                {
                    **part,
                    "number": 2,
                    "label": "Hippocampus posterior",
                    "modifier": code("255551008", "Posterior"),
                    "colour": [70.0, -40.0, -20.0],
                    "heads": [2],
                },
            ],
            "measurements": [
                {
                    "name": "volume_ml",
                    "concept": code("118565006", "Volume"),
                    "unit": code("mL", "milliliter", "UCUM"),
                }
            ],
            "classes": [],
            "totals": [{"label": "Hippocampus, whole", "segments": [1, 2]}],
        },
        "operating_points": [
            {
                "name": "standard",
                "default": True,
                "thresholds": {},
                "chosen_on": "no case: the likeliest map is taken",
            }
        ],
        "evaluation": [],
        "training": {
            "recipe": "by hand",
            "recipe_sha256": "0" * 64,
            "seed": 0,
            "steps": 0,
            "seconds": 0.0,
            "data": [{"name": "none", "licence": "none", "n": 0, "unit": "images", "citation": ""}],
            "simulated_fraction": 1.0,
            "pretrained": [],
        },
        "runtime": {
            "torch": "2.13",
            "devices": ["cpu", "cuda"],
            "memory": {"base": 1 << 20, "per_canvas_pixel": 400, "per_voxel": 16},
            "parameters": 1,
        },
        "golden": {
            "probability_tolerance": 0.02,
            "class_tolerance": 0.02,
            "lesions": 0,
            "class_name": None,
            "structure_voxels": [0, 0],
        },
        "card": {
            "intended_use": "Tests.",
            "not_for": ["patients"],
            "limits": ["It reads cropped volumes only."],
            "line": "A network set by hand; it knows intensities and nothing else.",
            "licences": ["none"],
            "commercial_use": True,
            "regulatory": "research",
        },
        **changes,
    }


def write_two_ranges(folder: Path, **changes: Any) -> Package:
    """Write the package into `folder`, its golden case included."""
    network = set_by_hand()
    (folder / "golden").mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        folder / "weights.safetensors",
    )
    arrays: dict[str, Any] = {
        "image": two_parts(),
        "affine": np.diag([1.0, 1.0, 1.0, 1.0]),
        "pixel_spacing_mm": np.array([1.0, 1.0]),
        "slice_spacing_mm": np.array(1.0),
    }
    np.savez_compressed(folder / "golden/input.npz", **arrays)
    (folder / "CARD.md").write_text("A network set by hand, for tests.\n")
    content = manifest_of(**changes)
    content["runtime"]["parameters"] = parameter_count(network)
    files = [{"path": name, "role": role, "bytes": 1, "sha256": "0" * 64} for name, role in _ROLES.items()]
    manifest = parse_manifest({**content, "files": files}, "test")
    volume = golden_volume(arrays)
    found = predict_structures(volume, manifest, network, torch.device("cpu"), with_maps=True)
    assert found.maps is not None
    np.savez_compressed(folder / "golden/expected.npz", probability=found.maps.astype(np.float16))
    content["golden"]["structure_voxels"] = list(found.structures.voxels)
    content["files"] = [
        {
            "path": name,
            "role": role,
            "bytes": (folder / name).stat().st_size,
            "sha256": hash_of(folder / name),
        }
        for name, role in _ROLES.items()
    ]
    (folder / "model.json").write_text(json.dumps(content, indent=1))
    package = load_package(folder)
    assert package.digest == digest_of(content)
    return package


def crop_slices(
    study_uid: str, image: NDArray[np.uint16], *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> list[Dataset]:
    """An MR series of an image (slices, rows, columns); spacing of slices, rows and columns."""
    template = flair_slices(study_uid)[0]
    slices = []
    for index, plane in enumerate(image):
        one = copy.deepcopy(template)
        one.SOPInstanceUID = f"{study_uid}.1.{index + 1}"
        one.SeriesDescription, one.InstanceNumber = "HIPPOCAMPUS CROP", index + 1
        one.ImagePositionPatient = [10, -30, spacing_mm[0] * index]
        one.SliceThickness, one.PixelSpacing = spacing_mm[0], list(spacing_mm[1:])
        one.Rows, one.Columns = plane.shape
        one.PixelData = plane.astype("<u2").tobytes()
        slices.append(one)
    return slices
