import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.evaluation.lesions import Hit, diameters, match_lesions, numbered

MASKS = arrays(bool, (1, 5, 7))


def boxes(*edges: tuple[int, int, int, int], size: int = 24) -> np.ndarray:
    """(1, size, size) with box 1 .. n: first row, row after the last, first column, column after the last."""
    labels = np.zeros((1, size, size), int)
    for number, (top, bottom, left, right) in enumerate(edges):
        labels[0, top:bottom, left:right] = number + 1
    return labels


TRUTH = boxes((2, 8, 2, 8), (14, 20, 14, 20))


def test_a_centre_inside_is_a_hit_however_small() -> None:
    matching = match_lesions(boxes((4, 5, 4, 5)), TRUTH, [0.5])
    assert matching.hits == (Hit(1, 1, 1 / 36),)
    assert matching.missed == (2,)
    assert match_lesions(boxes((4, 5, 4, 5)), TRUTH, [0.5], by_centre=False).false == (1,)


@pytest.mark.parametrize(("shift", "is_hit"), [(4, True), (5, False)])
def test_without_the_centre_the_overlap_decides(shift: int, is_hit: bool) -> None:
    # Two 6 x 6 boxes shifted by 4 columns share 12 of 60 pixels, 0.2; by 5 columns 6 of 66, below 0.1.
    matching = match_lesions(boxes((2, 8, 2 + shift, 8 + shift)), boxes((2, 8, 2, 8)), [0.9])
    assert bool(matching.hits) is is_hit
    assert bool(matching.false) is bool(matching.missed) is not is_hit


def test_a_second_hit_on_one_lesion_is_false_and_the_surer_one_counts() -> None:
    found = boxes((2, 8, 2, 5), (2, 8, 5, 8))
    matching = match_lesions(found, TRUTH, [0.3, 0.8])
    assert [hit.found for hit in matching.hits] == [2]
    assert matching.false == (1,)


def test_one_outline_over_two_lesions_finds_one_of_them() -> None:
    matching = match_lesions(boxes((2, 20, 2, 20)), TRUTH, [0.9])
    assert len(matching.hits) == 1
    assert len(matching.missed) == 1


def test_an_outline_over_a_small_and_a_large_lesion_finds_the_one_it_fits_best() -> None:
    truth = boxes((2, 5, 2, 5), (2, 8, 6, 12))
    matching = match_lesions(boxes((2, 8, 2, 12)), truth, [0.9], iou_min=0.05)
    assert [hit.truth for hit in matching.hits] == [2]


def test_ignored_regions_are_neutral_on_both_sides() -> None:
    ignored = np.zeros((1, 24, 24), bool)
    ignored[0, 12:, 12:] = True
    matching = match_lesions(boxes((15, 19, 15, 19), (2, 4, 20, 22)), TRUTH, [0.9, 0.8], ignored=ignored)
    assert matching.neutral_truth == (2,)
    assert matching.neutral_found == (1,)
    assert matching.false == (2,)
    assert matching.missed == (1,)


def test_half_in_an_ignored_region_is_neutral_though_the_centre_is_not() -> None:
    found, ignored = boxes((2, 8, 2, 8)), np.zeros((1, 24, 24), bool)
    ignored[0, :, :5] = True
    assert match_lesions(found, np.zeros_like(found), [0.9], ignored=ignored).neutral_found == (1,)
    ignored[0, :, 4] = False
    assert match_lesions(found, np.zeros_like(found), [0.9], ignored=ignored).false == (1,)


def test_nothing_drawn_misses_all_and_nothing_there_makes_all_false() -> None:
    nothing = np.zeros_like(TRUTH)
    assert match_lesions(nothing, TRUTH, []).missed == (1, 2)
    assert match_lesions(TRUTH, nothing, [0.1, 0.2]).false == (2, 1)
    with pytest.raises(ValueError, match="have a score"):
        match_lesions(TRUTH, nothing, [0.1])


def test_diameters_are_those_of_the_ball_and_the_disc_with_as_many_voxels() -> None:
    ball = (np.sqrt(((np.indices((41, 41, 41)) - 20) ** 2).sum(0)) <= 15).astype(int)
    assert diameters(ball, 1.0) == pytest.approx([30], rel=0.02)
    assert diameters(ball, 8.0) == pytest.approx([60], rel=0.02)
    assert diameters(ball[20:21], 1.0) == pytest.approx([30], rel=0.02)


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS, MASKS, st.randoms(use_true_random=False))
def test_every_lesion_stands_in_exactly_one_place_and_numbers_do_not_matter(a, b, ignored, random) -> None:
    found, truth = numbered(a), numbered(b)
    count, truths = int(found.max()), int(truth.max())
    scores = random.sample(range(count), count)
    matching = match_lesions(found, truth, scores, ignored=ignored)
    drawn = [*(hit.found for hit in matching.hits), *matching.false, *matching.neutral_found]
    true = [*(hit.truth for hit in matching.hits), *matching.missed, *matching.neutral_truth]
    assert sorted(drawn) == list(range(1, count + 1))
    assert sorted(true) == list(range(1, truths + 1))
    order = [0, *random.sample(range(1, count + 1), count)]
    moved_scores = [scores[order.index(number) - 1] for number in range(1, count + 1)]
    moved = match_lesions(np.array(order)[found], truth, moved_scores, ignored=ignored)
    assert {(order[hit.found], hit.truth) for hit in matching.hits} == {
        (hit.found, hit.truth) for hit in moved.hits
    }


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.randoms(use_true_random=False))
def test_leaving_out_the_least_sure_changes_nothing_for_the_others(a, b, random) -> None:
    found, truth = numbered(a), numbered(b)
    count = int(found.max())
    scores = random.sample(range(count), count)
    if count < 2:
        return
    last = scores.index(0) + 1
    everything = match_lesions(found, truth, scores)
    fewer = np.where(found == last, 0, np.where(found > last, found - 1, found))
    rest = match_lesions(fewer, truth, [score for score in scores if score > 0])
    before = {(hit.found - (hit.found > last), hit.truth) for hit in everything.hits if hit.found != last}
    assert {(hit.found, hit.truth) for hit in rest.hits} == before
