"""A volume becomes labels on its own grid: streamed, skipped, squeezed, the findings are the same."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from whole_logits import whole_logits, whole_map

from models.grid import to_grid
from models.grid_steps import Grid, OrientGrid, ResampleGrid, SkipBackground, Tiling, ZScore
from models.inference.structures import structures_on_grid
from models.inference.wanted import Wanted
from models.memory import TooLarge
from models.volume import Volume

CPU = torch.device("cpu")
PLENTY = 1 << 40
STEPS = (
    OrientGrid(step="orient_grid", columns="L", rows="P", slices="H"),
    ResampleGrid(step="resample_grid", spacing_mm=(2.0, 1.5, 1.5), order=1),
    ZScore(step="zscore", mask="all"),
)


def grid_of(*window: int, skip: SkipBackground | None = None, steps=STEPS, overlap: float = 0.5) -> Grid:
    tiling = Tiling(
        window=window,
        overlap=overlap,
        blend="gaussian",
        activation="softmax",
        lesion_heads=(1,),
        skip_background=skip,
    )
    return Grid(steps=steps, tiling=tiling)


CENTRES = ((14, 24, 44), (18, 36, 30))


def head_and_lesions() -> Volume:
    """A ball of tissue (about 100) in air (0 to 10), two brighter lesions in it; 2 x 1 x 1 mm."""
    generator = np.random.default_rng(7)
    sizes = (30, 60, 64)
    array = generator.uniform(0, 10, sizes)
    for centre, radius, value in (((14, 30, 38), 20, 100), (CENTRES[0], 5, 200), (CENTRES[1], 4, 200)):
        places = (np.indices(sizes) - np.reshape(centre, (3, 1, 1, 1))) * np.reshape((2, 1, 1), (3, 1, 1, 1))
        inside = (places**2).sum(0) <= radius**2
        array[inside] = generator.normal(value, 8, int(inside.sum()))
    return Volume(array.astype(np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), (1.0, 1.0), 2.0)


class Brightness(torch.nn.Module):
    """Heads of air (5), tissue (100) and lesion (200) by brightness: a network one can look through.

    `reach` voxels around each are averaged, so that a window's border shows.
    """

    def __init__(self, volume: Volume, *, reach: int = 0) -> None:
        super().__init__()
        self.levels = [level_of(volume, value) for value in (5, 100, 200)]
        self.reach, self.windows = reach, 0

    def forward(self, x):
        self.windows += len(x)
        pool = torch.nn.functional.avg_pool3d if x.dim() == 5 else torch.nn.functional.avg_pool2d
        smooth = pool(x, 2 * self.reach + 1, 1, self.reach, count_include_pad=False)
        return torch.cat([-8 * (smooth - level).abs() for level in self.levels], 1)


def level_of(volume: Volume, value: float) -> float:
    """A value after the z-score of its volume."""
    return float((value - volume.array.mean()) / volume.array.std())


WANTED = Wanted(3, "softmax", ((2,), (1,)), maps=(1,))


def predict(volume, grid, network, wanted=WANTED, *, batch=2, free=lambda _: PLENTY):
    return structures_on_grid(
        volume, grid, network, wanted, batch=batch, device=CPU, bytes_per_window_voxel=100, free=free
    )


def test_several_structures_and_the_probability_asked_for_lie_on_the_source_grid():
    volume, grid = head_and_lesions(), grid_of(16, 16, 16)
    network = Brightness(volume, reach=1)
    found = predict(volume, grid, network)
    gridded = to_grid(volume, grid.steps)
    logits = whole_logits(network, gridded.image[None], grid.tiling, heads=3)
    np.testing.assert_allclose(found.probabilities[1], whole_map(gridded, logits, WANTED, 1), atol=1e-5)
    assert found.labels.shape == volume.shape
    assert found.labels.dtype == np.uint8
    assert set(found.probabilities) == {1}
    assert ndimage.label(found.labels == 1)[1] == 2
    assert [found.labels[centre] for centre in (*CENTRES, (14, 40, 38), (2, 2, 2))] == [1, 1, 2, 0]


def test_only_what_is_asked_for_is_made():
    volume = head_and_lesions()
    labels = predict(volume, grid_of(16, 16, 16), Brightness(volume), Wanted(3, "softmax", ((2,),)))
    assert labels.probabilities == {}
    wanted = Wanted(3, "softmax", ((2,),), labels=False, maps=(1,))
    assert predict(volume, grid_of(16, 16, 16), Brightness(volume), wanted).labels is None


@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([(8, 16, 16), (16, 8, 12), (16, 16)]))
@settings(max_examples=10, deadline=None)
def test_findings_with_skipping_are_the_findings_without(seed, batch, window):
    """Voxel by voxel for a network without context; the same lesions for one that sees a window's border."""
    generator = np.random.default_rng(seed)
    sizes = (14, 40, 44)
    array = generator.uniform(0, 10, sizes)
    middle = [generator.uniform(0.35, 0.65) * size for size in sizes]
    for radius, value in ((11, 100), (4, 200)):
        places = np.indices(sizes) - np.reshape(middle, (3, 1, 1, 1))
        array[(places**2).sum(0) <= radius**2] = value
    volume = Volume(array.astype(np.float32), np.eye(4), (1.0, 1.0), 1.0)
    skip = SkipBackground(above=level_of(volume, 50), margin=2)
    plain_grid, skip_grid = (grid_of(*window, steps=(STEPS[2],), skip=one) for one in (None, skip))
    network = Brightness(volume)
    plain = predict(volume, plain_grid, network, batch=batch)
    run_without, network.windows = network.windows, 0
    skipped = predict(volume, skip_grid, network, batch=batch)
    assert network.windows < run_without
    np.testing.assert_array_equal(skipped.labels, plain.labels)
    np.testing.assert_allclose(skipped.probabilities[1], plain.probabilities[1], atol=1e-3)
    smooth = Brightness(volume, reach=1)
    lesions = [predict(volume, grid, smooth, batch=batch).labels == 1 for grid in (plain_grid, skip_grid)]
    assert ndimage.label(lesions[0])[1] == ndimage.label(lesions[1])[1] == 1
    assert (lesions[0] != lesions[1]).sum() <= 0.05 * lesions[0].sum()


def test_with_less_memory_the_labels_are_the_same_until_it_is_refused():
    volume, grid = head_and_lesions(), grid_of(16, 16, 16)
    network = Brightness(volume)
    whole = predict(volume, grid, network, batch=4)
    refused, squeezed = [], 0
    for free in np.geomspace(5e4, 4e7, 40):
        try:
            found = predict(volume, grid, network, batch=4, free=lambda _, free=free: int(free))
        except TooLarge as error:
            refused.append((error.need, error.have, int(free)))
            continue
        np.testing.assert_array_equal(found.labels, whole.labels)
        squeezed += 1
    assert len(refused) > 5
    assert all(need > have == free for need, have, free in refused)
    assert squeezed > 5


LIMITED = """
import resource, sys
import numpy as np, psutil, torch
from models.grid_steps import Grid, Tiling
from models.inference.structures import structures_on_grid
from models.inference.wanted import Wanted
from models.memory import TooLarge
from models.volume import Volume

heads = 12
torch.set_num_threads(1)
network = torch.nn.Conv3d(1, heads, 1)
network(torch.zeros(1, 1, 32, 32, 32))
volume = Volume(np.random.default_rng(0).normal(size=(120, 160, 160)).astype(np.float32))
data = psutil.Process().memory_info().data
limit = data + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
tiling = Tiling(window=(32, 32, 32), overlap=0.25, blend="gaussian", activation="softmax", lesion_heads=(1,))
wanted = Wanted(heads, "softmax", tuple((head,) for head in range(1, heads)))
try:
    found = structures_on_grid(
        volume, Grid(steps=(), tiling=tiling), network, wanted, batch=4, device=torch.device("cpu"),
        bytes_per_window_voxel=4 * heads,
    )
    with torch.inference_mode():
        planes = [network(torch.tensor(plane)[None, None, None])[0, :, 0].argmax(0) for plane in volume.array]
    equal = np.mean([(a == b.numpy()).mean() for a, b in zip(found.labels, planes)])
    print("found", equal > 0.9999)
except TooLarge as error:
    print("too large", error.need > error.have)
"""


@pytest.mark.parametrize(("mib", "answer"), [(260, "found True"), (40, "too large True")])
def test_a_process_with_a_limit_ends_with_a_result_or_a_refusal_and_never_without_memory(mib, answer):
    """Whole logits would take 147 MB, their count map and sums beside them."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(mib)], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.strip() == answer, run.stderr
