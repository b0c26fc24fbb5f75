"""What holds for every entry of the registry: shapes within the bounds, counts, hostile sizes, weights."""

import json
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_of_every_kind import EVERY, example_input, settled
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from config.errors import PrereadError
from models.networks.building import build_grid_network, build_own_network, parameter_count
from models.networks.centernet import CenterMaps
from models.networks.conv_unet import SupervisedLogits
from models.networks.detections import Detections, Truth
from models.networks.registry import RegistrySpec

ENTRY = TypeAdapter(RegistrySpec)
FEW = settings(max_examples=12, deadline=None)
FEATURES = st.sampled_from([1, 2, 3, 8])
NORMS = st.sampled_from(["instance", "group", "batch"])
STAGES = {"encoder": "stages", "features": [4, 8, 8], "blocks": 1}
DOCS = Path(__file__).resolve().parents[4] / "docs" / "networks.md"


def entry(**parts: object) -> object:
    """From JSON, as a package or a recipe gives it."""
    return ENTRY.validate_json(json.dumps(parts))


def built(**parts: object) -> nn.Module:
    return build_own_network(entry(**parts))  # type: ignore[arg-type]


@st.composite
def stages(draw: st.DrawFn) -> dict[str, object]:
    dimensions = draw(st.sampled_from([2, 3]))
    features = draw(st.lists(FEATURES, min_size=2, max_size=4))
    return {
        "dimensions": dimensions,
        "in_channels": draw(st.integers(1, 4)),
        "features": features,
        "blocks": draw(st.integers(1, 2)),
        "kind": draw(st.sampled_from(["plain", "residual"])),
        "norm": draw(NORMS if dimensions == 2 else st.sampled_from(["instance", "group"])),
        "flat_stages": draw(st.integers(0, len(features) - 1)) if dimensions == 3 else 0,
    }


@FEW
@given(st.data(), stages())
def test_a_unet_gives_logits_of_the_inputs_size(data, parts):
    sides = data.draw(st.integers(0, len(parts["features"]) - 2))
    heads = data.draw(st.integers(1, 4))
    network = built(
        registry="unet@1",
        heads=heads,
        side_outputs=sides,
        attention=data.draw(st.booleans()),
        decoder_blocks=data.draw(st.integers(1, 2)),
        **parts,
    )
    sizes = [data.draw(st.integers(16, 20)) for _ in range(parts["dimensions"])]
    x = torch.randn(2, parts["in_channels"], *sizes)
    found = network.train()(x)
    assert isinstance(found, SupervisedLogits)
    assert found.logits.shape == (2, heads, *sizes)
    assert len(found.side) == sides
    with torch.no_grad():
        assert network.eval()(x).shape == (2, heads, *sizes)
        assert network.features(x).shape == (2, parts["features"][-1])


@FEW
@given(st.data(), stages())
def test_a_centernet_gives_maps_at_its_stride_and_boxes_with_sizes(data, parts):
    stage = data.draw(st.integers(0, len(parts["features"]) - 2))
    classes = data.draw(st.integers(1, 3))
    spec = entry(registry="centernet@1", classes=classes, output_stage=stage, head_features=4, **parts)
    network = build_own_network(spec).eval()
    x = torch.randn(2, parts["in_channels"], *[16] * parts["dimensions"])
    with torch.no_grad():
        maps = network(x)
    assert isinstance(maps, CenterMaps)
    cells = tuple(16 // step for step in spec.output_stride)
    assert maps.heat.shape == (2, classes, *cells)
    assert maps.offset.shape == maps.size.shape == (2, parts["dimensions"], *cells)
    for found in network.detect(x):
        low, high = found.boxes.chunk(2, 1)
        assert bool((high > low).all())
        assert bool((found.scores[:-1] >= found.scores[1:]).all())


@FEW
@given(
    st.sampled_from([2, 3]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), max_size=3, min_size=1),
)
def test_a_densenet_gives_logits_of_its_classes(dimensions, channels, classes, layers):
    network = built(
        registry="densenet@1",
        dimensions=dimensions,
        in_channels=channels,
        classes=classes,
        init_features=6,
        growth=4,
        layers=layers,
        norm="group",
    )
    with torch.no_grad():
        assert network.eval()(torch.randn(2, channels, *[2 ** (len(layers) + 2)] * dimensions)).shape == (
            2,
            classes,
        )


@FEW
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([STAGES, {"encoder": "effnet_lite0"}]),
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=3, unique=True),
    st.sampled_from([2, 4]),
)
def test_a_two_stage_detector_finds_boxes_inside_the_image(channels, classes, encoder, ratios, stride):
    torch.manual_seed(0)
    network = built(
        registry="rcnn2d@1",
        in_channels=channels,
        classes=classes,
        encoder=encoder,
        finest_stride=stride,
        pyramid_features=8,
        anchor_ratios=ratios,
        proposals_max=10,
        pooled_size=3,
        head_features=8,
        detections_max=5,
    )
    x = torch.randn(2, channels, 32, 64)
    found = network.eval().detect(x)
    assert len(found) == 2
    for one in found:
        assert isinstance(one, Detections)
        assert len(one.boxes) <= 5
        assert bool(((one.boxes >= 0) & (one.boxes <= torch.tensor([32, 64, 32, 64]))).all())
        assert set(one.classes.tolist()) <= set(range(classes))
    truth = Truth(torch.tensor([[4.0, 4, 12, 20]]), torch.tensor([0]))
    terms = network.train()(x, [truth, truth])
    assert set(terms) == {"objectness", "proposal", "class", "box", "total"}


@FEW
@given(
    st.sampled_from(["slice_lstm@1", "slice_attention@1"]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 7),
    st.integers(1, 2),
    st.sampled_from([8, 24]),
)
def test_a_sequence_network_scores_each_slice_and_the_study(kind, channels, classes, length, layers, hidden):
    network = built(
        registry=kind, in_channels=channels, classes=classes, encoder=STAGES, layers=layers, hidden=hidden
    )
    with torch.no_grad():
        found = network.eval()(torch.randn(2, length, channels, 16, 16), torch.tensor([1, length]))
    assert found.slices.shape == (2, length, classes)
    assert found.study.shape == (2, classes)
    assert bool(found.study.isfinite().all())


@FEW
@given(st.integers(2, 5), st.integers(1, 2), st.integers(1, 3), st.booleans())
def test_a_late_fusion_scores_the_patient(sequences, channels, classes, shared):
    network = built(
        registry="late_fusion@1",
        sequences=sequences,
        in_channels=channels,
        classes=classes,
        encoder=STAGES,
        shared=shared,
    )
    with torch.no_grad():
        assert network.eval()(torch.randn(2, sequences, channels, 16, 16)).shape == (2, classes)
    assert len(network.encoders) == (1 if shared else sequences)


FULL_STAGES = {"encoder": "stages", "features": [16, 32, 64, 128, 256], "blocks": 1}
LITE0 = {"encoder": "effnet_lite0"}
STATED = {
    "U-Net 2D": {
        "registry": "unet@1",
        "dimensions": 2,
        "in_channels": 1,
        "heads": 2,
        "features": [16, 32, 64, 128, 256],
    },
    "U-Net 2.5D, residual": {
        "registry": "unet@1",
        "dimensions": 2,
        "in_channels": 5,
        "heads": 2,
        "features": [16, 32, 64, 128, 256],
        "kind": "residual",
    },
    "U-Net 2D, attention-gated": {
        "registry": "unet@1",
        "dimensions": 2,
        "in_channels": 1,
        "heads": 2,
        "features": [16, 32, 64, 128, 256],
        "attention": True,
    },
    "U-Net 3D, thick slices": {
        "registry": "unet@1",
        "dimensions": 3,
        "in_channels": 1,
        "heads": 2,
        "features": [16, 32, 64, 128],
        "flat_stages": 2,
    },
    "DenseNet-121 2D": {"registry": "densenet@1", "dimensions": 2, "in_channels": 1, "classes": 2},
    "DenseNet 3D, small": {
        "registry": "densenet@1",
        "dimensions": 3,
        "in_channels": 1,
        "classes": 2,
        "init_features": 32,
        "growth": 16,
        "layers": [4, 8, 8],
        "norm": "group",
    },
    "EfficientNet-Lite0 classifier": {
        "registry": "effnet_lite0_classifier@1",
        "in_channels": 1,
        "classes": 3,
    },
    "EfficientNet-Lite0, first stages": {
        "registry": "effnet_lite0_slim@1",
        "in_channels": 1,
        "classes": 14,
        "hidden": 96,
    },
    "CenterNet 2D": {
        "registry": "centernet@1",
        "dimensions": 2,
        "in_channels": 1,
        "classes": 1,
        "features": [16, 32, 64, 128, 256],
    },
    "CenterNet 3D": {
        "registry": "centernet@1",
        "dimensions": 3,
        "in_channels": 1,
        "classes": 1,
        "features": [16, 32, 64, 128],
    },
    "R-CNN 2D on Lite0": {"registry": "rcnn2d@1", "in_channels": 1, "classes": 2, "encoder": LITE0},
    "R-CNN 2D on stages": {"registry": "rcnn2d@1", "in_channels": 1, "classes": 2, "encoder": FULL_STAGES},
    "Slices, BiLSTM on Lite0": {"registry": "slice_lstm@1", "in_channels": 1, "classes": 1, "encoder": LITE0},
    "Slices, attention on Lite0": {
        "registry": "slice_attention@1",
        "in_channels": 1,
        "classes": 1,
        "encoder": LITE0,
    },
    "Early fusion of three, U-Net 2D": {
        "registry": "early_fusion@1",
        "sequences": 3,
        "network": {
            "registry": "unet@1",
            "dimensions": 2,
            "in_channels": 3,
            "heads": 2,
            "features": [16, 32, 64, 128, 256],
        },
    },
    "Late fusion of three on Lite0": {
        "registry": "late_fusion@1",
        "sequences": 3,
        "in_channels": 1,
        "classes": 2,
        "encoder": LITE0,
    },
    "Late fusion of three, one encoder": {
        "registry": "late_fusion@1",
        "sequences": 3,
        "in_channels": 1,
        "classes": 2,
        "encoder": LITE0,
        "shared": True,
    },
}


@pytest.mark.parametrize("name", STATED)
def test_the_page_states_the_parameters(name):
    count = parameter_count(built(**STATED[name]))
    assert f"| {name} | `{STATED[name]['registry']}` | {count:,} |" in DOCS.read_text(encoding="utf-8")


def test_parameters_of_a_small_unet_are_its_closed_form():
    network = built(
        registry="unet@1", dimensions=2, in_channels=3, heads=2, features=[4, 8], blocks=1, side_outputs=0
    )
    encoder = (3 * 4 * 9 + 2 * 4) + (4 * 8 * 9 + 2 * 8)
    decoder = (8 * 4 + 4) + (8 * 4 * 9 + 2 * 4)
    assert parameter_count(network) == encoder + decoder + (4 * 2 + 2)


WIDE = {"encoder": "stages", "features": [2048] * 10, "blocks": 4}
HOSTILE = {
    "unet@1": {"dimensions": 3, "in_channels": 1, "heads": 1, "features": [2048] * 10, "blocks": 4},
    "densenet@1": {
        "dimensions": 3,
        "in_channels": 1,
        "classes": 2,
        "init_features": 256,
        "growth": 128,
        "layers": [64] * 5,
        "norm": "group",
    },
    "centernet@1": {"dimensions": 3, "in_channels": 1, "classes": 1, "features": [2048] * 10, "blocks": 4},
    "rcnn2d@1": {"in_channels": 1, "classes": 2, "encoder": WIDE},
    "slice_lstm@1": {"in_channels": 1, "classes": 2, "encoder": WIDE},
    "slice_attention@1": {"in_channels": 1, "classes": 2, "encoder": WIDE},
    "early_fusion@1": {
        "sequences": 2,
        "network": {
            "registry": "unet@1",
            "dimensions": 3,
            "in_channels": 2,
            "heads": 1,
            "features": [2048] * 10,
        },
    },
    "late_fusion@1": {"sequences": 8, "in_channels": 1, "classes": 2, "encoder": WIDE},
    "monai_unet@1": {
        "dimensions": 3,
        "in_channels": 1,
        "heads": 1,
        "channels": [2048] * 10,
        "strides": [1] * 9,
        "kernel_size": 7,
        "norm": "instance",
    },
    "monai_basicunet@1": {
        "dimensions": 3,
        "in_channels": 1,
        "heads": 1,
        "features": [2048] * 6,
        "norm": "instance",
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_huge_entry_is_refused_before_memory_is_taken(name):
    spec = entry(registry=name, **HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PrereadError, match=f"network {name} would have"):
        (build_grid_network if name.startswith("monai") else build_own_network)(spec)  # type: ignore[operator]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB; it would be gigabytes


@pytest.mark.parametrize(
    "parts",
    [
        {"registry": "unet@2"},
        {"registry": "os.system"},
        {"registry": "effnet_lite0_classifier@1", "in_channels": 1, "classes": 10**9},
        {"registry": "slice_lstm@1", "in_channels": 1, "classes": 1, "encoder": STAGES, "hidden": 10**6},
        {"registry": "slice_lstm@1", "in_channels": 1, "classes": 1, "encoder": {"encoder": "resnet"}},
        {"registry": "late_fusion@1", "sequences": 10**6, "in_channels": 1, "classes": 1, "encoder": STAGES},
        {"registry": "rcnn2d@1", "in_channels": 1, "classes": 1, "encoder": STAGES, "proposals_max": 10**9},
        {
            "registry": "rcnn2d@1",
            "in_channels": 1,
            "classes": 1,
            "encoder": {**STAGES, "features": [4, 8]},
            "finest_stride": 8,
        },
        {
            "registry": "early_fusion@1",
            "sequences": 2,
            "network": {"registry": "effnet_lite0_classifier@1", "in_channels": 3, "classes": 1},
        },
        {
            "registry": "centernet@1",
            "dimensions": 2,
            "in_channels": 1,
            "classes": 1,
            "features": [4, 8],
            "output_stage": 1,
        },
    ],
    ids=str,
)
def test_entries_out_of_bounds_are_refused(parts):
    with pytest.raises(ValidationError):
        entry(**parts)


def answer(network: nn.Module, name: str) -> list[torch.Tensor]:
    with torch.no_grad():
        found = network.eval()(example_input(name, 2))
    if isinstance(found, torch.Tensor):
        return [found]
    parts = [part for one in found for part in one] if isinstance(found, list) else list(found)
    return [part for part in parts if isinstance(part, torch.Tensor)]


@pytest.mark.parametrize("name", EVERY)
def test_weights_make_the_round_trip_under_the_same_names(name, tmp_path):
    torch.manual_seed(1)
    network = settled(EVERY[name].build(), example_input(name, 4))
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous().clone() for key, value in network.state_dict().items()}, path)
    torch.manual_seed(2)
    other = EVERY[name].build()
    stored = load_file(path)
    other.load_state_dict(stored, strict=True)
    for a, b in zip(answer(network, name), answer(other, name), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    stored.pop(sorted(stored)[0])
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(stored, strict=True)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_builds_the_same_weights(name):
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        states.append(EVERY[name].build().state_dict())
    assert all(not value.is_meta for value in states[0].values())
    torch.testing.assert_close(*states, atol=0, rtol=0)


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith(("nnunet", "monai"))])
def test_our_decoders_have_no_transposed_convolution(name):
    kinds = {type(module).__name__ for module in EVERY[name].build().modules()}
    assert not {kind for kind in kinds if "Transpose" in kind}


def test_counting_first_does_not_change_what_a_seed_gives():
    """Weights of earlier versions were drawn without counting; a recorded seed must still make them."""
    torch.manual_seed(4)
    plain = nn.Conv2d(1, 4, 3, bias=False).weight
    torch.manual_seed(4)
    network = built(registry="unet@1", dimensions=2, in_channels=1, heads=1, features=[4, 8], side_outputs=0)
    torch.testing.assert_close(network.trunk.encoder.stages[0][0].conv.weight, plain, atol=0, rtol=0)
