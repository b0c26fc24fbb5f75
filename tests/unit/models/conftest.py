"""A whole package with a narrow network and random weights, made once; tests copy it before they break it."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.manifest import FORMAT, Evaluation, Golden, Manifest, PackageFile, Runtime, Training
from models.networks.building import build_network, parameter_count
from models.networks.registry import EffNetLite0UNetSpec
from models.package import Package, digest_of, load_package
from models.predictor import Predictor, golden_volume
from models.training.declared import DECLARATIONS
from models.training.golden import golden_input
from models.training.recipes import BREAST

FILES = (
    ("weights.safetensors", "weights"),
    ("golden/input.npz", "golden_in"),
    ("golden/expected.npz", "golden_out"),
    ("CARD.md", "card"),
)


def write_package(folder, *, seed=3):
    """A breast package whose network knows nothing."""
    declared = DECLARATIONS["breast-us-lesion"]
    spec = EffNetLite0UNetSpec(
        registry="effnet_lite0_unet@1", in_channels=1, classes=3, decoder_channels=(8, 8, 4, 4)
    )
    (folder / "golden").mkdir(parents=True)
    torch.manual_seed(seed)
    network = build_network(spec)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / FILES[0][0])
    arrays = golden_input("breast-us")
    np.savez_compressed(folder / FILES[1][0], **arrays)
    (folder / FILES[2][0]).write_bytes(b"")
    (folder / FILES[3][0]).write_text("A network that knows nothing.\n")

    def manifest(golden):
        return Manifest(
            format=FORMAT,
            id="breast-us-lesion",
            version="0.0.1",
            title=declared.title,
            summary=declared.summary,
            released="2026-01-01",
            files=tuple(
                PackageFile(
                    path=name,
                    role=role,
                    bytes=(folder / name).stat().st_size,
                    sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                )
                for name, role in FILES
            ),
            task=declared.task,
            network=spec,
            inputs=(declared.model_input,),
            preprocess=BREAST.preprocess,
            inference=declared.inference,
            postprocess=declared.postprocess,
            findings=declared.findings,
            operating_points=declared.operating_points,
            evaluation=(
                Evaluation(
                    dataset="breast-us",
                    split_sha256="0" * 64,
                    subset="scored",
                    metric="auc_malignant",
                    value=0.5,
                    ci95=(0.4, 0.6),
                    n=10,
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
    draft = manifest(golden)
    found = Predictor(Package(draft, folder, digest_of(draft.model_dump(mode="json"))), device="cpu").predict(
        golden_volume(arrays)
    )
    np.savez_compressed(
        folder / FILES[2][0],
        probability=found.probability.astype(np.float16),
        class_scores=np.array(list(found.class_scores.values())),
    )
    golden = golden.model_copy(update={"lesions": int(found.labels.max()), "class_name": found.class_name})
    (folder / "model.json").write_text(json.dumps(manifest(golden).model_dump(mode="json"), indent=1))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small networks gain nothing from threads, and the machine that runs the tests may be busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def original_package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "breast-us-lesion"
    write_package(folder)
    return folder


@pytest.fixture
def package_folder(original_package, tmp_path):
    return shutil.copytree(original_package, tmp_path / "packages" / original_package.name)


@pytest.fixture
def package(original_package):
    return load_package(original_package)


@pytest.fixture
def rewrite(package_folder):
    """Change model.json by a function of its decoded content."""

    def change(edit):
        path = package_folder / "model.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change
