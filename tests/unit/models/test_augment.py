import torch

from models.training.augment import appearance, augment, move
from models.training.lesion_change import Batch
from models.training.recipe_file import shipped_recipe

BRAIN, BREAST = (shipped_recipe(name).run for name in ("brain-flair-lesion", "breast-us-lesion"))


def ovals():
    rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    mask = (((rows - 120) / 30) ** 2 + ((columns - 140) / 45) ** 2 < 1).float()[None, None]
    return mask.repeat(6, 3, 1, 1), mask.repeat(6, 1, 1, 1)


def test_image_and_mask_move_together():
    image, mask = ovals()
    moved, moved_mask = move(image, mask, BRAIN.augment, torch.Generator().manual_seed(4))
    assert moved.shape == (6, 3, 224, 192)
    for index in range(6):
        a, b = moved[index, 1] >= 0.5, moved_mask[index, 0] > 0
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.99
    assert not torch.equal(moved_mask[0], moved_mask[1])


def test_rotation_keeps_shape_on_a_canvas_that_is_not_square():
    settings = BRAIN.augment.model_copy(
        update={"scale_min": 1.0, "scale_max": 1.0, "aspect": 0.0, "shift": 0.0, "rotation_degrees": 40.0}
    )
    rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    disc = ((rows - 127.5).hypot(columns - 127.5) < 50).float()[None, None].repeat(8, 1, 1, 1)
    _, moved = move(disc, disc, settings, torch.Generator().manual_seed(1))
    assert (moved.sum((1, 2, 3)) / disc.sum((1, 2, 3)) - 1).abs().max() < 0.02
    heights = moved[:, 0].amax(2).sum(1)
    widths = moved[:, 0].amax(1).sum(1)
    assert (heights - widths).abs().max() <= 2


def test_the_mask_stays_binary_and_the_image_within_its_range():
    for recipe in (BRAIN, BREAST):
        image, mask = ovals()
        found, found_mask, _ = augment(
            Batch(image[:, : recipe.network.in_channels], mask, torch.tensor([0, 1, 2, 0, 1, 2])),
            recipe.augment,
            2 if recipe.classes else None,
            torch.Generator().manual_seed(7),
        )
        assert set(found_mask.unique().tolist()) <= {0.0, 1.0}
        assert found.min() >= 0
        assert found.max() <= recipe.augment.maximum
        assert torch.isfinite(found).all()


def test_the_same_generator_seed_gives_the_same_batch():
    image, mask = ovals()
    batch = Batch(image[:, :1], mask, torch.tensor([0, 1, 2, 0, 1, 2]))
    runs = [augment(batch, BREAST.augment, 2, torch.Generator().manual_seed(9)) for _ in range(2)]
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_appearance_does_not_move_anything():
    image, mask = ovals()
    changed = appearance(image, BRAIN.augment, torch.Generator().manual_seed(2))
    a, b = changed[:, 1] > changed[:, 1].amax((1, 2), keepdim=True) / 2, mask[:, 0] > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95
