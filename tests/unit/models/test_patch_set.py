import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.patch_set import (
    draw_patches,
    grid_case,
    patch_set,
    planes_of,
    random_centre,
    random_matrix,
    sampled,
)
from models.training.settings import GridAugment, grid_augment

CPU = torch.device("cpu")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def case_of_places(sizes, seed=0, spacing=None):
    """Channel i holds the index along axis i, and the labels are random: what is read tells where it was."""
    image = np.stack(np.indices(sizes)).astype(np.float32)
    labels = np.random.default_rng(seed).integers(0, 5, sizes)
    return grid_case("places", image, labels, spacing or (1.0,) * len(sizes), CPU)


SIZES = st.one_of(
    st.tuples(*[st.integers(4, 24)] * 3),
    st.tuples(*[st.integers(4, 40)] * 2),
)


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 2**31), patch=st.integers(4, 14), on_label=st.booleans())
def test_image_and_labels_of_a_patch_come_from_the_same_places(sizes, seed, patch, on_label):
    case = case_of_places(sizes, seed)
    axes, generator = len(sizes), seeded(seed)
    changes = grid_augment(2 if axes == 2 else 3, rotation_degrees=40.0)
    matrix = random_matrix(case.spacing_mm, changes, generator)
    window = [patch] * axes
    centre = random_centre(case, window, on_label, generator)
    image, labels = sampled(case, centre, matrix, window)
    # Well inside, the image's channels are the places that were read, so the labels there are known.
    places = image.movedim(0, -1).reshape(-1, axes)
    limit = torch.tensor(sizes) - 1
    wanted = expected_places(centre, matrix, window)
    inside = ((wanted >= 0) & (wanted <= limit)).all(1)
    assert torch.allclose(places[inside], wanted[inside], atol=2e-3)
    clear = inside & ((wanted - wanted.round()).abs() < 0.49).all(1)
    nearest = wanted[clear].round().long()
    assert torch.equal(labels.reshape(-1)[clear], case.labels[tuple(nearest.T)].long())
    outside = ((wanted < -1) | (wanted > limit + 1)).any(1)
    assert (labels.reshape(-1)[outside] == 0).all()
    assert (places[outside] == 0).all()


def expected_places(centre, matrix, window):
    """The map written out, one voxel of the patch after the other."""
    offsets = np.stack(np.indices(window), -1).reshape(-1, len(window)) - (np.array(window) - 1) / 2
    return torch.from_numpy(np.array([matrix.numpy() @ one + centre.numpy() for one in offsets])).float()


def test_without_changes_a_patch_is_a_piece_of_its_case():
    case = case_of_places((12, 14, 16))
    matrix = random_matrix(case.spacing_mm, GridAugment(), seeded(1))
    image, labels = sampled(case, torch.tensor([5.5, 6.5, 7.5]), matrix, (4, 6, 8))
    assert torch.equal(labels, case.labels[4:8, 4:10, 4:12].long())
    assert torch.allclose(image, case.image[:, 4:8, 4:10, 4:12].float(), atol=1e-4)


def test_a_patch_larger_than_its_case_has_the_case_in_its_middle_and_nothing_around():
    case = case_of_places((6, 6, 6))
    centre = random_centre(case, (10, 10, 10), True, seeded(3))
    _, labels = sampled(case, centre, torch.eye(3), (10, 10, 10))
    assert torch.equal(labels[2:8, 2:8, 2:8], case.labels.long())
    assert int(labels.count_nonzero()) == int(case.labels.count_nonzero())


def test_a_rotation_is_one_in_millimetres_also_where_voxels_are_not_cubes():
    spacing = (4.0, 1.0, 1.0)
    changes = GridAugment(rotation_degrees=(30.0, 30.0, 30.0))
    matrix = random_matrix(spacing, changes, seeded(5)).double()
    scale = torch.diag(torch.tensor(spacing, dtype=torch.float64))
    turned = scale @ matrix @ torch.linalg.inv(scale)
    assert torch.allclose(turned @ turned.T, torch.eye(3, dtype=torch.float64), atol=1e-6)
    assert not torch.allclose(turned, torch.eye(3, dtype=torch.float64), atol=1e-2)


def test_scale_and_flips_are_those_of_the_settings():
    changes = GridAugment(scale_min=0.5, scale_max=2.0, flip_axes=(0,))
    found = torch.stack([random_matrix((1.0, 1.0), changes, seeded(seed)) for seed in range(200)])
    zoom = found[:, 1, 1]
    assert 0.5 <= zoom.min() < 0.6
    assert 1.7 < zoom.max() <= 2.0
    assert 0.4 < (found[:, 0, 0] < 0).float().mean() < 0.6
    assert (found[:, 1, 1] > 0).all()


def one_small_label():
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[30:32, 3:5, 20:22] = 2
    return grid_case("small", labels[None] * 1.0, labels, (1.0, 1.0, 1.0), CPU)


@pytest.mark.parametrize(("share", "forced"), [(1 / 3, 2), (0.0, 0), (1.0, 6), (0.01, 1)])
def test_the_declared_share_of_a_batch_holds_foreground(share, forced):
    data = patch_set([one_small_label()])
    for seed in range(10):
        drawn = draw_patches(
            data, (8, 8, 8), 6, foreground_share=share, augment=GridAugment(), generator=seeded(seed)
        )
        has_label = (drawn.labels > 0).flatten(1).any(1)
        assert has_label[6 - forced :].all()
    # A patch anywhere meets the label once in many: what is forced is what brings it in.
    assert has_label.sum() <= forced + 1


def test_small_labels_are_drawn_as_often_as_large_ones():
    labels = np.zeros((30, 30), np.uint8)
    labels[:, :15], labels[29, 29] = 1, 2
    data = patch_set([grid_case("two", labels[None], labels, (1.0, 1.0), CPU)])
    drawn = draw_patches(data, (5, 5), 300, foreground_share=1.0, augment=GridAugment(), generator=seeded(1))
    assert 0.4 < (drawn.labels == 2).flatten(1).any(1).float().mean() < 0.6


def test_cases_are_drawn_by_their_weights():
    cases = [
        grid_case(str(value), np.full((1, 6, 6), value), np.zeros((6, 6)), (1.0, 1.0), CPU)
        for value in (1, 2)
    ]
    drawn = draw_patches(
        patch_set(cases, [3.0, 1.0]),
        (4, 4),
        400,
        foreground_share=0.0,
        augment=GridAugment(),
        generator=seeded(1),
    )
    assert (drawn.image[:, 0, 2, 2] == 1).float().mean() == pytest.approx(0.75, abs=0.06)


def test_slices_of_a_volume_keep_their_labels_and_places():
    case = case_of_places((5, 8, 9), spacing=(3.0, 1.0, 2.0))
    planes = planes_of(case)
    assert len(planes) == 5
    assert planes[2].spacing_mm == (1.0, 2.0)
    assert torch.equal(planes[2].labels, case.labels[2])
    for number, plane in enumerate(planes):
        for places in plane.places:
            assert (case.labels[number][tuple(places.T)] > 0).all()


def test_a_case_whose_image_and_labels_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not agree"):
        grid_case("x", np.zeros((1, 4, 4)), np.zeros((4, 5)), (1.0, 1.0), CPU)


def test_the_same_seed_draws_the_same_patches():
    data = patch_set([case_of_places((12, 12, 12))])
    runs = [
        draw_patches(data, (8, 8, 8), 3, foreground_share=0.5, augment=grid_augment(3), generator=seeded(4))
        for _ in range(2)
    ]
    assert torch.equal(runs[0].image, runs[1].image)
    assert torch.equal(runs[0].labels, runs[1].labels)
