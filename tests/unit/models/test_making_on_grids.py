"""Networks on a grid from a recipe: structures in 3D and lesions in 2D, from files to a package that runs."""

import pytest
from grid_recipe import HIPPOCAMPUS, SMALL, made, write_cases

from models.predictor import Predictor
from models.training.readers import read_volume
from models.training.recipe_file import RecipeError, read_recipe
from models.training.smoke_volumes import smoke_volumes

# The network finds dark boxes among bright balls and noise.
LESIONS = (
    *SMALL,
    "grid.tiling.window=[16, 16]",
    "grid.tiling.mirror=[1]",
    "grid.tiling.lesion_heads=[1]",
    "network.dimensions=2",
    "network.heads=2",
    "learning.objective.patch=[16, 16]",
    "learning.objective.augment={flip_axes: [0, 1]}",
    "learning.batch=16",
    "learning.schedule={steps: 60, warm_up_steps: 5}",
    "postprocess=[{step: threshold, probability: 0.5}]",
    "findings.kind=lesions",
    "findings.totals=[]",
    "findings.negative_statement=No box was outlined.",
    "findings.segments=[{number: 1, label: Box, region: null, colour: [60.0, 50.0, 30.0], "
    'category: {value: "49755003", scheme: SCT, meaning: Morphologically Altered Structure}, '
    'type: {value: "52988006", scheme: SCT, meaning: Lesion}}]',
)


def test_structures_are_trained_packed_and_found_again(tmp_path):
    write_cases(tmp_path / "cases", 9)
    result = made(tmp_path, SMALL)
    package = result.package
    assert package.manifest.findings.kind == "structures"
    assert len(package.manifest.golden.structure_voxels) == 2
    declared = {row.metric: row for row in package.manifest.evaluation if row.subset == "scored"}
    for key in ("anterior_hippocampus", "posterior_hippocampus"):
        assert {f"dice_{key}_mean", f"volume_bias_{key}"} <= set(declared)
    assert declared["dice_structures_mean"].n == 3
    card = package.path("card").read_text()
    assert "| Dice of anterior hippocampus, mean |" in card
    assert "dice_" not in card
    unseen = smoke_volumes(12)[-1]
    write_cases(tmp_path / "unseen", 12)
    predictor = Predictor(package, device="cpu")
    assert predictor.verify_golden().passed
    found = predictor.predict(read_volume(tmp_path / "unseen/images" / f"{unseen.name}.nii.gz")).labels
    for number in (1, 2):
        ours, truth = found == number, unseen.labels.numpy() == number
        assert 2 * (ours & truth).sum() / (ours.sum() + truth.sum()) > 0.6


def test_lesions_are_trained_slice_by_slice_in_2d(tmp_path):
    write_cases(tmp_path / "cases", 6, only_boxes=True)
    result = made(tmp_path, LESIONS)
    case = result.cases.load("volume000")
    found = Predictor(result.package, device="cpu").predict(case.volume)
    assert 2 * ((found.labels > 0) & case.mask).sum() / ((found.labels > 0).sum() + case.mask.sum()) > 0.6


def test_a_run_ends_early_on_an_inner_part_that_is_not_the_scored_fold(tmp_path):
    write_cases(tmp_path / "cases", 9)
    result = made(
        tmp_path,
        (*SMALL, "learning.inner={share: 0.3, every_steps: 4, patience: 1}", "learning.optimizer.rate=1e-9"),
        until="train",
    )
    (run,) = result.runs
    assert run.steps < 80
    assert run.real_cases < 6  # of the six outside fold 0 some are held back


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.heads=4", "network.heads must be 3"),
        ("grid.tiling.activation=sigmoid", "softmax"),
        ("grid.tiling.lesion_heads=[1]", "lesion_heads must be \\[\\]"),
        ("grid.tiling={window: [16, 16], overlap: 0.5, blend: gaussian, activation: softmax}", "has 2 sizes"),
        ("grid.tiling.window=[16, 16, 18]", "must be multiples of \\[4, 4, 4\\]"),
        ("learning=null", "needs the sections grid and learning"),
        ("preprocess=[{step: stack_slices, neighbours: 0}]", "are for effnet_lite0_unet@1"),
        ("learning.objective={learns: image_classes}", "learns voxel_labels"),
    ],
    ids=[
        "heads",
        "activation",
        "lesion-heads",
        "patch",
        "window",
        "no-learning",
        "canvas-steps",
        "objective",
    ],
)
def test_parts_of_a_recipe_that_do_not_fit_are_refused(override, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(HIPPOCAMPUS, (*SMALL, override))
