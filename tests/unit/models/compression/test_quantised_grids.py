"""Networks on a grid in 8-bit integers: graphs that `onnx@1` runs, nearly the same and not the same."""

from datetime import date

import numpy as np
import pytest
import torch
from filled_draft import fill
from nnunet_model import member, write_trained_model

from models.adapters.finishing import finish
from models.adapters.importing import import_model
from models.adapters.reading import Wishes
from models.compression import compressing, quantised
from models.compression.compressing import Wish, compress_package
from models.compression.graph import FEATURES, INPUT, LOGITS, float_graph
from models.compression.quantised import quantised_graph
from models.networks.building import build_grid_network
from models.networks.features import featured, recorded_features
from models.networks.onnx_network import onnx_network
from models.networks.own_specs import UNetSpec
from models.networks.registry import OnnxSpec
from models.predictor import Predictor

FLAT = UNetSpec(registry="unet@1", dimensions=2, in_channels=1, heads=3, features=(8, 8, 16), side_outputs=1)
SPECS = {
    "2d": (FLAT, (16, 16)),
    "3d residual gated": (
        FLAT.model_copy(update={"dimensions": 3, "kind": "residual", "norm": "group", "attention": True}),
        (8, 16, 16),
    ),
}


@pytest.mark.parametrize(("spec", "sizes"), SPECS.values(), ids=SPECS)
def test_a_unet_in_integers_agrees_with_itself_to_a_bound_and_is_not_itself(spec, sizes, tmp_path):
    torch.manual_seed(2)
    network = build_grid_network(spec).eval()
    inputs = [np.random.default_rng(n).normal(size=(1, *sizes)).astype(np.float32) for n in range(8)]
    graph = float_graph(network, inputs[0][None], [LOGITS], fixed_size=True)
    found = {}
    for name, content in (("float", graph), ("int8", quantised_graph(graph, inputs))):
        (tmp_path / f"{name}.onnx").write_bytes(content)
        entry = OnnxSpec(
            registry="onnx@1",
            dimensions=spec.dimensions,
            in_channels=1,
            heads=3,
            input=INPUT,
            output=LOGITS,
            features=FEATURES,
            one_at_a_time=False,
        )
        found[name] = onnx_network(tmp_path / f"{name}.onnx", entry)
    x = torch.from_numpy(np.stack(inputs[:3]))
    with torch.inference_mode():
        wanted, vectors = network(x), featured(network).features(x)
        logits = {name: one(x) for name, one in found.items()}
    scale = float(wanted.abs().max())
    assert float((logits["float"] - wanted).abs().max()) < 1e-4 * scale
    assert 1e-3 * scale < float((logits["int8"] - wanted).abs().max()) < 0.25 * scale
    torch.testing.assert_close(found["float"].features(x), vectors, rtol=1e-3, atol=1e-4)
    with recorded_features(found["int8"]) as kept:
        found["int8"](x)
    assert np.corrcoef(kept[0].flatten(), vectors.flatten())[0, 1] > 0.95


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """An imported nnU-Net of one fold, in 2D."""
    base = tmp_path_factory.mktemp("nnunet")
    model = write_trained_model(base / "model", "plain_2d")
    import_model(model, base / "spheres", "spheres", Wishes(), date(2026, 11, 22))
    fill(base / "spheres")
    image = np.random.default_rng(4).normal(100, 20, (3, 16, 16)).astype(np.float32)
    affine, spacing = np.diag([1.0, 1.0, 4.0, 1.0]), {"pixel_spacing_mm": [1.0, 1.0], "slice_spacing_mm": 4.0}
    np.savez(base / "in.npz", image=image, affine=affine, **spacing)
    x = torch.from_numpy((image - image.mean()) / image.std()).float()[:, None]
    network = member("plain_2d", 0)
    with torch.inference_mode():
        turned = sum(network(x.flip(turn)).flip(turn) for turn in ([], [2], [3], [2, 3])) / 4
    np.savez(base / "out.npz", probability=torch.softmax(turned, 1)[:, 1].numpy())
    return finish(base / "spheres", base / "in.npz", base / "out.npz", tolerance=0.001).package


def test_a_package_on_a_grid_becomes_a_graph_and_one_fold_of_the_cases_gives_its_ranges(
    package, tmp_path, monkeypatch
):
    monkeypatch.setattr(compressing, "objections", lambda *_: ())
    monkeypatch.setattr(compressing, "alternating_seconds", lambda *_: ((1.0,), (1.0,)))
    monkeypatch.setattr(compressing, "CASES_MIN", 4)
    monkeypatch.setattr(quantised, "SLICES_MIN", 16)
    cases = tmp_path / "cases"
    cases.mkdir()
    generator = np.random.default_rng(0)
    for index in range(5):
        image = generator.normal(100, 20, (18, 16, 16)).astype(np.float32)
        mask = np.zeros(image.shape, np.uint8)
        mask[5:9, 4:12, 4:12] = 1
        np.savez(
            cases / f"{index:02d}.npz",
            image=image + 60 * mask,
            mask=mask,
            affine=np.diag([1.0, 1.0, 4.0, 1.0]),
            pixel_spacing_mm=[1.0, 1.0],
            slice_spacing_mm=4.0,
        )
    done = compress_package(package, cases, tmp_path / "p", Wish("int8"), version=None, released="2026-11-22")
    spec = done.package.manifest.network
    assert isinstance(spec, OnnxSpec)
    assert (spec.heads, spec.features) == (package.manifest.network.heads, FEATURES)
    assert "from 16 inputs" in done.words  # of the one case that was set apart
    assert done.package.manifest.evaluation == ()
    assert Predictor(done.package, device="cpu").verify_golden().passed
