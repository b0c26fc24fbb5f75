"""What must hold before a compressed package is written: enough gain, and nothing lost on the same cases."""

import pytest

from models.compression.verdict import Gain, new_mistakes, newly_drawn, objections
from models.evaluation.bootstrap import PairedDifference
from models.evaluation.case_result import CaseResult
from models.evaluation.compare import PairedRow

FASTER = Gain(100, 90, (3.0, 3.0, 3.0), (1.5, 1.6, 1.4))
SMALLER = Gain(100, 50, (3.0, 3.0, 3.0), (3.0, 3.0, 3.0))
NEITHER = Gain(100, 60, (3.0, 3.0, 3.0), (2.5, 2.4, 2.6))


def row(metric, low, high):
    return PairedRow(
        metric, 0.8, 0.8, PairedDifference((low + high) / 2, (low, high), 0.5), 50, "cases", True
    )


GOOD = (row("dice", -0.002, 0.001), row("class_auc", -0.004, 0.001))


def result(*, truth=False, drawn=False, said="benign"):
    voxels = 400 if truth else 0
    return CaseResult(
        name="case",
        group="case",
        dice=0.9 if truth else None,
        is_drawn=drawn,
        false_voxels=0,
        truth_voxels=voxels,
        slices_with_truth=int(truth),
        slices_drawn=int(drawn),
        true_class="benign",
        found_class=said,
        class_scores=None,
    )


@pytest.mark.parametrize("gain", [FASTER, SMALLER], ids=["faster", "smaller"])
def test_enough_gain_and_no_loss_may_be_shipped(gain):
    assert objections(gain, GOOD, (), set()) == ()


@pytest.mark.parametrize(
    ("gain", "rows", "words"),
    [
        (NEITHER, GOOD, "neither"),
        (SMALLER, (row("dice", -0.006, 0.004), GOOD[1]), "dice may be"),
        (SMALLER, (GOOD[0], row("class_auc", -0.006, 0.004)), "class_auc may be"),
        (SMALLER, (GOOD[1],), "no case with anything"),
    ],
    ids=["gain", "dice", "auc", "nothing shown"],
)
def test_each_loss_is_an_objection_by_name(gain, rows, words):
    (found,) = objections(gain, rows, (), set())
    assert words in found


def test_a_lesion_drawn_where_the_original_left_an_image_alone_is_an_objection():
    before, after = (
        [result(), result(drawn=True), result(truth=True)],
        [result(drawn=True)] * 2 + [result(truth=True, drawn=True)],
    )
    assert newly_drawn(before, before) == ()
    assert newly_drawn(before, after) == ("case",)
    (found,) = objections(SMALLER, GOOD, newly_drawn(before, after), set())
    assert "draws on 1 cases" in found


def test_a_mistake_of_a_new_kind_is_an_objection_and_one_more_of_an_old_kind_is_not():
    before = [result(said="malignant"), result(), result()]
    more = [result(said="malignant"), result(said="malignant"), result()]
    new = [result(said="malignant"), result(said="normal"), result()]
    assert new_mistakes(before, more) == set()
    (found,) = objections(SMALLER, GOOD, (), new_mistakes(before, new))
    assert "benign for normal" in found


def test_speed_is_the_median_of_rounds_measured_alternately():
    gain = Gain(100, 100, (3.0, 9.0, 3.0), (2.0, 6.0, 1.0))
    assert gain.speed == pytest.approx(1.5)
