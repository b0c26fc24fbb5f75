"""Small packages for tests: the rules of a shipped model with a narrow network that knows nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pipeline_node import BRAIN, BREAST
from safetensors.torch import save_file

from models.manifest import FORMAT, Evaluation, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.building import build_network, parameter_count
from models.networks.registry import EffNetLite0UNetSpec
from models.package import Package, digest_of, hash_of
from models.predictor import Predictor, golden_volume
from models.steps import MinComponent, Threshold
from models.training.declared import DECLARATIONS
from models.training.golden import golden_input
from models.training.recipes import RECIPES


def write_package(folder: Path, model: str, *, seed: int = 3) -> Package:
    """The package `test-<model>`: the declared rules of a shipped model, a network that knows nothing.

    Its threshold is set so that about a tenth of its golden case is called lesion: there is something to
    write down.
    """
    declared, recipe = DECLARATIONS[model], RECIPES[model]
    spec = EffNetLite0UNetSpec(
        registry="effnet_lite0_unet@1",
        in_channels=recipe.network.in_channels,
        classes=recipe.network.classes,
        decoder_channels=(8, 8, 4, 4),
    )
    torch.manual_seed(seed)
    network = build_network(spec)
    with torch.no_grad():
        # Far from the threshold on either side, so that rounding decides nothing.
        network.lesion.weight.mul_(100 if model == BREAST else 300)
    (folder / "golden").mkdir(parents=True)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    arrays = golden_input(recipe.kind)
    np.savez_compressed(folder / "golden/input.npz", **arrays)
    (folder / "golden/expected.npz").touch()
    (folder / "CARD.md").write_text("A network that knows nothing, for tests.\n")
    volume = golden_volume(arrays)

    def manifest(golden: Golden, threshold: float) -> Manifest:
        files = {
            "weights.safetensors": "weights",
            "golden/input.npz": "golden_in",
            "golden/expected.npz": "golden_out",
            "CARD.md": "card",
        }
        return Manifest(
            format=FORMAT,
            id=f"test-{model}",
            version="0.0.1",
            title=declared.title,
            summary=declared.summary,
            released="2026-01-01",
            files=tuple(
                PackageFile(
                    path=name,
                    role=role,  # type: ignore[arg-type]
                    bytes=(folder / name).stat().st_size,
                    sha256=hash_of(folder / name),
                )
                for name, role in files.items()
            ),
            task=declared.task,
            network=spec,
            inputs=(declared.model_input,),
            preprocess=recipe.preprocess,
            inference=declared.inference,
            postprocess=(
                Threshold(step="threshold", probability=threshold),
                # Noise has many small islands; a few are enough.
                MinComponent(step="min_component", minimum_ml=3.0)
                if model == BRAIN
                else MinComponent(step="min_component", minimum_share=0.01),
            ),
            findings=declared.findings,
            operating_points=declared.operating_points,
            evaluation=(
                Evaluation(
                    dataset="none",
                    split_sha256="0" * 64,
                    subset="scored",
                    metric="dice",
                    value=0.0,
                    ci95=(0.0, 0.0),
                    n=1,
                    unit="images",
                ),
            ),
            training=Training(
                recipe="test",
                recipe_sha256="0" * 64,
                seed=seed,
                steps=0,
                seconds=0.0,
                data=(declared.real_data,),
                simulated_fraction=0.0,
                pretrained=(),
            ),
            runtime=Runtime(
                torch="2.13",
                devices=("cpu", "cuda"),
                memory=declared.memory,
                parameters=parameter_count(network),
            ),
            golden=golden,
            card=declared.card,
        )

    golden = Golden(probability_tolerance=0.02, class_tolerance=0.02, lesions=0, class_name=None)

    def found(threshold: float) -> Any:
        draft = manifest(golden, threshold)
        package = Package(draft, folder, digest_of(draft.model_dump(mode="json")))
        return Predictor(package, device="cpu").predict(volume)

    threshold = float(np.clip(np.quantile(found(0.5).probability, 0.9), 0.01, 0.99))
    said = found(threshold)
    scores = {} if said.class_scores is None else {"class_scores": np.array(list(said.class_scores.values()))}
    np.savez_compressed(
        folder / "golden/expected.npz", probability=said.probability.astype(np.float16), **scores
    )
    golden = golden.model_copy(update={"lesions": int(said.labels.max()), "class_name": said.class_name})
    content = manifest(golden, threshold).model_dump(mode="json")
    (folder / "model.json").write_text(json.dumps(content, indent=1))
    return Package(manifest(golden, threshold), folder, digest_of(content))
