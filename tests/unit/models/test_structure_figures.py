"""Figures of structures against closed forms."""

import numpy as np
import pytest

from models.evaluation.figures import FigureMaker
from models.evaluation.structures import metric_name, structure_cases, structure_figures

NAMES = ("Hippocampus anterior", "Hippocampus posterior")


def boxes(shift: int) -> np.ndarray:
    """Two boxes of 2 x 10 x 10; the second is moved by `shift` along the last axis."""
    labels = np.zeros((2, 10, 40), np.uint16)
    labels[:, :, :10] = 1
    labels[:, :, 20 + shift : 30 + shift] = 2
    return labels


@pytest.mark.parametrize("shift", [0, 1, 4, 10])
def test_dice_of_a_moved_box_is_its_overlap_and_of_the_other_one_is_one(shift):
    first, second = structure_cases(boxes(shift), boxes(0), 2, voxel_ml=0.001)
    assert first.dice == 1.0
    assert second.dice == pytest.approx(1 - shift / 10)
    assert (second.found_ml, second.truth_ml) == (pytest.approx(0.2), pytest.approx(0.2))


def test_swapped_structures_have_no_overlap_though_the_union_is_perfect():
    truth = boxes(0)
    swapped = np.array([0, 2, 1], np.uint16)[truth]
    assert [case.dice for case in structure_cases(swapped, truth, 2, voxel_ml=0.001)] == [0.0, 0.0]


def test_a_label_that_is_no_structure_is_refused():
    with pytest.raises(ValueError, match="found has labels up to 2, there are 1 structures"):
        structure_cases(boxes(0), boxes(0), 1, voxel_ml=None)


def figures_of(cases):
    maker = FigureMaker(tuple(f"p{index}" for index in range(len(cases))), "patients")
    return {figure.metric: figure for figure in structure_figures(NAMES, cases, maker)}


def case_of(found: int, truth: int):
    """Columns of a plane that are the second structure; the first is the same in both."""
    planes = []
    for columns in (found, truth):
        labels = np.zeros((1, 10, 60), np.uint16)
        labels[:, :, :5] = 1
        labels[:, :, 10 : 10 + columns] = 2
        planes.append(labels)
    return structure_cases(planes[0], planes[1], 2, voxel_ml=0.01)


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


def test_a_label_becomes_part_of_a_metrics_name():
    assert metric_name("Hippocampus, anterior (left)") == "hippocampus_anterior_left"
