"""A MONAI bundle is a program to MONAI; here it is text, and what it would do is never done."""

import json
from datetime import date

import numpy as np
import pytest
import torch
import yaml
from filled_draft import fill
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet

from models.adapters.finishing import finish
from models.adapters.importing import import_model
from models.adapters.monai_bundle import (
    activation_of,
    chosen_heads,
    inferer,
    labels_of,
    network_spec,
)
from models.adapters.monai_config import HARMLESS, check_expressions, described
from models.adapters.monai_transforms import steps_of
from models.adapters.reading import Wishes
from models.adapters.refusal import ImportRefusal
from models.networks.monai_networks import build_monai_network

TODAY = date(2026, 1, 2)
ORIENT = Wishes().orient
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}


INFERER = {"_target_": "SlidingWindowInferer", "roi_size": "@roi"}


def config(**more):
    return {
        "imports": ["$import glob"],
        "bundle_root": "/workspace/bundle",
        "datalist": "$list(sorted(glob.glob(@bundle_root + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "roi": [16, 16, 8],
        "network_def": dict(UNET),
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 3.0], "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": -50,
                    "a_max": 150,
                    "b_min": 0,
                    "b_max": 1,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": "@roi",
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"},
                {"_target_": "SaveImaged", "output_dir": "$@bundle_root + '/eval'"},
            ],
        },
        "evaluating": ["$@evaluator.run()"],
        **more,
    }


def write_bundle(folder, *, as_yaml=False, weights=None, **more):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "scripts").mkdir()
    (folder / "scripts/evil.py").write_text("raise SystemExit('this was run')")
    (folder / "LICENSE").write_text("Apache-2.0")
    content = config(**more)
    if as_yaml:
        (folder / "configs/inference.yaml").write_text(yaml.safe_dump(content))
    else:
        (folder / "configs/inference.json").write_text(json.dumps(content))
    metadata = {
        "version": "0.1.0",
        "name": "Spheres",
        "data_source": "generated spheres",
        "network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "sphere"}}}},
    }
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    torch.save({"w": torch.ones(1)} if weights is None else weights, folder / "models/model.pt")
    return folder


def own_unet():
    torch.manual_seed(5)
    arguments = {key: value for key, value in UNET.items() if key != "_target_"}
    return UNet(**arguments).eval()


def test_a_bundle_becomes_a_package_that_computes_what_monai_computes(tmp_path):
    network = own_unet()
    bundle = write_bundle(tmp_path / "bundle", weights=network.state_dict(), as_yaml=True)
    reading = import_model(bundle, tmp_path / "out", "spheres", Wishes(), TODAY)
    assert reading.finding == "sphere"
    notes = (tmp_path / "out/IMPORT.md").read_text()
    for words in ("evil.py", "datalist", "KeepLargestConnectedComponent", "LICENSE", "generated spheres"):
        assert words in notes
    fill(tmp_path / "out")
    # Axes run to the left, back and head; MONAI's run to the right, front and head: both in plane are turned.
    image = np.random.default_rng(2).uniform(-80, 200, (8, 24, 16)).astype(np.float32)
    np.savez(
        tmp_path / "in.npz",
        image=image,
        affine=np.diag([1.0, 1.0, 3.0, 1.0]),
        pixel_spacing_mm=[1.0, 1.0],
        slice_spacing_mm=3.0,
    )
    turned = np.clip((image[:, ::-1, ::-1].transpose(2, 1, 0) + 50) / 200, 0, 1)
    x = torch.from_numpy(np.ascontiguousarray(turned))[None, None]
    with torch.inference_mode():
        logits = sliding_window_inference(x, (16, 16, 8), 1, network, overlap=0.5, mode="gaussian")
    theirs = torch.softmax(logits[0], 0)[1].numpy().transpose(2, 1, 0)[:, ::-1, ::-1]
    np.savez(tmp_path / "out.npz", probability=theirs)
    finished = finish(tmp_path / "out", tmp_path / "in.npz", tmp_path / "out.npz", tolerance=0.001)
    assert finished.golden.passed


@pytest.mark.parametrize(
    ("given_network", "network"),
    [
        (UNET, own_unet()),
        (
            {"_target_": "BasicUNet", "spatial_dims": 2, "out_channels": 3, "features": [4, 4, 8, 8, 8, 4]},
            BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 8, 4)),
        ),
        (
            {
                "_target_": "monai.networks.nets.SegResNet",
                "in_channels": 1,
                "out_channels": 2,
                "dropout_prob": 0.2,
            },
            SegResNet(in_channels=1, out_channels=2),
        ),
        (
            {
                "_target_": "DynUNet",
                "spatial_dims": 3,
                "in_channels": 1,
                "out_channels": 2,
                "kernel_size": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
                "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
                "upsample_kernel_size": [[2, 2, 1], [2, 2, 2]],
                "filters": [4, 8, 8],
                "norm_name": "instance",
                "res_block": True,
            },
            DynUNet(
                3,
                1,
                2,
                [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
                [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
                [[2, 2, 1], [2, 2, 2]],
                filters=[4, 8, 8],
                norm_name="instance",
                res_block=True,
            ),
        ),
    ],
    ids=["UNet", "BasicUNet", "SegResNet", "DynUNet"],
)
def test_a_described_network_is_the_one_monai_builds(given_network, network):
    spec = network_spec(given_network, "x")
    built = build_monai_network(spec).eval()
    built.load_state_dict(network.state_dict(), strict=True)
    size = {2: (32, 32), 3: (16, 16, 16)}[spec.dimensions]
    x = torch.randn(1, 1, *size)
    with torch.inference_mode():
        torch.testing.assert_close(built(x), network.eval()(x))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"network_def": {**UNET, "out_channels": "$__import__('os').system('touch x')"}},
            "reaches for the system",
        ),
        (
            {"network_def": {**UNET, "out_channels": "$1 + 1"}},
            r"network_def#out_channels is the expression \$1 \+ 1",
        ),
        ({"network_def": {**UNET, "channels": "%other.json#channels"}}, "is the expression %other"),
        ({"network_def": {**UNET, "channels": "@nowhere"}}, "@nowhere, which is not there"),
        ({"network_def": {**UNET, "channels": "@network_def#channels"}}, "go in circles"),
        ({"imports": ["$import os; os.system('touch x')"]}, "imports#0 reaches for the system"),
        ({"handlers": [{"x": {"y": "$(lambda: exec('1'))()"}}]}, "handlers#0#x#y reaches for the system"),
        ({"network_def": {"_target_": "scripts.evil.Net"}}, r"scripts\.evil\.Net is not MONAI's"),
        ({"network_def": {"_target_": "os.system", "command": "touch x"}}, r"os\.system is not MONAI's"),
        ({"network_def": {"_target_": "SwinUNETR"}}, "network SwinUNETR is not read"),
        ({"network_def": {**UNET, "in_channels": 4}}, "in_channels is 4"),
        ({"network_def": {**UNET, "channels": [4, 10**9]}}, "channels"),
        ({"network_def": {**UNET, "surprise": 1}}, "surprise"),
        ({"network_def": {**UNET, "norm": ["layer", {}]}}, "norm is"),
        ({"inferer": {"_target_": "SimpleInferer"}}, "SimpleInferer is not read"),
        ({"inferer": {"_target_": "SlidingWindowInferer", "roi_size": [15, 16, 8]}}, "no multiple"),
        (
            {"preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "Lambdad"}]}},
            "transform Lambda ",
        ),
        (
            {"preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "my.own.Transform"}]}},
            r"my\.own\.Transform is not MONAI's",
        ),
    ],
)
def test_a_hostile_or_unknown_bundle_is_refused_by_name_and_leaves_nothing(
    tmp_path, monkeypatch, more, words
):
    monkeypatch.chdir(tmp_path)
    bundle = write_bundle(tmp_path / "bundle", **more)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImportRefusal, match=words) as caught:
        import_model(bundle, tmp_path / "out", "some-id", Wishes(), TODAY)
    assert caught.value.remedy
    assert sorted(tmp_path.rglob("*")) == before


def test_torchscript_alone_and_other_weights_are_refused(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    with pytest.raises(ImportRefusal, match="is missing"):
        import_model(bundle, tmp_path / "out", "some-id", Wishes(), TODAY)
    (bundle / "models/model.pt").rename(bundle / "models/model.ts")
    with pytest.raises(ImportRefusal, match=r"model\.ts is TorchScript, a program"):
        import_model(bundle, tmp_path / "out", "some-id", Wishes(), TODAY)


def test_expressions_outside_the_model_are_listed_and_harmless_ones_are_not():
    assert check_expressions({text: text for text in HARMLESS}, "x") == []
    (sentence,) = check_expressions({"a": ["$@b + 1"]}, "x")
    assert sentence == "Not understood and not run, at a#0: $@b + 1"
    many = check_expressions({str(index): "$x" for index in range(50)}, "x")
    assert len(many) == 21


def test_transforms_become_steps_in_order():
    steps, _ = steps_of(
        [
            {"_target_": "Orientationd", "axcodes": "LAI"},
            {"_target_": "CropForegroundd", "source_key": "image"},
            {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True},
            {"_target_": "monai.transforms.SpatialPadd", "spatial_size": [8, 8, 8]},
        ],
        3,
        ORIENT,
        "x",
    )
    assert [step.step for step in steps] == ["orient_grid", "transpose_grid", "crop_nonzero", "zscore"]
    assert (steps[0].columns, steps[0].rows, steps[0].slices) == ("L", "A", "F")
    fixed, guessed = steps_of(
        [{"_target_": "NormalizeIntensity", "subtrahend": 10, "divisor": 5}], 2, ORIENT, "x"
    )
    assert fixed[0] == ORIENT
    assert fixed[1].axes == (0, 2, 1)
    assert (fixed[2].low, fixed[2].high) == (10, 15)
    assert "Orientation" in guessed[0]


@pytest.mark.parametrize(
    "one",
    [
        {"_target_": "Spacingd", "pixdim": [1, 1]},
        {"_target_": "Spacingd", "pixdim": "x"},
        {"_target_": "Spacingd"},
        {"_target_": "Spacingd", "pixdim": [1, 1, 1], "mode": "quintic"},
        {"_target_": "Orientationd", "axcodes": "XYZ"},
        {"_target_": "ScaleIntensityRanged", "a_min": 1, "a_max": 0, "b_min": 0, "b_max": 1},
        {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 1},
        {"_target_": "ScaleIntensityd", "factor": 2},
        {"_target_": "CropForegroundd", "margin": 5},
        {"_target_": "CropForegroundd", "select_fn": "x"},
        {"keys": "image"},
        7,
    ],
)
def test_a_transform_with_other_arguments_is_refused(one):
    with pytest.raises(ImportRefusal):
        steps_of([one], 3, ORIENT, "x")


def test_maps_are_chosen_by_name_or_number():
    labels = labels_of({}, 3)
    assert labels == {0: "map 0", 1: "map 1", 2: "map 2"}
    assert chosen_heads({0: "background", 1: "a"}, Wishes(), "softmax", "x") == (1,)
    assert chosen_heads(labels, Wishes(labels=("2", "map 1")), "softmax", "x") == (2, 1)
    with pytest.raises(ImportRefusal, match="no map 'x'"):
        chosen_heads(labels, Wishes(labels=("x",)), "softmax", "x")


def test_maps_that_exclude_each_other_are_structures_and_others_need_a_choice():
    labels = labels_of({}, 3)
    assert chosen_heads(labels, Wishes(), "softmax", "x") == (1, 2)
    with pytest.raises(ImportRefusal, match="that may overlap"):
        chosen_heads(labels, Wishes(), "sigmoid", "x")
    assert chosen_heads(labels, Wishes(labels=("0", "1")), "sigmoid", "x") == (0, 1)


def test_a_bundle_without_activations_is_guessed_and_said():
    assert activation_of(None, 1)[0] == "sigmoid"
    kind, sentences = activation_of({"transforms": [{"_target_": "Activationsd", "sigmoid": True}]}, 3)
    assert kind == "sigmoid"
    assert len(sentences) == 1


values = st.recursive(
    st.none() | st.integers(-3, 5) | st.sampled_from(["UNet", "$x", "@a#b", "Compose", "Spacingd", "RAS"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["_target_", "a", "b", "transforms", "pixdim", "axcodes", "channels", "roi_size"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@given(values)
@settings(deadline=None)
def test_any_values_are_read_or_refused(value):
    spec = network_spec(UNET, "x")
    for read in (
        lambda: network_spec(value, "x"),
        lambda: steps_of(value, 3, ORIENT, "x"),
        lambda: inferer(value, spec, "x"),
        lambda: described({"a": value}, "a", "x"),
        lambda: check_expressions(value, "x"),
        lambda: labels_of(value, 2),
        lambda: activation_of(value, 2),
    ):
        try:
            read()
        except ImportRefusal as refusal:
            assert refusal.remedy  # noqa: PT017 most values are read
