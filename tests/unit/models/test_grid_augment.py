import numpy as np
import pytest
import torch
from scipy import ndimage

from models.training.grid_augment import blur, changed_appearance, gamma, mixed, paste_labels
from models.training.patch_set import Patches
from models.training.settings import GridAugment, grid_augment

CHANGES = (
    "noise_probability",
    "blur_probability",
    "brightness_probability",
    "bias_probability",
    "low_resolution_probability",
    "gamma_probability",
    "inverted_gamma_probability",
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def patches(dimensions, count=4):
    return torch.randn(count, 2, *[12] * dimensions, generator=seeded(9))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_changes_every_patch_when_it_is_certain_and_none_when_it_is_off(name, dimensions):
    before = patches(dimensions)
    after = changed_appearance(before, GridAugment(**{name: 1.0}), seeded(1))
    assert after.shape == before.shape
    assert torch.isfinite(after).all()
    assert ((after - before).abs().flatten(1).mean(1) > 1e-3).all()
    assert torch.equal(changed_appearance(before, GridAugment(), seeded(1)), before)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_meets_the_declared_share_of_the_patches(name):
    before = patches(2, 400)
    after = changed_appearance(before, GridAugment(**{name: 0.3}), seeded(1))
    changed = ((after - before).abs().flatten(1).amax(1) > 0).float().mean()
    assert changed == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_nothing_moves(dimensions):
    places = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * dimensions, indexing="ij"), -1)
    ball = ((places - 13).norm(dim=-1) < 6).float()
    image = ball.expand(6, 1, *ball.shape).contiguous() * 2 - 0.5
    changed = changed_appearance(image, grid_augment(dimensions), seeded(3))
    for one in changed[:, 0]:
        found = one > (one.amax() + one.amin()) / 2
        assert 2 * (found & (ball > 0)).sum() / (found.sum() + ball.sum()) > 0.85


def test_gamma_keeps_order_mean_and_deviation_and_bends_between():
    image = torch.linspace(-2, 5, 64).view(1, 1, 8, 8)
    bent = gamma(image, torch.full((1, 1, 1, 1), 2.0))
    assert (bent.flatten().diff() >= 0).all()
    assert bent.mean().item() == pytest.approx(image.mean().item(), abs=1e-4)
    assert bent.std().item() == pytest.approx(image.std().item(), abs=1e-4)
    # A power of two flattens the dark end; inverted it flattens the bright one.
    steps = bent.flatten().diff()
    assert steps[0] < 0.2 * steps[-1]
    inverted = -gamma(-image, torch.full((1, 1, 1, 1), 2.0)).flatten().diff()
    assert inverted[0] > 5 * inverted[-1]


def test_inverted_gamma_is_gamma_of_the_negative():
    image = patches(3)
    inverted = changed_appearance(image, GridAugment(inverted_gamma_probability=1.0), seeded(2))
    plain = changed_appearance(-image, GridAugment(gamma_probability=1.0), seeded(2))
    assert torch.equal(inverted, -plain)
    assert not torch.allclose(
        inverted, changed_appearance(image, GridAugment(gamma_probability=1.0), seeded(2))
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_blur_is_the_gaussian_of_scipy_with_each_patch_its_own(dimensions):
    image = patches(dimensions, 2)
    deviations = [0.5, 1.0]
    found = blur(image, torch.tensor(deviations))
    for index, deviation in enumerate(deviations):
        for channel in range(2):
            wanted = ndimage.gaussian_filter(
                image[index, channel].numpy(), deviation, mode="nearest", radius=4
            )
            np.testing.assert_allclose(found[index, channel].numpy(), wanted, atol=1e-5)


def two_patches():
    labels = torch.zeros(2, 6, 6, dtype=torch.long)
    labels[0, :3, :3], labels[1, 2:5, 2:5] = 1, 2
    image = torch.tensor([10.0, 20.0]).view(2, 1, 1, 1) + 3.0 * (labels[:, None] > 0)
    return Patches(image, labels, (0, 1))


def test_pasted_labels_bring_their_intensities_and_leave_what_was_there():
    before = two_patches()
    after = next(
        found
        for seed in range(20)
        if not torch.equal((found := paste_labels(before, 1.0, seeded(seed))).labels, before.labels)
    )
    kept = before.labels > 0
    assert torch.equal(after.labels[kept], before.labels[kept])
    assert torch.equal(after.image[:, 0][kept], before.image[:, 0][kept])
    new = (after.labels > 0) & ~kept
    assert set(after.labels[0][new[0]].tolist()) == {2}
    assert set(after.labels[1][new[1]].tolist()) == {1}
    # What is pasted stands out by 3, as it did where it came from.
    background = [before.image[index, 0][~kept[index]].mean() for index in range(2)]
    for index in range(2):
        assert (after.image[index, 0][new[index]].mean() - background[index]).item() == pytest.approx(
            3.0, abs=0.1
        )
    untouched = ~new & ~kept
    assert torch.equal(after.image[:, 0][untouched], before.image[:, 0][untouched])


def test_without_a_chance_nothing_is_pasted():
    before = two_patches()
    after = paste_labels(before, 0.0, seeded(1))
    assert torch.equal(after.image, before.image)
    assert torch.equal(after.labels, before.labels)


def test_mix_up_mixes_image_and_class_by_the_same_share():
    image = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 3, 3)
    shares = torch.eye(8)
    mixed_image, mixed_shares = mixed(image, shares, 0.4, seeded(2))
    assert torch.allclose(mixed_shares.sum(1), torch.ones(8))
    # The class shares say which images were mixed and how; their mixture is what is seen.
    assert torch.allclose(mixed_image[:, 0, 1, 1], mixed_shares @ torch.arange(8.0), atol=1e-5)
    assert (mixed_shares.amax(1) < 0.999).any()
    assert (mixed_shares.diagonal() >= 0.5).all()
