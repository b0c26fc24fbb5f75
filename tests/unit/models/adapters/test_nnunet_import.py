"""A trained nnU-Net becomes a draft, a filled draft becomes a package, and the package computes the same."""

import json
import shutil
import zipfile
from datetime import date
from itertools import combinations

import numpy as np
import pytest
import torch
from filled_draft import fill
from nnunet_model import dataset_of, member, plans_of, write_trained_model
from safetensors.torch import load_file

from models.adapters.finishing import finish
from models.adapters.importing import import_model
from models.adapters.nnunet import chosen_labels
from models.adapters.nnunet_plans import check_trainer, heads_by_label, read_plan
from models.adapters.reading import Wishes
from models.adapters.refusal import ImportRefusal
from models.inference.structures import structures_on_grid
from models.inference.wanted import Wanted
from models.networks.building import build_grid_network
from models.package import PackageError, load_package
from models.volume import Volume

TODAY = date(2026, 1, 2)


def expected_of(name, folds, image, heads):
    """What nnU-Net computes where nothing is resampled and one window is the whole slice."""
    scaled = (image - image.mean()) / image.std()
    x = torch.from_numpy(scaled).float()[:, None]
    total = 0
    axes = list(range(2, x.dim()))
    turns = [turn for n in range(len(axes) + 1) for turn in combinations(axes, n)]
    with torch.inference_mode():
        for fold in range(folds):
            network = member(name, fold)
            total = total + sum(network(x.flip(turn)).flip(turn) for turn in turns) / len(turns)
    return torch.softmax(total / folds, 1)[:, heads].sum(1).numpy()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The draft of a 2D model of two folds, given as a zip with a folder inside."""
    base = tmp_path_factory.mktemp("nnunet")
    model = write_trained_model(base / "Dataset900/nnUNetTrainer__nnUNetPlans__2d", "plain_2d", folds=2)
    with zipfile.ZipFile(base / "model.zip", "w") as archive:
        for path in sorted(model.rglob("*.*")):
            archive.write(path, path.relative_to(base))
    reading = import_model(base / "model.zip", base / "out", "spheres-2d", Wishes(), TODAY)
    return base / "out", reading


@pytest.fixture
def draft(imported, tmp_path):
    return shutil.copytree(imported[0], tmp_path / "packages" / "spheres-2d")


@pytest.fixture
def golden(tmp_path):
    generator = np.random.default_rng(4)
    image = generator.normal(100, 20, (3, 16, 16)).astype(np.float32)
    np.savez(
        tmp_path / "in.npz",
        image=image,
        affine=np.diag([1.0, 1.0, 4.0, 1.0]),
        pixel_spacing_mm=[1.0, 1.0],
        slice_spacing_mm=4.0,
    )
    expected = expected_of("plain_2d", 2, image, [1])
    np.savez(tmp_path / "out.npz", probability=expected)
    return tmp_path / "in.npz", tmp_path / "out.npz"


def test_a_draft_says_what_was_read_guessed_and_is_to_fill_and_does_not_run(imported):
    folder, reading = imported
    assert sorted(path.name for path in folder.iterdir()) == [
        "IMPORT.md",
        "draft.json",
        "weights.safetensors",
    ]
    notes = (folder / "IMPORT.md").read_text()
    for words in ("fold_0, fold_1", "nnunet_plain@1", "16 x 16", "Orientation", "`card.licences`", "label1"):
        assert words in notes
    assert reading.network.members == 2
    assert reading.grid.tiling.mirror == (0, 1)
    with pytest.raises(PackageError, match="imported and not verified"):
        load_package(folder)


def test_a_filled_draft_becomes_a_package_when_it_computes_what_the_original_did(draft, golden):
    fill(draft)
    finished = finish(draft, *golden, tolerance=0.001)
    assert finished.golden.passed
    package = load_package(draft)
    assert package.manifest.origin.format == "nnunet-v2"
    assert package.digest == finished.package.digest
    assert not (draft / "draft.json").exists()
    assert "knows nothing" in (draft / "CARD.md").read_text()


def test_nnunets_own_probabilities_are_taken_as_the_expected_file(draft, golden, tmp_path):
    fill(draft)
    lesion = np.load(golden[1])["probability"]
    np.savez(tmp_path / "own.npz", probabilities=np.stack([1 - lesion, lesion]))
    assert finish(draft, golden[0], tmp_path / "own.npz", tolerance=0.001).golden.passed


def test_a_draft_that_computes_something_else_stays_a_draft(draft, golden):
    fill(draft)
    text = (draft / "draft.json").read_bytes()
    shifted = np.clip(np.load(golden[1])["probability"] + 0.1, 0, 1)
    np.savez(golden[1], probability=shifted)
    with pytest.raises(ImportRefusal, match="computes something else than the original"):
        finish(draft, *golden, tolerance=0.02)
    assert (draft / "draft.json").read_bytes() == text
    assert not (draft / "model.json").exists()


def test_empty_places_are_named_and_a_model_for_every_series_is_refused(draft, golden):
    fill(draft, leave_out=("card.licences", "inputs.0.applicability"))
    with pytest.raises(ImportRefusal, match=r"inputs\.0\.applicability, card\.licences"):
        finish(draft, *golden, tolerance=0.02)
    fill(draft)
    path = draft / "draft.json"
    content = json.loads(path.read_text())
    content["inputs"][0]["applicability"] = {"min_slices": 3}
    path.write_text(json.dumps(content))
    with pytest.raises(ImportRefusal, match="would read every series"):
        finish(draft, *golden, tolerance=0.02)


def test_nothing_is_written_over_and_a_refused_model_leaves_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/plans.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ImportRefusal, match="is there already"):
        import_model(tmp_path / "model", tmp_path / "out", "some-id", Wishes(), TODAY)
    with pytest.raises(ImportRefusal, match=r"no plans\.json beside a fold"):
        import_model(tmp_path / "model", tmp_path / "new", "some-id", Wishes(), TODAY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_3d_residual_net_runs_end_to_end(tmp_path):

    model = write_trained_model(tmp_path / "trained", "resenc_3d", configuration="3d_fullres")
    reading = import_model(model, tmp_path / "out", "spheres-3d", Wishes(), TODAY)
    network = build_grid_network(reading.network)
    network.load_state_dict(load_file(tmp_path / "out/weights.safetensors"))
    image = np.random.default_rng(1).normal(3, 2, (8, 16, 16)).astype(np.float32)
    found = structures_on_grid(
        Volume(image.copy(), np.eye(4), (1.0, 1.0), 1.0),
        reading.grid,
        network.eval(),
        Wanted(2, "softmax", ((1,),), maps=(1,)),
        batch=1,
        device=torch.device("cpu"),
        bytes_per_window_voxel=1,
    ).probabilities[1]
    np.testing.assert_allclose(found, expected_of("resenc_3d", 1, image[None], [1])[0], atol=1e-4)


def plan(change=None, dataset=None, name="plain_2d", configuration="2d"):
    plans, described = plans_of(name), dataset_of(name)
    plans["configurations"]["base"].update(change or {})
    described.update(dataset or {})
    return read_plan(plans, described, configuration, Wishes().orient, "plans.json")


@pytest.mark.parametrize(
    ("change", "dataset", "words"),
    [
        ({"preprocessor_name": "Evil"}, None, "preprocessor_name is 'Evil'"),
        ({"normalization_schemes": ["MyNorm"]}, None, "normalisation 'MyNorm'"),
        ({"normalization_schemes": ["CTNormalization", "x"]}, None, "one entry each"),
        ({"resampling_fn_data": "resample_torch"}, None, "resampling_fn_data is"),
        ({"resampling_fn_data_kwargs": {"order": 1}}, None, "resampling_fn_data_kwargs"),
        ({"patch_size": [16, 15]}, None, "patch_size"),
        ({"patch_size": [16, 10**9]}, None, "patch_size"),
        ({"spacing": [1.0]}, None, "spacing is"),
        ({"spacing": "x"}, None, "spacing is"),
        ({"inherits_from": "2d"}, None, "inherit from each other"),
        ({"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}}, None, "os.system"),
        ({}, {"channel_names": {"0": "T1", "1": "T2"}}, r"2 channels together \(T1, T2\)"),
        ({}, {"labels": {"background": 0, "a": 2}}, "numbered 1, 2, 3"),
        ({}, {"labels": {"tumour": 1}}, "no labels with background 0"),
        ({}, {"labels": {"background": 0, "a": "x"}}, "'a' is 'x'"),
    ],
)
def test_plans_that_ask_for_something_else_are_refused_by_name(change, dataset, words):
    with pytest.raises(ImportRefusal, match=words) as caught:
        plan(change, dataset)
    assert caught.value.remedy


def test_a_cascade_and_an_unknown_configuration_are_refused():
    with pytest.raises(ImportRefusal, match="second stage of a cascade"):
        plan(name="plain_2d", configuration="3d_cascade_fullres")
    with pytest.raises(ImportRefusal, match=r"'4d' is not in plans\.json"):
        plan(configuration="4d")


def test_ct_numbers_masks_axes_and_spacing_become_steps():
    steps = plan({"normalization_schemes": ["CTNormalization"]}).steps
    ct = next(step for step in steps if step.step == "clip_standardise")
    assert (ct.low, ct.high, ct.mean, ct.deviation) == (-10, 90, 5, 2)
    masked = plan({"use_mask_for_norm": [True]}).steps
    assert next(step for step in masked if step.step == "zscore").mask == "nonzero_filled"
    assert steps[-1].spacing_mm == (None, 1.0, 1.0)
    assert [step.step for step in steps] == [
        "orient_grid",
        "crop_nonzero",
        "clip_standardise",
        "resample_grid",
    ]


def test_old_plans_describe_the_same_network():
    new = plan()
    old = {
        "architecture": None,
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 512,
        "n_conv_per_stage_encoder": [1, 2, 2],
        "n_conv_per_stage_decoder": [2, 1],
        "conv_kernel_sizes": [[3, 3]] * 3,
        "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
    }
    assert plan(old).spec == new.spec


def test_regions_have_a_head_each_and_labels_their_own_number():
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    assert heads_by_label({"labels": labels}, "x") == ({"whole": 0, "core": 1}, True)
    assert heads_by_label({"labels": {"background": 0, "b": 2, "a": 1}}, "x") == ({"b": 2, "a": 1}, False)


def test_a_trainer_that_may_change_the_network_is_refused_by_name():
    check_trainer("nnUNetTrainer_500epochs", "x")
    for name in ("nnUNetTrainerMedNeXt", None, 7):
        with pytest.raises(ImportRefusal, match=f"{name}"):
            check_trainer(name, "x")


def test_several_labels_become_structures_by_their_names(tmp_path):
    model = write_trained_model(tmp_path / "model", "resenc_2d")
    reading = import_model(model, tmp_path / "out", "some-id", Wishes(), TODAY)
    assert [(one.label, one.heads) for one in reading.structures] == [("label1", (1,)), ("label2", (2,))]
    draft = json.loads((tmp_path / "out/draft.json").read_text())
    assert draft["findings"]["kind"] == "structures"
    assert [(one["number"], one["label"], one["heads"]) for one in draft["findings"]["segments"]] == [
        (1, "label1", [1]),
        (2, "label2", [2]),
    ]
    colours = [one["colour"] for one in draft["findings"]["segments"]]
    assert colours[0] != colours[1]
    assert draft["grid"]["tiling"]["lesion_heads"] == []
    assert draft["postprocess"] == [{"step": "argmax"}]
    assert "negative_statement" not in draft["findings"]
    notes = (tmp_path / "out/IMPORT.md").read_text()
    for place in ("segments.0.category", "segments.0.type", "segments.1.category", "segments.1.type"):
        assert f"`findings.{place}`" in notes
    assert "negative_statement" not in notes


def test_chosen_labels_are_one_finding_unless_they_are_said_to_be_structures(tmp_path):
    model = write_trained_model(tmp_path / "model", "resenc_2d")
    both = ("label2", "label1")
    folded = import_model(model, tmp_path / "lesion", "some-id", Wishes(labels=both), TODAY)
    assert folded.structures == ()
    assert folded.grid.tiling.lesion_heads == (2, 1)
    one = import_model(model, tmp_path / "one", "some-id", Wishes(labels=both[:1], structures=True), TODAY)
    assert [(each.label, each.heads) for each in one.structures] == [("label2", (2,))]


def test_overlapping_regions_are_no_structures():
    known, where = ("whole", "core"), "dataset.json"
    with pytest.raises(ImportRefusal, match=r"several regions \(whole, core\); they overlap"):
        chosen_labels(known, Wishes(), has_regions=True, where=where)
    assert chosen_labels(known, Wishes(labels=("core",)), has_regions=True, where=where) == ("core",)


@pytest.mark.parametrize("own", [False, True])
def test_a_filled_draft_of_structures_becomes_a_package_when_the_maps_agree(tmp_path, own):
    model = write_trained_model(tmp_path / "model", "resenc_2d")
    folder = tmp_path / "packages/parts"
    import_model(model, folder, "parts", Wishes(), TODAY)
    codes = {"value": "78961009", "scheme": "SCT", "meaning": "Spleen"}
    fill(folder, leave_out=("findings.negative_statement",))
    draft = json.loads((folder / "draft.json").read_text())
    draft["findings"]["segments"][1] |= {"category": codes}
    (folder / "draft.json").write_text(json.dumps(draft))
    image = np.random.default_rng(4).normal(100, 20, (3, 16, 16)).astype(np.float32)
    np.savez(
        tmp_path / "in.npz",
        image=image,
        affine=np.diag([1.0, 1.0, 4.0, 1.0]),
        pixel_spacing_mm=[1.0, 1.0],
        slice_spacing_mm=4.0,
    )
    maps = np.stack([expected_of("resenc_2d", 1, image, [head]) for head in (0, 1, 2)])
    stored = {"probabilities": maps} if own else {"probability": maps[1:]}
    np.savez(tmp_path / "out.npz", **stored)
    with pytest.raises(ImportRefusal, match=r"still empty: findings\.segments\.1\.type"):
        finish(folder, tmp_path / "in.npz", tmp_path / "out.npz", tolerance=0.001)
    draft["findings"]["segments"][1] |= {"type": codes}
    (folder / "draft.json").write_text(json.dumps(draft))
    finished = finish(folder, tmp_path / "in.npz", tmp_path / "out.npz", tolerance=0.001)
    assert finished.golden.passed
    sizes = finished.package.manifest.golden.structure_voxels
    expected = np.bincount(maps.argmax(0).ravel(), minlength=3)[1:]
    assert np.abs(np.array(sizes) - expected).max() <= 1
    assert sum(sizes) > 0


def test_structures_whose_maps_are_swapped_stay_a_draft(tmp_path):
    model = write_trained_model(tmp_path / "model", "resenc_2d")
    folder = tmp_path / "packages/parts"
    import_model(model, folder, "parts", Wishes(), TODAY)
    fill(folder, leave_out=("findings.negative_statement",))
    draft = json.loads((folder / "draft.json").read_text())
    draft["findings"]["segments"][1] |= {
        key: {"value": "78961009", "scheme": "SCT", "meaning": "Spleen"} for key in ("category", "type")
    }
    (folder / "draft.json").write_text(json.dumps(draft))
    image = np.random.default_rng(4).normal(100, 20, (3, 16, 16)).astype(np.float32)
    np.savez(
        tmp_path / "in.npz",
        image=image,
        pixel_spacing_mm=[1.0, 1.0],
        slice_spacing_mm=4.0,
        affine=np.eye(4) * [1, 1, 4, 1],
    )
    swapped = np.stack([expected_of("resenc_2d", 1, image, [head]) for head in (2, 1)])
    np.savez(tmp_path / "out.npz", probability=swapped)
    with pytest.raises(ImportRefusal, match="computes something else than the original"):
        finish(folder, tmp_path / "in.npz", tmp_path / "out.npz", tolerance=0.02)
    assert (folder / "draft.json").exists()
