import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.classification import (
    accuracy,
    auc,
    balanced_accuracy,
    confusion,
    macro_f1,
    predictive_values,
    roc,
    sensitivity,
    specificity,
)

PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_tables_and_their_means_are_scikit_learns(pairs) -> None:
    from sklearn import metrics

    found, truth = np.array([f for f, _ in pairs]), np.array([t for _, t in pairs])
    table = confusion(found, truth, 3)
    assert (table == metrics.confusion_matrix(truth, found, labels=[0, 1, 2])).all()
    assert balanced_accuracy(table) == pytest.approx(metrics.balanced_accuracy_score(truth, found))
    assert macro_f1(table) == pytest.approx(metrics.f1_score(truth, found, average="macro"))
    assert np.trace(table) / table.sum() == pytest.approx(accuracy(found, truth))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40))
def test_the_curve_and_its_area_are_scikit_learns(drawn) -> None:
    from sklearn import metrics

    scores, positive = np.array([s for s, _ in drawn], float), np.array([p for _, p in drawn])
    if positive.all() or not positive.any():
        with pytest.raises(ValueError, match="positive and negative"):
            roc(scores, positive)
        return
    curve = roc(scores, positive)
    false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    assert curve.false_positive_rate == pytest.approx(false)
    assert curve.sensitivity == pytest.approx(true)
    assert auc(scores, positive) == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert np.trapezoid(curve.sensitivity, curve.false_positive_rate) == pytest.approx(auc(scores, positive))


def test_shares_found_and_shares_left_alone() -> None:
    positive = np.array([True, True, True, True, False, False])
    called = np.array([True, True, True, False, True, False])
    assert sensitivity(called, positive) == 0.75
    assert specificity(called, positive) == 0.5
    with pytest.raises(ValueError, match="negative"):
        specificity(called, np.ones(6, bool))


def test_a_rare_disease_makes_most_alarms_false() -> None:
    ppv, npv = predictive_values(0.9, 0.9, 0.01)
    assert ppv == pytest.approx(1 / 12)
    assert npv == pytest.approx(0.891 / 0.892)
    assert predictive_values(0.9, 0.9, 0.5) == pytest.approx((0.9, 0.9))
    assert predictive_values(0.0, 1.0, 0.3) == (None, 0.7)
