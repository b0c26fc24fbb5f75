"""An ONNX graph is walked, never trusted: what it may ask for is on a list, the rest is refused by name."""

import contextlib
import json
from datetime import date

import numpy as np
import onnx_file
import pytest
import torch
from filled_draft import fill
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_file import field, graph, model, node, port, small_network, tensor

from models.adapters.draft import TO_FILL
from models.adapters.finishing import finish
from models.adapters.importing import import_model
from models.adapters.onnx_model import activation_of, spec_of
from models.adapters.reading import Wishes
from models.adapters.refusal import ImportRefusal
from models.networks.onnx_network import OnnxNetwork
from models.onnx_graph import OnnxRefusal, read_graph

TODAY = date(2026, 1, 2)
WEIGHT = np.ones((1, 1, 1, 1), np.float32)
IN, OUT = port("x", (1, 1, 8, 8)), port("y", (1, 1, 8, 8))


def one_node(operator, *attributes, domain="", tensors=(), **options):
    nodes = [node(operator, ("x", "w"), "y", *attributes, domain=domain)]
    return model(graph(nodes, tensors, [IN], [OUT]), **options)


def test_a_graph_tells_its_ports_operators_and_size():
    content, _, _ = small_network(sizes=("batch", 1, 16, 24), heads=3, last="Softmax")
    found = read_graph(content, "x.onnx")
    assert found.operators == ("Conv", "Softmax")
    assert found.last_operator == "Softmax"
    assert [(one.name, one.sizes, one.is_float) for one in found.inputs] == [("x", (None, 1, 16, 24), True)]
    assert found.outputs[0].sizes == (None, 3, 16, 24)
    assert found.parameters == 3 * 9 + 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (one_node("Conv", domain="com.evil"), r"'Conv' of the domain 'com\.evil'"),
        (one_node("Conv", domain="com.microsoft"), r"com\.microsoft"),
        (one_node("Relu", opset=17) + field(8, field(1, "x.y") + field(2, 1)), r"domain 'x\.y'"),
        (one_node("Loop"), "operator 'Loop'"),
        (one_node("If"), "operator 'If'"),
        (one_node("ConstantOfShape"), "operator 'ConstantOfShape'"),
        (one_node("Relu", field(1, "body") + field(6, b"")), "graph inside a node"),
        (one_node("Relu", more=field(25, b"")), "functions of its own"),
        (one_node("Relu", more=field(20, b"")), "training steps"),
        (one_node("Relu", opset=3), "operator set 3"),
        (one_node("Relu", opset=99), "operator set 99"),
        (
            one_node("Conv", tensors=[tensor("w", WEIGHT, location="../../etc/passwd")]),
            "leads out of the folder",
        ),
        (one_node("Conv", tensors=[tensor("w", WEIGHT, location="/etc/passwd")]), "leads out of the folder"),
        (one_node("Conv", tensors=[tensor("w", WEIGHT, location="C:\\x")]), "leads out of the folder"),
        (one_node("Conv", tensors=[tensor("w", WEIGHT, location="weights.bin")]), "not in the file"),
        (
            one_node("Conv", field(1, "value") + field(5, tensor("w", WEIGHT, location="../x"))),
            "leads out of the folder",
        ),
        (one_node("Conv", tensors=[field(1, 1 << 40) + field(8, "w")]), "claim 1099511627776 numbers"),
        (one_node("Relu")[:-3], "damaged"),
        (b"", "operator set 0"),
        (b"\xff" * 40, "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_not_on_the_list_is_refused_by_name(content, words):
    with pytest.raises(OnnxRefusal, match=words) as caught:
        read_graph(content, "x.onnx")
    assert caught.value.remedy


def test_too_many_nodes_are_refused():
    content = model(graph([node("Relu", ("x",), "y")] * 20_001, [], [IN], [OUT]))
    with pytest.raises(OnnxRefusal, match="more than 20000 nodes"):
        read_graph(content, "x.onnx")


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_a_graph_or_refused(content):
    with contextlib.suppress(OnnxRefusal):
        read_graph(content, "x")


@given(st.data())
@settings(deadline=None)
def test_a_damaged_file_is_a_graph_or_refused(drawn):
    content = bytearray(small_network()[0])
    for _ in range(drawn.draw(st.integers(1, 4))):
        content[drawn.draw(st.integers(0, len(content) - 1))] = drawn.draw(st.integers(0, 255))
    with contextlib.suppress(OnnxRefusal):
        read_graph(bytes(content), "x")


@pytest.mark.parametrize(
    ("sizes", "heads", "window", "words"),
    [
        ((1, 3, 16, 16), 2, (), "reads 3 channels"),
        ((1, 1, 16), 2, (), "no images"),
        ((1, 1, "h", "w"), 2, (), r"not fixed \(\(1, 1, \?, \?\)\)"),
        ((1, 1, "h", "w"), 2, (16,), "not fixed"),
        ((1, 1, "h", "w"), 2, (16, 4), "not fixed"),
    ],
)
def test_a_graph_that_is_no_map_of_one_image_is_refused(sizes, heads, window, words):
    given_, _, _ = small_network(sizes=sizes, heads=heads)
    with pytest.raises(ImportRefusal, match=words):
        spec_of(read_graph(given_, "x"), Wishes(window=window), "x.onnx")


def test_sizes_that_are_not_fixed_are_wished():
    content, _, _ = small_network(sizes=("n", 1, "h", "w"))
    spec, window = spec_of(read_graph(content, "x"), Wishes(window=(32, 48)), "x.onnx")
    assert window == (32, 48)
    assert not spec.one_at_a_time


def test_a_graph_that_ends_in_probabilities_is_not_squashed_again():
    for last, expected in ((None, "softmax"), ("Softmax", "none"), ("Sigmoid", "none")):
        content, _, _ = small_network(last=last)
        assert activation_of(read_graph(content, "x"), 2)[0] == expected


def import_network(tmp_path, content, wishes=None):
    (tmp_path / "net.onnx").write_bytes(content)
    import_model(tmp_path / "net.onnx", tmp_path / "out", "some-net", wishes or Wishes(), TODAY)
    return tmp_path / "out"


def test_a_refused_file_leaves_nothing(tmp_path):
    with pytest.raises(ImportRefusal, match=r"net\.onnx: the operator 'Loop'"):
        import_network(tmp_path, one_node("Loop"))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_chosen_maps_of_three_are_one_finding(tmp_path):
    folder = import_network(tmp_path, small_network(heads=3)[0], Wishes(labels=("2", "1")))
    draft = json.loads((folder / "draft.json").read_text())
    assert draft["grid"]["tiling"]["lesion_heads"] == [2, 1]
    assert "kind" not in draft["findings"]


@pytest.mark.parametrize("last", [None, "Softmax"])
def test_three_maps_without_a_choice_are_background_and_two_structures(tmp_path, last):
    folder = import_network(tmp_path, small_network(heads=3, last=last)[0])
    draft = json.loads((folder / "draft.json").read_text())
    assert [(one["label"], one["heads"]) for one in draft["findings"]["segments"]] == [
        ("Map 1", [1]),
        ("Map 2", [2]),
    ]
    first = {"step": "argmax"} if last is None else {"step": "threshold", "probability": 0.5}
    assert draft["postprocess"] == [first]
    assert "does not name its maps" in (folder / "IMPORT.md").read_text()


def test_maps_that_may_overlap_need_a_choice(tmp_path):
    with pytest.raises(ImportRefusal, match="3 maps come out that may overlap"):
        import_network(tmp_path, small_network(heads=3, last="Sigmoid")[0])


def test_the_steps_before_the_graph_are_for_a_person_to_write(tmp_path):
    folder = import_network(tmp_path, small_network()[0])
    draft = json.loads((folder / "draft.json").read_text())
    assert draft["grid"]["steps"] is None
    assert "`grid.steps`" in (folder / "IMPORT.md").read_text()
    assert "grid.steps" in {place for place, _, _ in TO_FILL}


def test_without_onnxruntime_the_way_to_install_it_is_said(tmp_path, monkeypatch):
    import sys

    content, _, _ = small_network()
    (tmp_path / "net.onnx").write_bytes(content)
    spec, _ = spec_of(read_graph(content, "x"), Wishes(), "x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Exception, match=r"pip install 'preread\[onnx\]'"):
        OnnxNetwork(tmp_path / "net.onnx", spec)


@pytest.mark.parametrize("sizes", [(1, 1, 16, 16), ("n", 1, 16, 16)])
def test_a_finished_onnx_package_computes_what_the_graph_says(tmp_path, sizes):
    pytest.importorskip("onnxruntime")
    content, kernel, bias = small_network(sizes=sizes)
    folder = import_network(tmp_path, content)
    fill(folder)
    draft = json.loads((folder / "draft.json").read_text())
    draft["grid"]["steps"] = [
        {"step": "map_range", "low": 0, "high": 100, "to_low": 0, "to_high": 1, "clip": True}
    ]
    (folder / "draft.json").write_text(json.dumps(draft))
    image = np.random.default_rng(1).uniform(0, 100, (3, 16, 16)).astype(np.float32)
    spacings = {"pixel_spacing_mm": [1.0, 1.0], "slice_spacing_mm": 2.0}
    np.savez(tmp_path / "in.npz", image=image, affine=np.diag([1.0, 1, 2, 1]), **spacings)
    logits = torch.nn.functional.conv2d(
        torch.from_numpy(image / 100)[:, None], torch.from_numpy(kernel), torch.from_numpy(bias), padding=1
    )
    np.savez(tmp_path / "out.npz", probability=torch.softmax(logits, 1)[:, 1].numpy())
    finished = finish(folder, tmp_path / "in.npz", tmp_path / "out.npz", tolerance=0.001)
    assert finished.golden.passed
    assert finished.package.manifest.network.registry == "onnx@1"


def test_the_files_of_these_tests_are_onnx_to_onnx_itself():
    onnx = pytest.importorskip("onnx")
    for sizes in ((1, 1, 16, 16), ("n", 1, 16, 16)):
        onnx.checker.check_model(onnx.load_from_string(small_network(sizes=sizes, last="Softmax")[0]))
    assert onnx_file.varint(300) == b"\xac\x02"
