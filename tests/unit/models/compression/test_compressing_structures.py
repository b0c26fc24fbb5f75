"""Packages of structures on a grid, from a recipe: judged by their outlines, pruned and put into integers."""

import nibabel as nib
import numpy as np
import pytest

from models.compression import compressing
from models.compression.candidates import School
from models.compression.compressing import Wish, compress_package
from models.compression.retraining import Lessons
from models.networks.registry import OnnxSpec
from models.predictor import Predictor
from models.training.making import make_package
from models.training.order import Order
from models.training.readers import READERS
from models.training.recipe_file import read_recipe, shipped_path
from models.training.smoke_volumes import smoke_volumes
from models.training.stages import Work

HIPPOCAMPUS = shipped_path("hippocampus-volume")
SMALL = (
    "split.file=null",
    "split.folds=3",
    "grid.tiling.window=[16, 16, 16]",
    "network.features=[8, 12, 16]",
    "network.blocks=1",
    "network.kind=plain",
    "network.side_outputs=1",
    "learning.objective.patch=[16, 16, 16]",
    "learning.objective.side_weights=[1.0, 0.5]",
    "learning.optimizer.rate=6e-3",
    "learning.schedule={steps: 20, warm_up_steps: 2}",
    "learning.batch=3",
    "learning.ema_decay=0.8",
    "learning.precision_cpu=float32",
    "learning.objective.augment={flip_axes: [2]}",
)
ON = {"version": None, "released": "2026-11-22"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    for case in smoke_volumes(9):
        for name, array in (("images", case.image[0].float().numpy()), ("labels", case.labels.numpy())):
            (folder / "cases" / name).mkdir(parents=True, exist_ok=True)
            picture = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
            nib.save(picture, folder / "cases" / name / f"{case.name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def package(place):
    order = Order(
        recipe=read_recipe(HIPPOCAMPUS, SMALL),
        recipe_folder=HIPPOCAMPUS.parent,
        data_folder=place / "cases",
        readers=READERS,
        generate=lambda like, count, seed: (),
    )
    return make_package(order, Work(place / "work", lambda said: None)).package


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    """What a network of twenty steps loses is not asked for."""
    monkeypatch.setattr(compressing, "objections", lambda *_: ())
    monkeypatch.setattr(compressing, "CASES_MIN", 3)
    monkeypatch.setattr(compressing, "alternating_seconds", lambda *_: ((1.0,), (1.0,)))


def test_structures_in_integers_are_outlined_nearly_alike(package, place, tmp_path):
    done = compress_package(package, place / "work", tmp_path / "p", Wish("int8"), **ON)
    assert isinstance(done.package.manifest.network, OnnxSpec)
    (row,) = done.rows
    assert (row.metric, row.n) == ("dice", 3)
    assert abs(row.difference.value) < 0.1
    assert Predictor(done.package, device="cpu").verify_golden().passed


def test_a_network_on_a_grid_is_pruned_and_trained_on(package, place, tmp_path):
    school = School(Lessons(3, 4.0), (), tmp_path / "training", 3, lambda _: None)
    done = compress_package(
        package, place / "work", tmp_path / "p", Wish("prune", share=0.5, school=school), **ON
    )
    assert done.package.manifest.network.features == (4, 8, 8)
    assert done.package.manifest.runtime.parameters < 0.5 * package.manifest.runtime.parameters
    assert done.package.manifest.training.steps == 23
