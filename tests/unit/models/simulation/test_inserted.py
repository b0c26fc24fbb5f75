"""Nodules in a real lung: where lung is, what is left of the scan, and how a few slices become enough."""

import numpy as np
import pytest
from scipy import ndimage

from models.simulation.inserted import lung_ml, lung_of, mirrored, with_nodules
from models.volume import Volume


def abdomen(slices: int = 3) -> Volume:
    """A body with two lungs (-850) and gas in the bowel (-1000), noise of 30 HU; 1 x 2 x 2 mm."""
    rows, columns = np.indices((110, 150))
    image = np.full((slices, 110, 150), -1000.0)
    image[:, ((rows - 55) / 50) ** 2 + ((columns - 75) / 70) ** 2 <= 1] = 40
    for side in (-1, 1):
        image[:, ((rows - 55) / 32) ** 2 + ((columns - 75 - 32 * side) / 24) ** 2 <= 1] = -850
    image[:, (rows - 92) ** 2 + (columns - 75) ** 2 <= 36] = -1000
    image += np.random.default_rng(0).normal(0, 30, image.shape)
    return Volume(image.astype(np.int16), np.diag([2.0, 2.0, 1.0, 1.0]), (2.0, 2.0), 1.0)


def test_lung_is_found_and_gas_and_air_are_not():
    scan = abdomen(8)
    expected = 2 * np.pi * 32 * 24 * 8 * 4 / 1000
    assert lung_ml(scan) == pytest.approx(expected, rel=0.05)
    lung = lung_of(scan)
    assert not lung[:, 92, 75].any()
    assert not lung[:, 0].any()


def test_slices_go_there_and_back_with_their_ends_once():
    scan = Volume(np.arange(3)[:, None, None] * np.ones((1, 2, 2)), np.eye(4), (1.0, 1.0), 1.0)
    assert mirrored(scan, 8).array[:, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert mirrored(scan, 2) is scan


def test_nodules_lie_in_the_lung_and_leave_the_rest_as_it_was():
    scan = mirrored(abdomen(), 40)
    made = with_nodules(scan, np.random.default_rng(5))
    assert len(made.traits) >= 2
    assert int(made.labels.max()) == len(made.traits)
    changed = np.abs(made.volume.array.astype(int) - scan.array) > 5
    near = np.zeros(scan.shape, bool)
    for z, y, x in np.argwhere(made.labels):
        near[max(0, z - 12) : z + 13, max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = True
    assert not changed[~near].any()
    inside = made.labels > 0
    assert made.volume.array[inside].mean() > scan.array[inside].mean() + 100
    assert (scan.array[inside] < -500).mean() > 0.7


def test_the_grain_of_the_scan_stays_within_a_nodule():
    scan, spreads = mirrored(abdomen(), 40), []
    for seed in range(4):
        made = with_nodules(scan, np.random.default_rng(seed))
        for number, traits in enumerate(made.traits, start=1):
            core = ndimage.binary_erosion(made.labels == number, iterations=2)
            if traits.texture == 5 and core.sum() > 5:
                spreads.append(made.volume.array[core].std())
    assert spreads
    assert min(spreads) > 10  # what is drawn is even


def test_without_a_spacing_nothing_is_drawn():
    bare = Volume(np.zeros((3, 40, 40), np.int16))
    with pytest.raises(ValueError, match="no spacing"):
        with_nodules(bare, np.random.default_rng(0))
