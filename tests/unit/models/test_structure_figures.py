"""Figures of structures against closed forms."""

import numpy as np
import pytest

from models.evaluation.case_result import CaseResult
from models.evaluation.evaluate import figures_of_structures
from models.evaluation.figures import FigureMaker
from models.evaluation.structure_metrics import (
    FORMS,
    OF_ALL,
    metric_keys,
    metric_name,
    read_metric,
    structure_words,
)
from models.evaluation.structures import mean_dice, structure_cases, structure_figures
from models.training.card import METRIC_WORDS

NAMES = ("Hippocampus anterior", "Hippocampus posterior")


def boxes(shift: int) -> np.ndarray:
    """Two boxes of 2 x 10 x 10; the second is moved by `shift` along the last axis."""
    labels = np.zeros((2, 10, 40), np.uint16)
    labels[:, :, :10] = 1
    labels[:, :, 20 + shift : 30 + shift] = 2
    return labels


def compared(found: np.ndarray, truth: np.ndarray, voxel_ml: float = 0.001):
    return structure_cases(found, truth, NAMES, voxel_size=voxel_ml, unit="mL")


@pytest.mark.parametrize("shift", [0, 1, 4, 10])
def test_dice_of_a_moved_box_is_its_overlap_and_of_the_other_one_is_one(shift):
    first, second = compared(boxes(shift), boxes(0))
    assert first.dice == 1.0
    assert second.dice == pytest.approx(1 - shift / 10)
    assert (second.found_size, second.truth_size) == (pytest.approx(0.2), pytest.approx(0.2))


def test_swapped_structures_have_no_overlap_though_the_union_is_perfect():
    truth = boxes(0)
    swapped = np.array([0, 2, 1], np.uint16)[truth]
    assert [case.dice for case in compared(swapped, truth)] == [0.0, 0.0]


def test_a_label_that_is_no_structure_is_refused():
    with pytest.raises(ValueError, match="found has labels up to 2, there are 1 structures"):
        structure_cases(boxes(0), boxes(0), NAMES[:1], voxel_size=1.0, unit="voxels")


def figures_of(cases):
    maker = FigureMaker(tuple(f"p{index}" for index in range(len(cases))), "patients")
    return {figure.metric: figure for figure in structure_figures(cases, maker)}


def case_of(found: int, truth: int):
    """Columns of a plane that are the second structure; the first is the same in both."""
    planes = []
    for columns in (found, truth):
        labels = np.zeros((1, 10, 60), np.uint16)
        labels[:, :, :5] = 1
        labels[:, :, 10 : 10 + columns] = 2
        planes.append(labels)
    return compared(planes[0], planes[1], 0.01)


def test_volumes_that_are_all_too_large_by_the_same_have_that_bias_and_nothing_else():
    truths = (10, 20, 30, 15, 25, 35)
    figures = figures_of([case_of(truth + 2, truth) for truth in truths])
    bias = figures["volume_bias_hippocampus_posterior"]
    assert bias.value == pytest.approx(0.2)  # 2 columns of 10 voxels of 0.01 mL
    assert bias.ci95 == (pytest.approx(0.2), pytest.approx(0.2))
    assert (bias.unit, bias.n, bias.of) == ("mL", 6, "patients")
    mean_truth = np.mean(truths) / 10
    assert figures["volume_relative_bias_hippocampus_posterior"].value == pytest.approx(0.2 / mean_truth)
    expected = np.mean([2 * truth / (2 * truth + 2) for truth in truths])
    assert figures["dice_hippocampus_posterior_mean"].value == pytest.approx(expected)
    # ICC(2,1) of y = x + b by its variances: s2 / (s2 + b2 / 2), with raters as the only other part.
    variance = np.var([truth / 10 for truth in truths], ddof=1)
    assert figures["volume_icc_hippocampus_posterior"].value == pytest.approx(variance / (variance + 0.02))


def test_a_structure_that_never_varies_has_a_perfect_dice_and_no_icc():
    figures = figures_of([case_of(truth, truth) for truth in (10, 20, 30, 15, 25)])
    assert figures["dice_hippocampus_anterior_mean"].value == 1.0
    assert "volume_icc_hippocampus_anterior" not in figures
    assert figures["volume_icc_hippocampus_posterior"].value == pytest.approx(1.0)


def test_cases_without_the_structure_count_as_false_alarms_alone():
    cases = [case_of(truth, truth) for truth in (10, 20, 30, 15)] + [case_of(4, 0), case_of(0, 0)]
    figures = figures_of(cases)
    assert figures["dice_hippocampus_posterior_mean"].n == 4
    assert figures["dice_hippocampus_posterior_mean"].value == 1.0
    assert figures["volume_bias_hippocampus_posterior"].value == 0.0
    alarms = figures["false_alarms_hippocampus_posterior"]
    assert (alarms.value, alarms.n) == (0.5, 2)
    assert "false_alarms_hippocampus_anterior" not in figures


def test_dice_over_the_structures_is_that_of_each_case_first():
    cases = [
        (*compared(boxes(4), boxes(0)),),  # 1 and 0.6
        (*compared(boxes(0), np.where(boxes(0) == 1, 0, boxes(0))),),  # without the first: 1 alone
        (*compared(boxes(0), np.zeros_like(boxes(0))),),  # nothing to compare
    ]
    assert [mean_dice(case) for case in cases] == [pytest.approx(0.8), 1.0, None]
    overall = figures_of(cases)[OF_ALL]
    assert (overall.value, overall.n) == (pytest.approx(0.9), 2)


def test_cases_of_other_structures_are_not_put_together():
    others = structure_cases(boxes(0), boxes(0), ("a", "b"), voxel_size=1.0, unit="mL")
    with pytest.raises(ValueError, match="same structures"):
        figures_of([compared(boxes(0), boxes(0)), others])


def test_every_name_of_a_figure_says_which_form_and_structure_it_is_of():
    keys = metric_keys(NAMES)
    for form in FORMS:
        for key in keys:
            assert read_metric(form.metric(key)) == (form, key)
    assert {read_metric(metric) for metric in METRIC_WORDS} == {None}
    assert read_metric(OF_ALL) is None
    assert structure_words("volume_bias_hippocampus_anterior") == (
        "volume of hippocampus anterior, found less true, mean (mL)"
    )
    assert structure_words("auc_malignant") is None


def test_no_two_structures_share_a_name_and_none_takes_that_of_another_figure():
    labels = ("Left lung", "left-lung", "肝", "structures", "Per case", "2", "Spleen")
    keys = metric_keys(labels)
    assert len(set(keys)) == len(labels)
    assert keys[-1] == "spleen"
    assert all(read_metric(form.metric(key)) == (form, key) for form in FORMS for key in keys)
    assert not set(keys) & {str(number) for number in range(1, 8)}


def test_a_label_becomes_part_of_a_metrics_name():
    assert metric_name("Hippocampus, anterior (left)") == "hippocampus_anterior_left"


def test_a_bias_is_declared_in_millilitres_and_in_no_other_unit():
    def declared(unit: str) -> set[str]:
        results = []
        for k in range(5):
            planes = boxes(k), boxes(0)
            structures = structure_cases(*planes, NAMES, voxel_size=1.0, unit=unit)
            results.append(CaseResult(f"c{k}", f"c{k}", 1.0, True, 0, 1, 1, 1, None, None, None, structures))
        return {one.metric for one in figures_of_structures(results, "patients")}

    assert declared("mL") - declared("voxels") == {
        "volume_bias_hippocampus_anterior",
        "volume_bias_hippocampus_posterior",
    }
    assert "volume_relative_bias_hippocampus_posterior" in declared("voxels")
