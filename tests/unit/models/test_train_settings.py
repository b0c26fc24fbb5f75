import pytest
from pydantic import ValidationError

from models.training.canvas_learning import settings_of
from models.training.recipe_file import shipped_recipe
from models.training.settings import GridAugment, TrainSettings, VoxelLabels, grid_augment
from models.training.smoke_volumes import SMOKE_VOLUMES


@pytest.mark.parametrize(
    "settings",
    [
        SMOKE_VOLUMES,
        settings_of(shipped_recipe("breast-us-lesion").run),
        settings_of(shipped_recipe("brain-flair-lesion").run),
    ],
    ids=["volumes", "breast", "brain"],
)
def test_settings_survive_json(settings):
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings


def test_unknown_names_and_objectives_are_refused():
    content = SMOKE_VOLUMES.model_dump(mode="json")
    with pytest.raises(ValidationError, match="extra"):
        TrainSettings.model_validate({**content, "momentum": 0.9})
    with pytest.raises(ValidationError, match="learns"):
        TrainSettings.model_validate({**content, "objective": {"learns": "anything"}})
    with pytest.raises(ValidationError, match="optimizer"):
        TrainSettings.model_validate({**content, "optimizer": {"optimizer": "lion", "rate": 1e-3}})


def test_changes_that_do_not_fit_the_patch_are_refused():
    with pytest.raises(ValidationError, match="in 2D need 1"):
        VoxelLabels(learns="voxel_labels", patch=(32, 32), augment=grid_augment(3))
    with pytest.raises(ValidationError, match="flip_axes"):
        VoxelLabels(learns="voxel_labels", patch=(32, 32), augment=GridAugment(flip_axes=(2,)))


def test_a_recipe_of_today_keeps_its_numbers():
    settings = settings_of(shipped_recipe("breast-us-lesion").run)
    assert (settings.optimizer.rate, settings.optimizer.encoder_rate) == (1.2e-3, 4e-4)
    assert (settings.batch, settings.schedule.steps, settings.schedule.warm_up_steps) == (16, 1200, 100)
    assert settings.precision_cpu == "bfloat16"
    assert settings.clip_norm == 1.0
