"""A compressed package is another network that says nearly the same, or it is not written."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from config.errors import PrereadError
from models.compression import candidates, compressing, quantised
from models.compression.beside import alternating_seconds
from models.compression.candidates import School, as_student
from models.compression.compressing import Wish, compress_package, parted
from models.compression.retraining import Lessons
from models.networks.encoder import EXPANDED
from models.networks.features import recorded_features
from models.networks.registry import OnnxCanvasSpec
from models.onnx_graph import read_graph
from models.package import load_package
from models.predictor import Predictor
from models.training.judged_on import judged_on
from models.training.making import make_package
from models.training.order import Order
from models.training.package_cases import PackageCases, PlacedCase, package_cases
from models.training.readers import READERS
from models.training.recipe_file import read_recipe
from models.training.stages import Work
from models.training.starting import starting_recipe, write_example
from preread.commands.models import app

NARROW = [width // 12 for width in EXPANDED]
SMALL = (
    "training.steps=12",
    "training.batch=4",
    "network.decoder_channels=[16, 12, 8, 8]",
    f"network.expanded={NARROW}",
    "preprocess.1={step: fit_canvas, rows: 32, columns: 32}",
    "training.canvas_rows=32",
    "training.canvas_columns=32",
    "training.augment.rows=32",
    "training.augment.columns=32",
    "split.folds=3",
)
ON = {"version": "0.0.2", "released": "2026-11-22"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a small package was made from its recipe: twelve steps on ovals."""
    folder = tmp_path_factory.mktemp("made")
    write_example(folder / "cases")
    (folder / "ovals.yaml").write_text(starting_recipe("ovals", "cases"))
    order = Order(
        recipe=read_recipe(folder / "ovals.yaml", SMALL),
        recipe_folder=folder,
        data_folder=folder / "cases",
        readers=READERS,
        generate=lambda like, count, seed: (),
    )
    make_package(order, Work(folder / "work", lambda _: None, False))
    return folder / "work"


@pytest.fixture(scope="module")
def package(place):
    return load_package(place / "ovals")


def nothing_objects(patched):
    """What these networks know is not asked for; and ranges come from the few cases there are."""
    patched.setattr(compressing, "objections", lambda *_: ())
    patched.setattr(quantised, "SLICES_MIN", 16)


@pytest.fixture
def lenient(monkeypatch):
    nothing_objects(monkeypatch)
    monkeypatch.setattr(compressing, "alternating_seconds", lambda *_: ((1.0,), (1.0,)))


@pytest.fixture(scope="module")
def int8(package, place, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        nothing_objects(patched)
        return compress_package(package, place, tmp_path_factory.mktemp("int8") / "ovals", Wish("int8"), **ON)


def school(tmp_path, steps=2, weight=4.0):
    return School(Lessons(steps, weight), (), tmp_path / "training", 3, lambda _: None)


def one_image(place, package):
    return parted(package_cases(package, place))[1][0].volume


def test_the_8_bit_package_holds_integers_and_keeps_first_and_last_layers_in_floating_point(package, int8):
    import onnx

    path = int8.package.path("weights")
    assert read_graph(path.read_bytes(), "int8").operators.count("DequantizeLinear") > 100
    graph = onnx.load(path).graph
    gives = {name: node for node in graph.node for name in node.output}
    kinds = {one.name: one.data_type for one in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    in_float = [node.name for node in layers if node.input[1] in kinds]
    assert in_float == [layers[0].name, "/network/lesion/Conv", "/network/classifier/Gemm"]
    for node in layers:
        if node.name not in in_float:
            weights = gives[node.input[1]]
            assert weights.op_type == "DequantizeLinear"
            assert kinds[weights.input[0]] == onnx.TensorProto.INT8
            assert len(next(one for one in graph.initializer if one.name == weights.input[1]).dims) == 1


def test_the_8_bit_package_says_nearly_the_same_but_not_the_same(package, int8, place):
    written = int8.package
    assert written.manifest.version == "0.0.2"
    assert isinstance(written.manifest.network, OnnxCanvasSpec)
    assert written.manifest.runtime.devices == ("cpu",)
    first, second = (Predictor(one, device="cpu") for one in (package, written))
    assert second.verify_golden().passed
    with recorded_features(first.network) as of_first, recorded_features(second.network) as of_second:
        a, b = (one.predict(one_image(place, package)) for one in (first, second))
    difference = np.abs(a.probability - b.probability).max()
    assert 1e-4 < difference < 0.1
    assert a.class_scores == pytest.approx(b.class_scores, abs=0.1)
    vectors = [torch.cat(one).mean(0).numpy() for one in (of_first, of_second)]
    assert np.corrcoef(*vectors)[0, 1] > 0.98


def test_the_card_says_how_it_was_made_and_what_it_costs_and_rows_are_its_own(package, int8):
    card = int8.package.path("card").read_text()
    assert "Made from version 0.0.1" in card
    assert "8-bit integers" in card
    assert "times as fast on the CPU" in card
    assert "| dice |" in card
    rows = int8.package.manifest.evaluation
    assert {row.subset for row in rows} <= {"scored", "frozen"}
    assert {row.split_sha256 for row in rows} == {judged_on(package).split.sha256}


def test_bf16_rounds_weights_and_is_timed_in_bfloat16(package, place, lenient, tmp_path, monkeypatch):
    computed = []
    monkeypatch.setattr(
        compressing, "alternating_seconds", lambda both, _: (computed.extend(both), (1.0,), (1.0,))[1:]
    )
    done = compress_package(package, place, tmp_path / "p", Wish("bf16"), **ON)
    assert [one.layout.dtype for one in computed] == ["float32", "bfloat16"]
    assert done.package.manifest.runtime.bfloat16 == ("cpu", "cuda")
    assert done.gain.size == pytest.approx(1, abs=0.05)  # its weights were halves before
    first, second = (Predictor(one, device="cpu").network.lesion.weight for one in (package, done.package))
    assert not torch.equal(first, second)
    assert torch.equal(first.bfloat16().float(), second)


def test_a_pruned_package_is_smaller_and_was_trained_on(package, place, lenient, tmp_path):
    wish = Wish("prune", share=0.5, school=school(tmp_path))
    done = compress_package(package, place, tmp_path / "p", wish, **ON)
    manifest = done.package.manifest
    assert manifest.network.decoder_channels == (8, 8, 4, 4)
    assert manifest.runtime.parameters < package.manifest.runtime.parameters
    assert manifest.training.steps == package.manifest.training.steps + 2
    assert judged_on(done.package).recipe.network == manifest.network
    assert f"instead of {package.manifest.runtime.parameters}" in done.package.path("card").read_text()


def test_a_student_is_smaller_and_is_written_as_its_recipe_says(package, place, lenient, tmp_path):
    student = read_recipe(package.path("recipe"), ["network.decoder_channels=[8, 4, 4, 4]"])
    wish = Wish(
        "distil", student=student, school=school(tmp_path), teachers=[next(place.glob("train/fold-0*"))]
    )
    done = compress_package(package, place, tmp_path / "p", wish, **ON)
    assert done.package.manifest.network.decoder_channels == (8, 4, 4, 4)
    assert "2 networks of the larger kind" in done.words
    assert Predictor(done.package, device="cpu").verify_golden().passed


def test_a_student_that_is_no_smaller_or_reads_otherwise_is_refused(package, tmp_path):
    for override, words in (
        ("training.steps=3", "a student of"),
        ("preprocess.3.mean=0.4", "reads or classes other"),
    ):
        student = read_recipe(package.path("recipe"), [override])
        with pytest.raises(PrereadError, match=words):
            as_student(package, student, (), school(tmp_path))


def test_a_teacher_that_has_seen_the_scored_fold_is_refused(package, place, tmp_path):
    folder = shutil.copytree(next(place.glob("train/fold-0*")), tmp_path / "run")
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "scored_fold": 1}))
    student = read_recipe(package.path("recipe"), ["network.decoder_channels=[8, 4, 4, 4]"])
    with pytest.raises(PrereadError, match="trained on the fold that the student is scored on"):
        as_student(package, student, [folder], school(tmp_path))


def test_a_quantised_model_that_is_the_float_model_is_refused(package, place, lenient, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "quantised_graph", lambda graph, _inputs: graph)
    with pytest.raises(PrereadError, match="changed nothing"):
        compress_package(package, place, tmp_path / "p", Wish("int8"), **ON)
    assert not (tmp_path / "p").exists()


def test_ranges_are_read_from_64_slices_of_training_folds_or_int8_is_refused(package, place, tmp_path):
    seen, unseen = parted(package_cases(package, place))
    assert {case.name for case in unseen} == {item.name for item in judged_on(package).split.scored()}
    assert not {case.name for case in seen} & {case.name for case in unseen}
    with pytest.raises(PrereadError, match="24 inputs to read ranges from; 64 are needed"):
        compress_package(package, place, tmp_path / "p", Wish("int8"), **ON)


def test_of_cases_that_the_network_never_saw_one_fold_is_set_apart(package, place):
    case = parted(package_cases(package, place))[1][0]
    placed = [PlacedCase(replace(case, name=f"{index}"), index % 5, True) for index in range(10)]
    learnt, judged = parted(PackageCases(iter(placed), 10, None))
    assert [[one.name for one in part] for part in (learnt, judged)] == [list("05"), list("12346789")]


def test_the_command_prints_the_table_and_writes_nothing_where_nothing_is_gained(
    package, place, tmp_path, monkeypatch
):
    monkeypatch.setattr(compressing, "alternating_seconds", lambda *_: ((1.0,), (1.0,)))
    options = ("--method", "bf16", "--data", place, "--out", tmp_path / "p")
    command = ["compress", str(package.folder), *map(str, options)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 1
    assert "NOT WRITTEN: 1.00 times as fast and 1.0" in done.stdout
    assert "weights, MB" in done.stdout
    assert not (tmp_path / "p").exists()


def test_both_are_measured_in_turn():
    calls = []

    class Watched:
        def __init__(self, name):
            self.name = name

        def predict(self, volume):
            calls.append(self.name)

    class Given:
        volume = None

    seconds = alternating_seconds((Watched("a"), Watched("b")), [Given(), Given()], rounds=2)
    assert calls == ["a", "a", "b", "b"] * 3
    assert [len(one) for one in seconds] == [2, 2]


def test_a_graph_is_not_compressed_again_and_the_remedy_says_what_is(int8, place, tmp_path):
    for method in ("int8", "bf16"):
        with pytest.raises(PrereadError, match="onnx_canvas@1 is not compressed"):
            compress_package(int8.package, place, tmp_path / "p", Wish(method), **ON)


def test_a_package_whose_graph_gives_other_outputs_is_refused(int8, tmp_path):
    folder = shutil.copytree(int8.package.folder, tmp_path / "p")
    content = json.loads((folder / "model.json").read_text())
    content["network"]["classes"] = 0
    content["findings"]["classes"] = []
    content["task"]["kind"] = "segment"
    content["postprocess"] = [step for step in content["postprocess"] if step["step"] != "image_gate"]
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(PrereadError, match="the graph gives"):
        Predictor(load_package(folder), device="cpu")
