import torch

from models.training.lesion_change import Batch, fade_lesions, mean_under, paste_lesions

NORMAL = 2


def disc(row: float, column: float, radius: float):
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(160.0), indexing="ij")
    return ((rows - row).hypot(columns - column) < radius).float()[None]


def dark_lesions(classes: list[int]) -> Batch:
    """Grey tissue of two brightnesses, a black disc in every image whose class has a lesion."""
    mask = torch.stack([disc(60, 80, 14) * (label != NORMAL) for label in classes])
    tissue = torch.stack([torch.full((1, 128, 160), 0.4 + 0.2 * (i % 2)) for i in range(len(classes))])
    return Batch(tissue * (1 - mask), mask, torch.tensor(classes))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fading_brings_a_lesion_nearer_to_its_surroundings_and_leaves_the_rest():
    before = dark_lesions([0, 0, 1, 1, NORMAL, NORMAL])
    after = fade_lesions(before, 1.0, 0.7, seeded(1))
    assert torch.equal(after.mask, before.mask)
    assert torch.equal(after.classes, before.classes)
    outside = torch.nn.functional.max_pool2d(before.mask, 7, stride=1, padding=3) == 0
    assert torch.equal(after.image[outside], before.image[outside])
    inside = mean_under(after.image, before.mask).flatten()
    tissue = before.image.amax((1, 2, 3))
    assert (inside[:4] > 0).any()  # lesions whose neighbour in the batch has tissue there
    assert (inside <= 0.7 * tissue + 1e-5).all()
    assert torch.equal(after.image[5], before.image[5])


def test_no_chance_changes_nothing():
    before = dark_lesions([0, 1, NORMAL, NORMAL])
    assert torch.equal(fade_lesions(before, 0.0, 0.7, seeded(1)).image, before.image)
    pasted = paste_lesions(before, 0.0, NORMAL, seeded(1))
    assert all(torch.equal(a, b) for a, b in zip(pasted, before, strict=True))


def test_a_pasted_lesion_brings_its_outline_its_class_and_its_contrast():
    before = dark_lesions([0, 1, NORMAL, NORMAL] * 8)
    after = paste_lesions(before, 1.0, NORMAL, seeded(3))
    changed = (after.classes != before.classes).nonzero().flatten().tolist()
    assert changed
    for index in changed:
        assert before.classes[index] == NORMAL
        assert after.classes[index] in (0, 1)
        assert after.mask[index].sum() > 0.6 * disc(60, 80, 14).sum()
        assert after.image[index][after.mask[index] > 0].mean() < 0.1
        far = torch.nn.functional.max_pool2d(after.mask[index : index + 1], 31, stride=1, padding=15)[0] == 0
        assert torch.equal(after.image[index][far], before.image[index][far])
        rim = (far == 0) & (after.mask[index] == 0)
        assert (after.image[index][rim] - before.image[index][rim]).abs().mean() < 0.03


def test_an_image_never_holds_lesions_of_two_classes():
    before = dark_lesions([0, 1] * 8)
    for seed in range(20):
        after = paste_lesions(before, 1.0, NORMAL, seeded(seed))
        assert torch.equal(after.classes, before.classes)
    only_other = paste_lesions(dark_lesions([0, 1]), 1.0, NORMAL, seeded(0))
    assert torch.equal(only_other.mask, dark_lesions([0, 1]).mask)


def test_nothing_is_pasted_beside_the_picture_or_over_another_lesion():
    before = dark_lesions([0, NORMAL] * 8)
    black = before._replace(image=before.image * (before.classes != NORMAL).view(-1, 1, 1, 1))
    assert torch.equal(paste_lesions(black, 1.0, NORMAL, seeded(5)).mask, before.mask)
    for seed in range(10):
        after = paste_lesions(before, 1.0, NORMAL, seeded(seed))
        kept = before.mask > 0
        assert torch.equal(after.image[kept], before.image[kept])
