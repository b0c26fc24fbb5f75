"""A detector on windows finds what it finds in the whole, and its boxes lie on the source."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.grid import Cropped, Resampled, Turned
from models.grid_steps import Grid, Tiling
from models.inference.boxes_back import boxes_to_source
from models.inference.boxes_on_grid import boxes_on_grid, strongest
from models.inference.cells import InCells, as_maps, packed, unpacked
from models.inference.slab import Piece
from models.memory import TooLarge
from models.networks.building import build_own_network
from models.networks.centernet import CenterMaps, decode
from models.networks.own_specs import CenterNetSpec
from models.volume import Volume

CPU = torch.device("cpu")
PLENTY = 1 << 40


def spec_of(**changes) -> CenterNetSpec:
    given = {
        "registry": "centernet@1",
        "dimensions": 3,
        "in_channels": 1,
        "features": (4, 6, 8),
        "blocks": 1,
        "norm": "group",
        "classes": 1,
        "head_features": 8,
        "candidates_max": 40,
    }
    return CenterNetSpec(**(given | changes))


def grid_of(*window: int, overlap: float = 0.5, steps=()) -> Grid:
    tiling = Tiling(window=window, overlap=overlap, blend="gaussian", activation="sigmoid")
    return Grid(steps=steps, tiling=tiling)


def volume_of(image: np.ndarray) -> Volume:
    return Volume(image.astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0]), (1.0, 1.0), 1.0)


def found_in(image, grid, network, spec, *, batch=2, free=lambda _: PLENTY):
    return boxes_on_grid(
        volume_of(image), grid, network, spec, batch=batch, device=CPU, bytes_per_window_voxel=2000, free=free
    )


class BrightCells(torch.nn.Module):
    """A detector one can look through: heat and size are the mean of a cell, which nothing beyond changes."""

    def __init__(self, stride=(2, 2, 2)) -> None:
        super().__init__()
        self.stride, self.windows = stride, 0

    def forward(self, x):
        self.windows += len(x)
        mean = torch.nn.functional.avg_pool3d(x, self.stride)
        return CenterMaps(mean - 4, torch.sigmoid(mean).repeat(1, 3, 1, 1, 1), mean.repeat(1, 3, 1, 1, 1) / 4)


def hills(shape, seed: int, count: int = 4) -> np.ndarray:
    """Smooth bumps of different height."""
    generator = np.random.default_rng(seed)
    image = generator.normal(0, 0.05, shape)
    places = np.indices(shape)
    for _ in range(count):
        middle = np.reshape([generator.uniform(2, size - 2) for size in shape], (3, 1, 1, 1))
        away = ((places - middle) ** 2).sum(0)
        image += generator.uniform(4, 8) * np.exp(-away / (2 * generator.uniform(1.5, 3) ** 2))
    return image.astype(np.float32)


@pytest.mark.parametrize("flat_stages", [0, 1])
def test_in_a_volume_of_one_window_the_boxes_are_those_of_the_whole(flat_stages):
    spec = spec_of(flat_stages=flat_stages)
    torch.manual_seed(4)
    network = build_own_network(spec).eval()
    image = hills((16, 24, 16), 3)
    (whole,) = network.detect(torch.from_numpy(image)[None, None])
    boxes, scores = found_in(image, grid_of(16, 24, 16), network, spec)
    centres = (whole.boxes[:, :3] + whole.boxes[:, 3:]) / 2
    inside = ((centres >= 0) & (centres < torch.tensor(image.shape))).all(1)
    assert inside.sum() > 5
    np.testing.assert_allclose(boxes, whole.boxes[inside], atol=1e-3)
    np.testing.assert_allclose(scores, whole.scores[inside], atol=1e-5)


@given(
    st.integers(0, 1000),
    st.tuples(*[st.integers(9, 21)] * 3),
    st.sampled_from([(2, 2, 2), (1, 2, 2)]),
    st.integers(1, 3),
)
@settings(max_examples=10, deadline=None)
def test_windows_find_what_the_whole_has_for_a_network_without_context(seed, shape, stride, batch):
    spec = spec_of(flat_stages=int(stride[0] == 1))
    assert spec.output_stride == stride
    image, network = hills(shape, seed), BrightCells(stride)
    padded = np.pad(image, [(0, -size % step) for size, step in zip(shape, stride, strict=True)])
    (whole,) = decode(network(torch.from_numpy(padded)[None, None]), stride=stride, count=40, iou=0.3)
    centres = (whole.boxes[:, :3] + whole.boxes[:, 3:]) / 2
    inside = (centres < torch.tensor(shape)).all(1)
    network.windows = 0
    boxes, scores = found_in(image, grid_of(8, 8, 8), network, spec, batch=batch)
    assert network.windows > 1
    np.testing.assert_allclose(boxes, whole.boxes[inside], atol=1e-3)
    np.testing.assert_allclose(scores, whole.scores[inside], atol=1e-5)


@given(st.integers(0, 1000), st.integers(1, 9), st.data())
@settings(max_examples=40, deadline=None)
def test_peaks_of_a_stream_are_those_of_the_whole_map(seed, slices, data):
    spec = spec_of()
    generator = torch.Generator().manual_seed(seed)
    heads = torch.randn(spec.heads, slices, 5, 6, generator=generator)
    cuts = sorted(data.draw(st.sets(st.integers(1, slices), max_size=4)) | {0, slices})
    pieces = (Piece(a, heads[:, a:b]) for a, b in pairwise(cuts))
    (whole,) = decode(as_maps(heads[None], 1), stride=(2, 2, 2), count=40, iou=0.3)
    found = strongest(pieces, spec, slices=slices)
    torch.testing.assert_close(found.boxes, whole.boxes)
    torch.testing.assert_close(found.scores, whole.scores)


def test_what_two_windows_see_is_found_once():
    image = np.zeros((8, 8, 24), np.float32)
    image[2:6, 2:6, 10:14] = 8.0  # in both of two windows of 16
    image[3, 3, 11] = 9.0  # the highest cell
    boxes, scores = found_in(image, grid_of(8, 8, 16), BrightCells(), spec_of())
    (sure,) = np.flatnonzero(scores > 0.9)
    assert (boxes[sure, :3] < (4, 4, 12)).all()
    assert (boxes[sure, 3:] > (3, 3, 11)).all()


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 3)] * 3))
@settings(max_examples=40, deadline=None)
def test_packing_into_cells_keeps_every_voxel_in_its_place(shape, stride):
    image = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    cells = packed(image, stride)
    back = unpacked(torch.from_numpy(np.ascontiguousarray(cells))[None], stride)[0, 0].numpy()
    inside = tuple(slice(0, size) for size in shape)
    assert np.array_equal(back[inside], image)
    back[inside] = 0
    assert not back.any()


def test_maps_in_cells_are_those_of_the_network():
    image = torch.randn(2, 1, 4, 6, 8)
    cells = torch.from_numpy(np.stack([packed(one.numpy(), (2, 2, 2)) for one in image[:, 0]]))
    found = as_maps(InCells(BrightCells(), (2, 2, 2))(cells), 1)
    for mine, expected in zip(found, BrightCells()(image), strict=True):
        torch.testing.assert_close(mine, expected)


def test_a_volume_that_does_not_fit_is_refused_before_anything_runs():
    network = BrightCells()
    with pytest.raises(TooLarge):
        found_in(hills((20, 20, 20), 1), grid_of(8, 8, 8), network, spec_of(), free=lambda _: 1_000_000)
    assert network.windows == 0


def test_less_memory_takes_smaller_batches_and_finds_the_same():
    image = hills((20, 20, 20), 1)
    batches: list[int] = []

    class Counting(BrightCells):
        def forward(self, x):
            batches.append(len(x))
            return super().forward(x)

    plenty = found_in(image, grid_of(8, 8, 8), Counting(), spec_of(), batch=4)
    assert max(batches) == 4
    batches.clear()
    few = found_in(image, grid_of(8, 8, 8), Counting(), spec_of(), batch=4, free=lambda _: 3_000_000)
    assert max(batches) < 4
    np.testing.assert_allclose(few[0], plenty[0], atol=1e-4)


@st.composite
def histories(draw):
    shape = tuple(draw(st.tuples(*[st.integers(2, 11)] * 3)))
    source, done = shape, []
    for kind in draw(st.lists(st.sampled_from(["turn", "crop", "resample"]), max_size=5)):
        if kind == "turn":
            axes = tuple(draw(st.permutations([0, 1, 2])))
            done.append(Turned(axes, tuple(sorted(draw(st.sets(st.sampled_from([0, 1, 2])))))))
            shape = tuple(shape[axis] for axis in axes)
        elif kind == "crop":
            box = []
            for size in shape:
                first = draw(st.integers(0, size - 1))
                box.append(slice(first, draw(st.integers(first + 1, size))))
            done.append(Cropped(tuple(box), shape))
            shape = tuple(part.stop - part.start for part in box)
        else:
            after = tuple(draw(st.tuples(*[st.integers(1, 13)] * 3)))
            done.append(Resampled(shape, None, after))
            shape = after
    return source, tuple(done), shape


@given(histories(), st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_a_box_comes_back_to_where_it_was_in_the_source(history, seed):
    source, done, shape = history
    generator = np.random.default_rng(seed)
    box = np.sort(generator.uniform(0, 1, (2, 3)), 0) * source
    (low, high), sizes = box, np.array(source, float)
    for one in done:
        if isinstance(one, Turned):
            low, high, sizes = low[list(one.axes)], high[list(one.axes)], sizes[list(one.axes)]
            for axis in one.reversed_axes:
                low[axis], high[axis] = sizes[axis] - high[axis], sizes[axis] - low[axis]
        elif isinstance(one, Cropped):
            start = np.array([part.start for part in one.box])
            low, high = low - start, high - start
            sizes = np.array([part.stop - part.start for part in one.box], float)
        else:
            after = np.array(one.after, float)
            low, high, sizes = low * after / sizes, high * after / sizes, after
    back = boxes_to_source(np.concatenate([low, high])[None], done, shape)
    np.testing.assert_allclose(back[0], box.ravel(), atol=1e-9)


def test_a_box_around_voxels_turns_as_the_array_does():
    source = np.zeros((5, 6, 7))
    source[1:3, 2:6, 0:4] = 1
    turn = Turned((2, 0, 1), (0, 2))
    covered = np.argwhere(turn.apply(source))
    box = np.concatenate([covered.min(0), covered.max(0) + 1]).astype(float)
    assert boxes_to_source(box[None], [turn], (7, 5, 6))[0].tolist() == [1, 2, 0, 3, 6, 4]
