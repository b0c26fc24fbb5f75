import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.average_precision import average_precision
from models.evaluation.froc import (
    CPM_RATES,
    Candidates,
    cpm,
    froc,
    sensitivity_at,
    sensitivity_by_diameter,
)

DRAWN = st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30)


def candidates(drawn, extra: int = 1) -> Candidates:
    study = np.array([which for _, _, which in drawn], int)
    hit = np.array([flag for _, flag, _ in drawn], bool)
    return Candidates(
        np.array([score / 10 for score, _, _ in drawn]),
        hit,
        study,
        np.bincount(study[hit], minlength=4) + extra,
    )


def test_a_curve_by_hand() -> None:
    # Two studies, four lesions: 0.9 hit, 0.8 false, 0.7 hit, 0.6 false.
    curve = froc(
        Candidates(
            np.array([0.6, 0.9, 0.7, 0.8]),
            np.array([False, True, True, False]),
            np.array([0, 0, 1, 1]),
            np.array([2, 2]),
        )
    )
    assert list(curve.sensitivity) == [0, 0.25, 0.25, 0.5, 0.5]
    assert list(curve.false_per_study) == [0, 0, 0.5, 0.5, 1]
    assert sensitivity_at(curve, [0.25, 0.5, 8]) == pytest.approx([0.25, 0.5, 0.5])


def test_of_equal_scores_none_comes_first() -> None:
    drawn = [(9, True, 0), (9, False, 1), (9, True, 2)]
    curve = froc(candidates(drawn))
    assert len(curve.sensitivity) == 2
    assert cpm(curve) == pytest.approx(cpm(froc(candidates(drawn[::-1]))))


def test_one_more_false_lesion_moves_the_curve_by_one_over_the_studies() -> None:
    drawn = [(9, True, 0), (8, False, 1), (7, True, 2)]
    before, after = froc(candidates(drawn)), froc(candidates([*drawn, (5, False, 3)]))
    assert after.false_per_study[-1] - before.false_per_study[-1] == pytest.approx(1 / 4)
    assert after.sensitivity[-1] == before.sensitivity[-1]


@settings(max_examples=60, deadline=None)
@given(DRAWN)
def test_a_curve_rises_and_drawing_every_study_twice_changes_nothing(drawn) -> None:
    one = candidates(drawn)
    curve = froc(one)
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.false_per_study) >= 0).all()
    assert 0 <= cpm(curve) <= curve.sensitivity[-1] <= 1
    assert cpm(froc(one, np.full(4, 2))) == pytest.approx(cpm(curve))


def test_a_study_drawn_thrice_counts_as_three_studies() -> None:
    one = candidates([(9, True, 0), (8, False, 1), (7, True, 2), (6, False, 2)])
    keep, times = [0, 1, 2, 2, 2], np.array([1, 1, 3, 0])
    index = [k for study in keep for k in np.flatnonzero(one.study == study)]
    numbered = [place for place, study in enumerate(keep) for _ in np.flatnonzero(one.study == study)]
    copied = Candidates(one.scores[index], one.is_hit[index], np.array(numbered), one.lesions[keep])
    assert cpm(froc(copied)) == pytest.approx(cpm(froc(one, times)))


def test_the_curve_and_its_mean_are_those_of_monai() -> None:
    from monai.metrics import compute_froc_curve_data, compute_froc_score

    generator = np.random.default_rng(4)
    drawn = [(score, bool(generator.random() < 0.6), int(generator.integers(4))) for score in range(1, 40)]
    one = candidates(drawn, extra=3)
    false, sensitivity = compute_froc_curve_data(
        one.scores[~one.is_hit], one.scores[one.is_hit], int(one.lesions.sum()), 4
    )
    assert cpm(froc(one)) == pytest.approx(compute_froc_score(false, sensitivity, CPM_RATES))


def test_no_lesion_no_sensitivity() -> None:
    with pytest.raises(ValueError, match="lesions"):
        froc(Candidates(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.zeros(3, int)))
    with pytest.raises(ValueError, match="lesions"):
        average_precision(np.zeros(1), np.zeros(1, bool), 0)
    empty = froc(Candidates(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.ones(3, int)))
    assert cpm(empty) == average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0


def test_bands_of_diameter_hold_each_lesion_once() -> None:
    bands = sensitivity_by_diameter(
        np.array([4.0, 5.0, 9.9, 10.0, 80.0]), np.array([False, True, True, True, True]), (0, 5, 10)
    )
    assert [(band.low, band.n, band.found) for band in bands] == [(0, 1, 0), (5, 2, 2), (10, 2, 2)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40), st.integers(0, 5))
def test_average_precision_is_scikit_learns_times_the_recall_reached(drawn, missed) -> None:
    from sklearn.metrics import average_precision_score

    scores, hit = np.array([s for s, _ in drawn], float), np.array([h for _, h in drawn])
    if not hit.any():
        return
    lesions = int(hit.sum()) + missed
    theirs = average_precision_score(hit, scores) * hit.sum() / lesions
    assert average_precision(scores, hit, lesions) == pytest.approx(theirs)
