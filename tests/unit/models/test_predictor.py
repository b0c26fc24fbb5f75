import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import models.predictor
from models.memory import TooLarge
from models.package import PackageError, load_package
from models.predictor import Predictor, read_golden
from models.volume import Volume


def replace_weights(folder, edit):
    """Change the weights and declare their new checksum: a package that is whole, but not this network's."""
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    content = json.loads((folder / "model.json").read_text())
    for item in content["files"]:
        if item["role"] == "weights":
            item.update(bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (folder / "model.json").write_text(json.dumps(content))


def test_the_golden_case_passes_on_the_package_as_made(package):
    report = Predictor(package, device="cpu").verify_golden()
    assert report.passed
    assert report.probability_difference < 0.001


def test_the_golden_case_fails_when_the_network_computes_something_else(package_folder):
    def edit(tensors):
        tensors["lesion.bias"] += 1.0

    replace_weights(package_folder, edit)
    report = Predictor(load_package(package_folder), device="cpu").verify_golden()
    assert not report.passed
    assert "probabilities differ" in report.message


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop("lesion.bias"), "lesion.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra"),
        (lambda t: t.update({"lesion.bias": torch.zeros(2)}), r"lesion\.bias is F32 \[2\]"),
        (lambda t: t.update({"lesion.bias": torch.zeros(1, dtype=torch.int8)}), "I8"),
        (lambda t: t["lesion.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused_by_name(package_folder, edit, words):
    replace_weights(package_folder, edit)
    with pytest.raises(PackageError, match=words):
        Predictor(load_package(package_folder), device="cpu")


def test_a_prediction_lies_on_the_source_grid_and_repeats_exactly(package):
    predictor = Predictor(package, device="cpu")
    image = np.random.default_rng(5).integers(0, 255, (1, 131, 217), dtype=np.uint8)
    first, second = (predictor.predict(Volume(image)) for _ in range(2))
    assert first.probability.shape == first.labels.shape == (1, 131, 217)
    assert first.probability.dtype == np.float32
    assert first.labels.dtype == np.uint16
    assert np.array_equal(first.probability, second.probability)
    assert first.class_scores == second.class_scores
    assert sum(first.class_scores.values()) == pytest.approx(1, abs=1e-5)
    assert first.class_name in ("benign", "malignant", "normal")
    assert len(first.lesion_scores) == first.labels.max()


def test_halved_weights_give_the_same_answer_within_the_golden_tolerance(package_folder):
    def edit(tensors):
        for key, value in tensors.items():
            if value.dtype == torch.float32:
                tensors[key] = value.half()

    replace_weights(package_folder, edit)
    assert Predictor(load_package(package_folder), device="cpu").verify_golden().passed


def test_what_does_not_fit_into_memory_is_said_before_it_is_tried(package, monkeypatch):
    predictor = Predictor(package, device="cpu")
    monkeypatch.setattr(models.predictor, "free_bytes", lambda _: 1000)
    volume, _, _ = read_golden(package)
    with pytest.raises(TooLarge) as caught:
        predictor.predict(volume)
    assert caught.value.have == 1000
    assert caught.value.need > 1000


def test_a_device_the_package_does_not_run_on_is_refused(package_folder, rewrite):
    rewrite(lambda content: content["runtime"].update(devices=["cuda"]))
    with pytest.raises(PackageError, match="does not run on cpu"):
        Predictor(load_package(package_folder), device="cpu")
