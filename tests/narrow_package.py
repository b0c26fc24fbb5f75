"""A whole package with a narrow network that knows nothing: the rules of a shipped model, made fast."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from models.manifest import FORMAT, Evaluation, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.building import build_network, parameter_count
from models.networks.registry import EffNetLite0UNetSpec
from models.package import Package, digest_of, hash_of
from models.predictor import Prediction, Predictor, golden_volume
from models.training.golden import golden_input
from models.training.recipe_file import shipped_recipe

FILES = {
    "weights.safetensors": "weights",
    "golden/input.npz": "golden_in",
    "golden/expected.npz": "golden_out",
    "CARD.md": "card",
}


def write_narrow_package(
    folder: Path,
    model: str,
    *,
    package_id: str,
    seed: int = 3,
    sharpness: float = 1.0,
    postprocess: Callable[[Prediction], tuple[Any, ...]] | None = None,
) -> Package:
    """Write the package into `folder`, its golden case included.

    Parameters
    ----------
    model : whose declared rules it has
    sharpness : factor on the last layer's weights, so that rounding decides nothing near a threshold
    postprocess : other steps than the declared ones, from what the network says of its golden case
    """
    declared = shipped_recipe(model)
    recipe = declared.run
    spec = EffNetLite0UNetSpec(
        registry="effnet_lite0_unet@1",
        in_channels=recipe.network.in_channels,
        classes=recipe.network.classes,
        decoder_channels=(8, 8, 4, 4),
    )
    torch.manual_seed(seed)
    network = build_network(spec)
    with torch.no_grad():
        network.lesion.weight.mul_(sharpness)
    (folder / "golden").mkdir(parents=True)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    arrays = golden_input(recipe.kind)
    np.savez_compressed(folder / "golden/input.npz", **arrays)
    (folder / "golden/expected.npz").touch()
    (folder / "CARD.md").write_text("A network that knows nothing, for tests.\n")

    def package(golden: Golden, steps: tuple[Any, ...]) -> Package:
        manifest = Manifest(
            format=FORMAT,
            id=package_id,
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
                for name, role in FILES.items()
            ),
            task=declared.task,
            network=spec,
            inputs=(declared.input,),
            preprocess=recipe.preprocess,
            inference=declared.inference,
            postprocess=steps,
            findings=declared.coded_findings,
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
                data=(declared.data.counted(0),),
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
        return Package(manifest, folder, digest_of(manifest.model_dump(mode="json")))

    def said(one: Package) -> Prediction:
        return Predictor(one, device="cpu").predict(golden_volume(arrays))

    golden = Golden(probability_tolerance=0.02, class_tolerance=0.02, lesions=0, class_name=None)
    steps = declared.postprocess
    found = said(package(golden, steps))
    if postprocess is not None:
        steps = postprocess(found)
        found = said(package(golden, steps))
    scores = (
        {} if found.class_scores is None else {"class_scores": np.array(list(found.class_scores.values()))}
    )
    np.savez_compressed(
        folder / "golden/expected.npz", probability=found.probability.astype(np.float16), **scores
    )
    golden = golden.model_copy(update={"lesions": int(found.labels.max()), "class_name": found.class_name})
    written = package(golden, steps)
    (folder / "model.json").write_text(json.dumps(written.manifest.model_dump(mode="json"), indent=1))
    return written
