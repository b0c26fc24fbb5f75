"""The shipped recipe of structures made small, and generated volumes it reads: seconds of training."""

import nibabel as nib
import numpy as np

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
    "network.features=[8, 16, 24]",
    "network.blocks=1",
    "network.kind=residual",
    "network.side_outputs=1",
    "learning.objective.patch=[16, 16, 16]",
    "learning.objective.side_weights=[1.0, 0.5]",
    "learning.objective.foreground_share=0.4",
    "learning.optimizer.rate=6e-3",
    "learning.schedule={steps: 80, warm_up_steps: 5}",
    "learning.batch=3",
    "learning.ema_decay=0.9",
    "learning.precision_cpu=float32",
    "learning.objective.augment={flip_axes: [2], noise_probability: 0.2}",
)


def write_cases(folder, count, *, only_boxes=False):
    """NIfTI of smoke volumes whose axes run (L, P, H), so that the grid has to turn nothing."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for case in smoke_volumes(count):
        labels = case.labels.numpy()
        if only_boxes:
            labels = (labels == 2).astype(np.uint8)
        for name, array in (("images", case.image[0].float().numpy()), ("labels", labels)):
            picture = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
            nib.save(picture, folder / name / f"{case.name}.nii.gz")


def made(folder, overrides, *, work="work", **order):
    """What comes of the recipe and the cases of a folder."""
    recipe = read_recipe(HIPPOCAMPUS, overrides)
    return make_package(
        Order(
            recipe=recipe,
            recipe_folder=HIPPOCAMPUS.parent,
            data_folder=folder / "cases",
            readers=READERS,
            generate=lambda like, count, seed: (),
            **order,
        ),
        Work(folder / work, lambda said: None),
    )
