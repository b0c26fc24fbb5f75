"""Windows over a grid give what the whole would give, and their weights sum up without a map of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from whole_logits import streamed, whole_logits

from models.grid_steps import Tiling
from models.inference.slab import Background, Slab
from models.inference.windows import (
    Normaliser,
    WindowGrid,
    at_least,
    blend_weight,
    tissue_box,
    window_starts,
)

BLENDS = ["gaussian", "gaussian_nnunet", "constant"]


def tiling(
    *window: int, overlap: float = 0.5, blend: str = "gaussian", mirror: tuple[int, ...] = ()
) -> Tiling:
    return Tiling(
        window=window, overlap=overlap, blend=blend, mirror=mirror, activation="sigmoid", lesion_heads=(0,)
    )


@given(st.integers(8, 40), st.integers(0, 60), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
@settings(deadline=None)
def test_windows_cover_everything_and_overlap_at_least_as_asked(window, more, overlap):
    starts = window_starts(window + more, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == more
    gaps = np.diff(starts)
    assert not len(gaps) or (gaps.min() > 0 and gaps.max() <= np.ceil(window * (1 - overlap)))


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(0, 13)] * 3),
    st.sampled_from([0.0, 0.3, 0.5, 0.75]),
    st.sampled_from(BLENDS),
)
@settings(max_examples=60, deadline=None)
def test_the_sum_of_the_weights_is_that_of_a_count_map(window, more, overlap, blend):
    sizes = tuple(a + b for a, b in zip(window, more, strict=True))
    grid = WindowGrid.over(sizes, window, overlap)
    count = torch.zeros(sizes)
    for box in grid.boxes(grid.starts[0]):
        count[box] += blend_weight(window, blend)
    found = Normaliser(grid, blend, torch.device("cpu"))
    middle = sizes[0] // 2
    parts = [found.of(0, middle), found.of(middle, sizes[0])]
    torch.testing.assert_close(torch.cat(parts), count, rtol=1e-5, atol=1e-12)


def test_tiling_a_network_that_sees_single_voxels_changes_nothing():
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 1)
    image = np.random.default_rng(3).normal(size=(1, 21, 8, 30)).astype(np.float32)
    with torch.inference_mode():
        whole = network(torch.from_numpy(image)[None])[0].numpy()
    for blend in BLENDS:
        tiles = streamed(network, image, tiling(8, 16, 12, blend=blend, mirror=(0, 2)), heads=3)
        np.testing.assert_allclose(tiles, whole, atol=1e-5)


@given(
    st.tuples(st.integers(3, 40), st.integers(5, 24), st.integers(5, 24)),
    st.sampled_from([(8, 8, 8), (8, 12, 10), (16, 8, 9), (8, 9), (12, 8)]),
    st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    st.sampled_from(BLENDS),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_the_stream_equals_whole_logits_with_a_count_map(
    sizes, window, overlap, blend, batch, layers, slices
):
    torch.manual_seed(1)
    network = (torch.nn.Conv3d if len(window) == 3 else torch.nn.Conv2d)(1, 2, 5, padding=2)
    image = np.random.default_rng(sum(sizes)).normal(size=(1, *sizes)).astype(np.float32)
    how = tiling(*window, overlap=overlap, blend=blend, mirror=(1,))
    slab = Slab(batch=batch, layers=layers, slices=slices)
    found = streamed(network, image, how, heads=2, slab=slab)
    if len(window) == 3:
        expected = whole_logits(network, image, how, heads=2)
    else:
        planes = [whole_logits(network, plane[None], how, heads=2) for plane in image[0]]
        expected = np.stack(planes, axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_the_windows_agree_with_monais_sliding_window(blend):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 7, padding=3)
    image = np.random.default_rng(3).normal(size=(1, 24, 40)).astype(np.float32)
    ours = streamed(network, image, tiling(16, 16, blend=blend), heads=2)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None], (16, 16), 4, network, overlap=0.5, mode=blend
        )
    np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-5)


def test_a_small_image_is_padded_and_the_padding_leaves_again():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    image = np.random.default_rng(3).normal(size=(1, 5, 9)).astype(np.float32)
    found = streamed(network, image, tiling(16, 16), heads=1)
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(torch.from_numpy(image)[None])[0].numpy(), atol=1e-5)


def test_a_network_of_other_heads_is_said():
    with pytest.raises(ValueError, match="expected 3 heads"):
        streamed(torch.nn.Conv2d(1, 2, 1), np.zeros((1, 16, 16), np.float32), tiling(8, 8), heads=3)


def test_the_middle_of_a_window_weighs_most():
    weight = blend_weight((9, 17), "gaussian")
    assert weight[4, 8] == weight.max() == 1
    assert weight.min() == pytest.approx(1e-3)


def balls_in_air() -> np.ndarray:
    """Air of 0 with a little noise below 0.2, two balls of about 1 with texture, far from each other."""
    generator = np.random.default_rng(4)
    image = generator.uniform(0, 0.2, (24, 40, 44))
    for centre in ((7, 8, 9), (15, 30, 33)):
        places = np.indices(image.shape) - np.reshape(centre, (3, 1, 1, 1))
        inside = (places**2).sum(0) <= 25
        image[inside] = generator.normal(1.0, 0.1, int(inside.sum())).clip(0.6)
    return image.astype(np.float32)[None]


class Counting(torch.nn.Module):
    """A network that counts its windows."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.inner = torch.nn.Conv3d(1, heads, 5, padding=2)
        self.windows = 0

    def forward(self, x):
        self.windows += len(x)
        return self.inner(x)


def test_skipping_runs_fewer_windows_and_says_the_same_of_tissue():
    """In tissue it is what windows over the box of tissue say, but for rounding; the rest is background."""
    image, network = balls_in_air(), Counting(2)
    background = Background(above=0.4, margin=1, logits=torch.tensor([10.0, -10.0]))
    how = tiling(8, 8, 8)
    skipped = streamed(network, image, how, heads=2, background=background)
    few = network.windows
    box = tissue_box(image[0], 0.4, 1)
    boxed = image[0][box]
    plain = whole_logits(network, boxed[None], how, heads=2)
    full = network.windows - few
    network.windows = 0
    streamed(network, image, how, heads=2)
    assert few < full / 2 < full < network.windows
    tissue = boxed > 0.4
    np.testing.assert_allclose(skipped[:, *box][:, tissue], plain[:, tissue], atol=3e-5)
    outside = np.ones(image.shape[1:], bool)
    outside[box] = False
    np.testing.assert_array_equal(skipped[:, outside], np.broadcast_to([[10.0], [-10.0]], (2, outside.sum())))


def test_an_image_without_tissue_is_background_and_nothing_is_run():
    network = Counting(2)
    background = Background(above=5.0, margin=4, logits=torch.tensor([3.0, -1.0]))
    found = streamed(network, balls_in_air(), tiling(8, 8, 8), heads=2, background=background)
    assert network.windows == 0
    assert found.shape == (2, 24, 40, 44)
    assert np.unique(found[0]) == [3.0]
    assert np.unique(found[1]) == [-1.0]


@given(
    st.tuples(*[st.integers(1, 20)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.data(),
)
def test_a_box_is_widened_to_a_window_inside_of_the_array(sizes, window, data):
    box = []
    for size in sizes:
        first = data.draw(st.integers(0, size - 1))
        box.append(slice(first, data.draw(st.integers(first + 1, size))))
    wide = at_least(tuple(box), window, sizes)
    for part, given_part, size, w in zip(wide, box, sizes, window, strict=True):
        assert 0 <= part.start <= given_part.start < given_part.stop <= part.stop <= size
        extent = given_part.stop - given_part.start
        assert part.stop - part.start == max(extent, min(w, size))


class SmallDevice(torch.nn.Module):
    """A network on a device that has room for so many windows."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.batches = room, []

    def forward(self, x):
        self.batches.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.repeat(1, 2, 1, 1)


def test_out_of_memory_halves_the_batch_once_and_loses_no_window():
    image = np.random.default_rng(1).normal(size=(1, 32, 32)).astype(np.float32)
    network = SmallDevice(room=3)
    found = streamed(network, image, tiling(8, 8), heads=2, slab=Slab(batch=4))
    np.testing.assert_allclose(found, np.concatenate([image, image]), atol=1e-5)
    assert network.batches[:2] == [4, 2]
    assert set(network.batches[1:]) <= {1, 2}
    with pytest.raises(torch.OutOfMemoryError):
        streamed(SmallDevice(room=1), image, tiling(8, 8), heads=2, slab=Slab(batch=4))
