"""Streamed back to the source is whole and resampled by scipy: to 1e-5, over any order of steps."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_logits import undone, whole_map

from models.grid import Cropped, Gridded, Resampled, Turned
from models.inference.slab import Piece
from models.inference.structures import returned
from models.inference.wanted import Wanted
from models.inference.way_back import linear_taps, way_back


def pieces_of(logits: np.ndarray, slices: int):
    for first in range(0, logits.shape[1], slices):
        yield Piece(first, torch.from_numpy(np.ascontiguousarray(logits[:, first : first + slices])))


@st.composite
def histories(draw):
    """A source shape, what was done to it in order, and the shape of the grid."""
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
            done.append(Resampled(shape, draw(st.sampled_from([None, 0, 1, 2])), after))
            shape = after
    return source, tuple(done), shape


@given(histories(), st.sampled_from(["softmax", "sigmoid", "none"]), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_streamed_back_equals_whole_and_resampled_by_scipy(history, activation, given_slices, slices):
    source, done, shape = history
    generator = np.random.default_rng(sum(source) + 31 * sum(shape))
    logits = generator.normal(0, 3, (4, *shape)).astype(np.float32)
    if activation == "none":
        logits = np.abs(logits) / 40
    wanted = Wanted(4, activation, ((1, 3), (2,)), maps=(1, 2))
    back = way_back(done, shape)
    found = returned(pieces_of(logits, given_slices), back, wanted, source, slices=slices)
    gridded = Gridded(np.zeros(shape, np.float32), done)
    for label in (1, 2):
        expected = whole_map(gridded, logits, wanted, label)
        np.testing.assert_allclose(found.probabilities[label], expected, atol=1e-5)


@given(histories(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_labels_do_not_depend_on_how_the_stream_is_cut(history, slices):
    source, done, shape = history
    logits = np.random.default_rng(sum(shape)).normal(0, 3, (3, *shape)).astype(np.float32)
    wanted = Wanted(3, "softmax", ((1,), (2,)))
    back = way_back(done, shape)
    whole = returned(pieces_of(logits, 99), back, wanted, source, slices=99)
    cut = returned(pieces_of(logits, slices), back, wanted, source, slices=slices)
    np.testing.assert_array_equal(cut.labels, whole.labels)
    assert cut.labels.dtype == np.uint8


@given(st.integers(1, 700), st.integers(1, 700))
@settings(deadline=None)
def test_taps_are_ascending_inside_and_hold_a_straight_line(old, new):
    taps = linear_taps(old, new)
    if taps is None:
        assert old == new
        return
    for one in (taps, taps.reversed()):
        assert one.lower.min() >= 0
        assert one.upper.max() <= old - 1
        assert (np.diff(one.lower) >= 0).all()
        assert (np.diff(one.upper) >= 0).all()
        line = np.arange(old, dtype=np.float64)
        found = (1 - one.weight) * line[one.lower] + one.weight * line[one.upper]
        places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        np.testing.assert_allclose(found, places if one is taps else old - 1 - places[::-1], atol=1e-3)


def test_a_step_undone_twice_is_no_step():
    """The oracle itself: a turn and its inverse."""
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turn = Turned((2, 0, 1), (0, 2))
    np.testing.assert_array_equal(undone(turn.apply(array), turn), array)
