from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.calibration import (
    brier,
    error_if_calibrated,
    expected_calibration_error,
    reliability,
)
from models.evaluation.risk_coverage import risk_coverage


def test_an_error_known_beforehand_comes_out() -> None:
    # Always 0.8, right six times of ten in every bin: 0.2 too sure.
    outcome = np.tile([True, True, True, False, False], 60)
    assert expected_calibration_error(np.full(300, 0.8), outcome) == pytest.approx(0.2)
    assert expected_calibration_error(np.full(300, 0.6), outcome) == pytest.approx(0)


def test_bins_hold_as_many_cases_each_and_all_cases() -> None:
    probability = np.random.default_rng(1).random(151) ** 4
    bins = reliability(probability, probability > 0.5)
    assert len(bins) == 15
    assert {one.n for one in bins} == {10, 11}
    assert sum(one.n for one in bins) == 151
    assert all(a.high <= b.low for a, b in pairwise(bins))
    assert sum(one.mean_probability * one.n for one in bins) == pytest.approx(probability.sum())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_error_is_that_of_its_bins_and_a_share(drawn) -> None:
    probability, outcome = np.array([p for p, _ in drawn]), np.array([o for _, o in drawn])
    bins = reliability(probability, outcome)
    from_bins = sum(one.n * abs(one.mean_probability - one.rate) for one in bins) / len(drawn)
    error = expected_calibration_error(probability, outcome)
    assert error == pytest.approx(from_bins)
    assert 0 <= error <= 1


def test_few_cases_look_badly_calibrated_even_when_they_are_not() -> None:
    few, many = np.random.default_rng(2).random(40), np.random.default_rng(2).random(4000)
    small, large = error_if_calibrated(few, draws=200), error_if_calibrated(many, draws=200)
    assert small[0] > 3 * large[0]
    assert small[0] < small[1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40))
def test_half_the_brier_of_two_classes_is_scikit_learns(drawn) -> None:
    from sklearn.metrics import brier_score_loss

    probability, outcome = np.array([p for p, _ in drawn]), np.array([o for _, o in drawn])
    ours = brier(np.column_stack([1 - probability, probability]), outcome.astype(int)) / 2
    assert ours == pytest.approx(brier_score_loss(outcome, probability, labels=[False, True]))


def test_a_model_that_knows_its_errors_is_rid_of_them_first() -> None:
    right = np.array([True] * 8 + [False] * 2)
    knows = risk_coverage(np.arange(10, 0, -1.0), right)
    knows_not = risk_coverage(np.arange(10.0), right)
    assert knows.risk[7] == 0
    assert knows.risk[-1] == knows_not.risk[-1] == pytest.approx(0.2)
    assert knows.area == pytest.approx((1 / 9 + 2 / 10) / 10)
    assert knows_not.area > 4 * knows.area
    assert risk_coverage(np.ones(10), right).area == pytest.approx(0.2)
