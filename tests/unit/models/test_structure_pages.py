"""What a reader sees of structures: colours, drawings, sizes, words."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.figures import ReportFigure
from models.evaluation.pictures import outlined, outlined_structures
from models.evaluation.scales import SCALES
from models.evaluation.sheets import legend
from models.evaluation.structure_charts import agreement_chart, round_ticks
from models.evaluation.structure_headline import structure_headline
from models.evaluation.structure_rows import StructureRow
from models.evaluation.structure_strata import size_bands
from models.evaluation.structures import StructureCase
from models.training.card_pictures import structures_said
from preread.web.cards import figure_words

RED, BLUE = (250, 10, 10), (10, 10, 250)
PLANE = np.full((40, 40), 100, np.int16)
PLANE[0] = 0


def block(number: int, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    labels = np.zeros((40, 40), np.uint16)
    labels[top:bottom, left:right] = number
    return labels


def test_the_model_is_a_line_and_the_reader_a_tint_in_the_colour_of_each_structure():
    found = block(1, 5, 15, 5, 15) + block(2, 20, 30, 20, 30)
    truth = block(1, 5, 15, 8, 18)
    picture = outlined_structures(PLANE, found, truth, (RED, BLUE), 40)
    assert tuple(picture[5, 10]) == RED  # the border of what the model drew
    assert tuple(picture[20, 25]) == BLUE
    inside, outside = picture[10, 16].astype(int), picture[35, 35].astype(int)
    assert inside[0] > inside[2]  # tinted red where the reader alone has it
    assert outside[0] == outside[1] == outside[2]
    assert np.array_equal(picture[25, 25], picture[35, 35])  # inside the model's line nothing is covered
    changed = outlined_structures(PLANE, found, truth, (BLUE, RED), 40)
    assert tuple(changed[5, 10]) == BLUE


def test_without_a_reader_there_is_no_tint():
    found = block(1, 5, 15, 5, 15)
    alone = outlined_structures(PLANE, found, None, (RED, BLUE), 80)
    assert np.array_equal(alone, outlined_structures(PLANE, found, 0 * found, (RED, BLUE), 80))
    plain = outlined(PLANE, np.zeros((40, 40), bool), None, 80)
    assert np.array_equal((alone != plain).any(2), (alone == RED).all(2))


def row(label: str = "Left part", colour=RED, **changes) -> StructureRow:
    fields = {
        "key": "left_part",
        "present": 3,
        "missed": 0,
        "absent": 0,
        "false_alarms": 0,
        "mean_truth": 2.0,
        "bias": 0.1,
        "limits": (-0.3, 0.5),
        "unit": "mL",
        "sizes": ((1.0, 1.2), (2.0, 2.0), (3.0, 3.1)),
        "tolerance": 1.0,
    }
    return StructureRow(label=label, colour=colour, **{**fields, **changes})


def test_a_legend_has_a_line_for_each_structure():
    picture = legend([row(), row("Right part", BLUE)], 200)
    assert picture.shape[1] == 200
    assert tuple(picture[8, 8]) == RED
    assert tuple(picture[26, 8]) == BLUE


def test_dots_of_volumes_stand_at_mean_and_difference():
    chart = agreement_chart(row())
    assert len(re.findall('class="dot"', chart)) == 3
    level = {
        kind: float(re.search(rf'points="[^"]*,([0-9.]+)" class="{kind}"', chart)[1])
        for kind in ("curve thin", "curve second")
    }
    dots = [tuple(map(float, one)) for one in re.findall(r'cx="([0-9.]+)" cy="([0-9.]+)"', chart)]
    assert dots[1][1] == pytest.approx(level["curve thin"])  # no difference
    assert dots[0][1] < dots[2][1] < dots[1][1]  # 0.2, 0.1, 0: upwards
    assert dots[2][1] == pytest.approx(level["curve second"], abs=0.11)  # the bias is 0.1
    assert dots[0][0] < dots[1][0] < dots[2][0]
    assert agreement_chart(row(bias=None, limits=None)) is None


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_ticks_are_few_and_hold_the_values_between_them(first, voxels):
    low, span = first / 1000, voxels / 1000
    ticks = round_ticks(low, low + span)
    assert 2 <= len(ticks) <= 9
    reach = ticks[-1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * reach
    assert ticks[-1] >= low + span - 1e-6 * reach
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30))
def test_every_case_that_has_the_structure_is_in_one_band_of_size(sizes):
    cases = [StructureCase("a", 0.5, 1.0, float(size), "mL") for size in sizes]
    bands = size_bands(cases)
    assert len({name for name, _ in bands}) == len(bands) <= 3
    if bands:
        inside = np.sum([members for _, members in bands], axis=0)
        assert inside.tolist() == [int(size > 0) for size in sizes]
        assert all(any(members) for _, members in bands)
    else:  # two thirds are as small as the smallest: there is nothing to divide
        there = sorted(size for size in sizes if size)
        assert not there or there[2 * len(there) // 3] == there[0]


def figure(metric: str, value: float, ci95=(0.1, 0.2), unit: str = "") -> ReportFigure:
    return ReportFigure(metric, "", "mean", value, ci95, 30, "patients", unit)


def test_of_many_structures_the_worst_are_told():
    rows = [row(f"Part {k}", key=f"part_{k}") for k in range(6)]
    figures = [figure("dice_structures_mean", 0.85)]
    figures += [figure(f"dice_part_{k}_mean", 0.9 - 0.01 * k, None) for k in range(6)]
    sentences = structure_headline(rows, figures, SCALES["brain-flair"])
    assert sentences[0].startswith("Outlines 6 structures; model and reader overlap by 0.85")
    assert [one.split(":")[0] for one in sentences[1:4]] == ["Part 5", "Part 4", "Part 3"]
    assert sentences[1] == "Part 5: outlined with a Dice of 0.85 (30 patients)."
    assert sentences[-1] == "Left out no structure that the reader outlined (18 in 3 patients)."


@pytest.mark.parametrize(
    ("bias", "ci95", "words"),
    [
        (0.02, (0.01, 0.03), "as a whole 2.0 % too large (95 % interval +1.0 to +3.0 %)"),
        (-0.02, (-0.03, -0.01), "as a whole 2.0 % too small (95 % interval -3.0 to -1.0 %)"),
        (0.02, (-0.01, 0.05), "neither too large nor too small as a whole (95 % interval -1.0 to +5.0 %)"),
        (0.02, None, "as a whole 2.0 % too large."),
    ],
)
def test_a_volume_is_too_large_or_too_small_only_where_its_interval_says_so(bias, ci95, words):
    figures = [
        figure("dice_left_part_mean", 0.9),
        figure("volume_error_left_part", 0.043, unit="mL"),
        figure("volume_relative_bias_left_part", bias, ci95),
    ]
    sentence = structure_headline([row()], figures, SCALES["brain-flair"])[0]
    assert f"its volume is off by 0.043 mL on average, {words}" in sentence


def test_what_is_left_out_or_drawn_for_nothing_is_counted():
    rows = [row(missed=1, absent=2, false_alarms=2)]
    (*_, last) = structure_headline(rows, [figure("dice_structures_mean", 0.5)], SCALES["brain-flair"])
    assert (
        last
        == "Left out 1 of 3 structures that the reader outlined; outlined 2 of 2 that the reader did not."
    )


def test_the_card_says_what_was_made_of_each_structure():
    found = block(1, 0, 10, 0, 10)[None]
    truth = block(1, 0, 10, 0, 5)[None] + block(2, 20, 30, 20, 30)[None]
    said = structures_said(found, truth, ("A", "B"))
    assert said == "A Dice 0.67; B missed. Lines: model, tint: truth."
    assert structures_said(found, None, ("A", "B")) == (
        "A outlined; B nothing outlined. Lines: model; there is no truth."
    )


def test_the_page_of_models_reads_the_names_of_figures_of_structures():
    assert figure_words("dice_hippocampus_anterior_mean") == "Dice of hippocampus anterior, mean"
    assert figure_words("auc_malignant") == "AUC of malignant"
    assert figure_words("class_accuracy") == "class accuracy"
