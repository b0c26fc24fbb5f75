import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.bootstrap import interval
from models.evaluation.case_result import CaseResult
from models.evaluation.classification import accuracy, auc
from models.evaluation.evaluate import figures_of
from models.evaluation.overlap import OutlineCounts, count_outlines, dice, mean_of_known, outline_kind
from models.training.split import axilla_images


def test_dice_of_half_overlapping_boxes():
    a, b = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    a[:, :, :2], b[:, :, 1:3] = True, True
    assert dice(a, b) == 0.5


def test_an_empty_truth_is_no_perfect_and_no_failed_outline():
    nothing, something = np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)
    assert dice(nothing, nothing) is None
    assert dice(something, nothing) is None
    assert dice(nothing, something) == 0.0
    assert mean_of_known([None, 0.5, None]) == 0.5
    with pytest.raises(ValueError, match="no case"):
        mean_of_known([None])


def test_cases_without_truth_are_counted_in_rows_of_their_own():
    nothing, something = np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)
    pairs = [(nothing, nothing), (something, nothing), (nothing, something), (something, something)]
    kinds = [outline_kind(found, truth) for found, truth in pairs]
    assert kinds == ["both_empty", "false_alarm", "compared", "compared"]
    assert count_outlines(kinds, [0, 4, 0, 4]) == OutlineCounts(2, 1, 1, 4)


def test_dice_per_patient_is_not_the_mean_over_slices():
    truth, found = np.zeros((2, 10, 10), bool), np.zeros((2, 10, 10), bool)
    truth[0], truth[1, 0, 0] = True, True
    found[0] = True
    assert dice(found, truth) == pytest.approx(200 / 201)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_ordered_pairs_with_ties_counted_half(pairs):
    scores = np.array([score for score, _ in pairs], float)
    positive = np.array([flag for _, flag in pairs])
    if positive.all() or not positive.any():
        with pytest.raises(ValueError, match="positive and negative"):
            auc(scores, positive)
        return
    ordered = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(ordered))


def test_accuracy_hides_imbalance_and_auc_does_not():
    truth = np.array([0] * 9 + [1])
    assert accuracy(np.zeros(10, int), truth) == 0.9
    assert auc(np.zeros(10), truth == 1) == 0.5


def test_intervals_draw_whole_groups():
    values = np.array([0.0] * 50 + [1.0] * 50)

    def mean(indices):
        return float(values[indices].mean())

    alone = interval(mean, [str(i) for i in range(100)], draws=400)
    grouped = interval(mean, [str(i // 25) for i in range(100)], draws=400)
    assert 0.39 <= alone[0] < 0.5 < alone[1] <= 0.61
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=30)
    runs = [
        interval(lambda i: float(values[i].mean()), [str(k) for k in range(30)], draws=100) for _ in range(2)
    ]
    assert runs[0] == runs[1]


def case_result(name: str, *, dice_found: float | None, true_class: str, found_class: str) -> CaseResult:
    scores = {"benign": 0.1, "malignant": 0.9 if true_class == "malignant" else 0.1, "normal": 0.1}
    return CaseResult(
        name=name,
        group=name,
        dice=dice_found,
        is_drawn=bool(dice_found),
        false_voxels=0,
        truth_voxels=0 if dice_found is None else 9,
        slices_with_truth=1,
        slices_drawn=1,
        true_class=true_class,
        found_class=found_class,
        class_scores=scores,
    )


def test_figures_over_all_folds_leave_no_image_out_and_those_of_the_scored_fold_name_the_axilla():
    hidden = min(axilla_images())
    results = [
        case_result(hidden, dice_found=0.0, true_class="benign", found_class="normal"),
        case_result("benign_001", dice_found=1.0, true_class="benign", found_class="benign"),
        case_result("malignant_001", dice_found=0.5, true_class="malignant", found_class="malignant"),
        case_result("normal_001", dice_found=None, true_class="normal", found_class="normal"),
    ]

    def values(subset):
        return {
            figure.metric: (figure.value, figure.n) for figure in figures_of("breast-us", results, subset)
        }

    scored, pooled = values("scored"), values("out-of-fold")
    assert scored["dice_per_lesion_image_mean"] == pooled["dice_per_lesion_image_mean"] == (0.5, 3)
    assert scored["dice_per_lesion_image_mean_without_axilla"] == (0.75, 2)
    assert "dice_per_lesion_image_mean_without_axilla" not in pooled
    assert pooled["accuracy_three_classes"] == (0.75, 4)
    assert pooled["auc_malignant"] == (1.0, 4)
    assert pooled["normals_drawn_on"] == (0.0, 1)
