"""Detectors from a recipe: boxes learnt from masks in files, and from phantoms that nobody has to have."""

import nibabel as nib
import numpy as np
import pytest
from ball_detector import balls

from models.evaluation.froc import cpm, froc
from models.evaluation.kept_predictions import KeptPredictions
from models.evaluation.lesion_figures import candidates_over
from models.evaluation.run import judge_cases
from models.predictor import Predictor, golden_volume
from models.training.box_learning import prepared_with_numbers
from models.training.build import golden_of
from models.training.cases import Case, CasesError
from models.training.making import make_package
from models.training.order import Order
from models.training.readers import READERS, read_volume
from models.training.recipe_file import RecipeError, read_recipe, shipped_path
from models.training.stages import Work
from models.volume import Volume

NODULES = shipped_path("chest-ct-nodule")
TINY = (
    "split.folds=3",
    "grid.tiling.window=[16, 16, 16]",
    "network.features=[4, 8, 12]",
    "network.blocks=1",
    "network.head_features=12",
    "network.candidates_max=30",
    "learning.objective.patch=[16, 16, 16]",
    "learning.objective.augment={flip_axes: [0, 1, 2]}",
    "learning.batch=4",
    "learning.ema_decay=0.9",
    "learning.precision_cpu=float32",
)
PHANTOMS = (
    *TINY,
    "data.phantoms=3",
    "data.slab_mm=[32.0, 200.0, 260.0]",
    "data.pixel_mm=4.0",
    "grid.steps.1={step: resample_grid, spacing_mm: [4.0, 4.0, 4.0], order: 1}",
    "learning.schedule={steps: 2}",
)
BALLS = (
    *TINY,
    "data={reader: pairs, name: balls, licence: none, citation: '', unit: patients}",
    "grid.steps.1={step: resample_grid, spacing_mm: [1.0, 1.0, 1.0], order: 1}",
    "grid.steps.2={step: clip_standardise, low: -1400.0, high: 400.0, mean: -800.0, deviation: 100.0}",
    "learning.optimizer.rate=2e-2",
    "learning.schedule={steps: 120, warm_up_steps: 5}",
)


def make(folder, overrides, **order):
    recipe = read_recipe(NODULES, overrides)
    return make_package(
        Order(
            recipe=recipe,
            recipe_folder=NODULES.parent,
            data_folder=folder / "cases",
            readers=READERS,
            generate=lambda like, count, seed: (),
            **order,
        ),
        Work(folder / "work", lambda said: None),
    )


def write_balls(folder, count):
    """One or two balls in each of several images, and an image without."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(2)
    for number in range(count):
        there = [(tuple(rng.uniform(6, 14, 3)), rng.uniform(3, 5.5)), (tuple(rng.uniform(24, 30, 3)), 4.0)]
        image, labels = balls((36, 36, 36), there[: number % 3], seed=number)
        for name, array in (("images", image), ("masks", (labels > 0).astype(np.uint8))):
            picture = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
            nib.save(picture, folder / name / f"case{number:02d}.nii.gz")


def test_boxes_are_learnt_from_masks_and_found_in_an_unseen_case(tmp_path):
    write_balls(tmp_path / "cases", 9)
    made = make(tmp_path, BALLS)
    manifest = made.package.manifest
    assert manifest.task.kind == "detect"
    assert manifest.operating_points[0].thresholds == {"score": 0.3}
    rows = {(row.metric, row.subset): row.value for row in manifest.evaluation}
    assert rows["cpm", "scored"] > 0.5
    assert "sensitivity_at_1_false" in {metric for metric, _ in rows}
    predictor = Predictor(made.package, device="cpu")
    assert predictor.verify_golden().passed
    judged = judge_cases(KeptPredictions(predictor, None), tmp_path / "work", "scored")
    curve = froc(candidates_over([case.measures for case in judged]))
    assert cpm(curve) == pytest.approx(rows["cpm", "scored"], abs=1e-4)  # report and package agree
    write_balls(tmp_path / "unseen", 15)
    found = predictor.predict(read_volume(tmp_path / "unseen/images/case13.nii.gz"))
    truth = read_volume(tmp_path / "unseen/masks/case13.nii.gz").array
    middle = np.argwhere(truth).mean(0) + 0.5
    boxes = found.detected.boxes
    assert np.linalg.norm((boxes[0, :3] + boxes[0, 3:]) / 2 - middle) < 2.5


def test_phantoms_are_made_without_a_folder_and_only_once(tmp_path):
    made = make(tmp_path, PHANTOMS, until="train")
    assert sorted(made.cases.items) == ["phantom-0000", "phantom-0001", "phantom-0002"]
    assert made.cases.load("phantom-0001").mask.any()
    assert made.runs[0].real_cases == 2
    kept = sorted(path.name for path in (tmp_path / "work").iterdir())
    make(tmp_path, PHANTOMS, until="train")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == kept


def test_the_golden_input_is_a_piece_of_a_phantom_with_a_nodule():
    arrays = golden_of(read_recipe(NODULES, PHANTOMS))
    volume = golden_volume(arrays)
    assert volume.affine is not None
    assert max(volume.shape) * 4.0 <= 100
    assert read_recipe(NODULES).card.line.endswith("sensitivity on real nodules unknown.")


def test_lesions_get_numbers_of_their_own_on_the_grid():
    recipe = read_recipe(NODULES).run
    mask = np.zeros((20, 30, 30), np.uint8)
    mask[3:8, 4:9, 4:9] = mask[12:16, 20:26, 20:26] = 1
    affine = np.diag([1.25, 1.25, 1.25, 1.0])
    volume = Volume(np.zeros(mask.shape, np.int16), affine, (1.25, 1.25), 1.25)
    arrays = prepared_with_numbers(Case("a", "a", "", volume, mask, None), recipe)
    assert np.bincount(arrays["labels"].ravel())[1:].tolist() == [125, 144]
    many = np.zeros((40, 40, 40), np.uint8)
    many[::5, ::5, ::5] = 1
    crowded = Volume(np.zeros(many.shape, np.int16), affine, (1.25, 1.25), 1.25)
    with pytest.raises(CasesError, match="512 separate lesions"):
        prepared_with_numbers(Case("b", "b", "", crowded, many, None), recipe)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.classes=2", "one class in 3 dimensions"),
        ("grid.tiling.activation=softmax", "activation is sigmoid"),
        ("grid.tiling.window=[64, 64, 60]", "must be multiples of"),
        ("learning.objective={learns: voxel_labels, patch: [16, 16, 16]}", "learns lesion_boxes"),
    ],
    ids=["classes", "activation", "window", "objective"],
)
def test_parts_of_a_detectors_recipe_that_do_not_fit_are_refused(override, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(NODULES, (override,))
