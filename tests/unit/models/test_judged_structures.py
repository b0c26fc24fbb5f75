"""A package of structures judged as a whole: what is wrong in one structure is seen in its own figures."""

import json
import re

import numpy as np
import pytest
from judged_structures import (
    SCORED,
    VOXEL_ML,
    exact_truths,
    image_of,
    moved,
    swapped,
    volume_of,
    without,
    write_judged,
)
from typer.testing import CliRunner

from models.evaluation.beside import Beside, Theirs
from models.evaluation.case_result import CaseResult, plain_result, result_from
from models.evaluation.compare import compare_structures
from models.evaluation.document import worst_first
from models.evaluation.evaluate import judge_all
from models.evaluation.gates import Gate, Gates, StrataGate, judge_gates
from models.evaluation.kept_predictions import Said
from models.evaluation.measures import measure_structures
from models.evaluation.report import write_report
from models.evaluation.run import declared_figures
from models.evaluation.scales import scale_of
from models.evaluation.sheets import words_of
from models.predictor import Predictor
from models.training.card import metric_words
from models.training.cases import Case
from models.training.judged_on import judged_on
from preread.commands.models import app

LABELS = ("Hippocampus anterior", "Hippocampus posterior")
ANTERIOR, POSTERIOR = "hippocampus_anterior", "hippocampus_posterior"
MOVED, SWAPPED, WITHOUT = 1, 3, 5


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Of eight cases one with the posterior part a voxel aside, one with both changed, one lacking one."""
    truths = exact_truths()
    truths[MOVED] = moved(truths[MOVED], 2)
    truths[SWAPPED] = swapped(truths[SWAPPED])
    truths[WITHOUT] = without(truths[WITHOUT], 1)
    return write_judged(tmp_path_factory.mktemp("judged"), truths)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def evaluation(judged, out):
    theirs = Theirs(("Another method",), {"dice_1": {f"case-{k:02d}": 0.5 for k in range(40)}})
    predictor = Predictor(judged.package, device="cpu")
    return write_report(predictor, judged.data, out, beside=Beside(theirs))


def of_case(evaluation, number: int) -> CaseResult:
    return next(one.measures.result for one in evaluation.cases if one.name == f"case-{number:02d}")


def columns(number: int) -> tuple[int, int]:
    """How wide each part of a case is."""
    return 10 + number, 12 + number


def test_a_structure_moved_by_a_voxel_loses_what_it_does_not_share_and_the_other_loses_nothing(evaluation):
    first, second = of_case(evaluation, MOVED).structures
    assert first.dice == 1.0
    assert second.dice == pytest.approx(1 - 1 / columns(MOVED)[1])
    assert second.found_size == second.truth_size == pytest.approx(4 * 6 * columns(MOVED)[1] * VOXEL_ML)
    case = next(one for one in evaluation.cases if one.name == f"case-{MOVED:02d}")
    assert [border.hd95 for border in case.measures.borders] == [0.0, 1.0]
    assert [border.nsd for border in case.measures.borders] == [1.0, 1.0]  # a voxel is the tolerance, 1 mm


def test_structures_changed_for_each_other_are_the_worst_case_though_their_union_is_perfect(evaluation):
    result = of_case(evaluation, SWAPPED)
    assert (result.dice, result.false_voxels) == (0.0, result.truth_voxels)
    worst = worst_first(evaluation.cases)[0]
    assert worst.name == f"case-{SWAPPED:02d}"
    assert words_of(worst, 8).startswith("Dice 0.00 / 0.00, slice ")


def test_a_structure_that_the_truth_does_not_have_is_a_false_alarm_and_in_no_mean(evaluation):
    result = of_case(evaluation, WITHOUT)
    assert [one.dice for one in result.structures] == [None, 1.0]
    assert result.dice == 1.0
    alarms = evaluation.figure(f"false_alarms_{ANTERIOR}")
    assert (alarms.value, alarms.n, alarms.of) == (1.0, 1, "patients")
    assert evaluation.figure(f"false_alarms_{POSTERIOR}") is None
    assert evaluation.figure(f"dice_{ANTERIOR}_mean").n == SCORED - 1


def test_the_figures_are_means_over_the_cases(evaluation):
    posterior = 1 - 1 / columns(MOVED)[1]
    expected = {
        f"dice_{ANTERIOR}_mean": (SCORED - 2) / (SCORED - 1),
        f"dice_{POSTERIOR}_mean": (SCORED - 2 + posterior) / SCORED,
        "dice_structures_mean": (SCORED - 2 + (1 + posterior) / 2) / SCORED,
        # Only the case that is changed is off: what it has of the one is what is true of the other.
        f"volume_error_{ANTERIOR}": 4 * 6 * 2 * VOXEL_ML / (SCORED - 1),
        f"volume_bias_{ANTERIOR}": -4 * 6 * 2 * VOXEL_ML / (SCORED - 1),
        f"volume_bias_{POSTERIOR}": 4 * 6 * 2 * VOXEL_ML / SCORED,
        f"missed_{POSTERIOR}": 0.0,
        f"hd95_{POSTERIOR}_median": 0.0,
    }
    values = {figure.metric: figure.value for figure in evaluation.figures}
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    for figure in evaluation.figures:
        if figure.ci95 is not None:
            assert figure.ci95[0] <= figure.value <= figure.ci95[1]
    assert evaluation.figure(f"volume_bias_{ANTERIOR}").unit == "mL"
    row = evaluation.structures[1]
    assert (row.label, row.key, row.present, row.absent) == (LABELS[1], POSTERIOR, SCORED, 0)
    spread = np.std([0] * (SCORED - 1) + [4 * 6 * 2 * VOXEL_ML], ddof=1)
    assert row.limits[1] - row.limits[0] == pytest.approx(2 * 1.96 * spread)


def test_nothing_in_the_report_speaks_of_lesions(evaluation, out):
    page = (out / "report.html").read_text("utf-8")
    assert "lesion" not in page.lower()
    assert "FROC" not in page
    for sentence in evaluation.headline:
        assert sentence.replace("'", "&#39;") in page
    for label in LABELS:
        assert f"Dice of {label.lower()}" in page
    assert page.count("<svg") == 3 + 2  # parts of all and of each structure, volumes of each
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert all(address.startswith("data:image/png;base64,") for address in outside)
    assert "within 1 mm" in page
    content = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert content["cases"][0]["measures"]["result"]["structures"][0]["label"] == LABELS[0]
    assert (content["froc"], content["classes"], content["bands"]) == (None, None, [])


def test_the_first_page_says_how_well_each_is_outlined_and_how_far_its_volume_is_off(evaluation):
    anterior, posterior, borders, volumes, left_out = evaluation.headline
    assert anterior.startswith(f"{LABELS[0]}: outlined with a Dice of 0.86 on a scale from 0 to 1 (95 %")
    assert "its volume is off by 0.014 mL on average" in anterior
    assert posterior.startswith(f"{LABELS[1]}: outlined with a Dice of 0.87")
    assert "within 1 mm of each other" in borders
    assert "ICC" in volumes
    assert left_out.endswith("outlined 1 of 1 that the reader did not.")


def test_parts_are_the_structures_and_the_sizes_of_each(evaluation):
    rows = {(row.metric, row.division, row.part): row for row in evaluation.strata}
    assert rows["dice", "structure", LABELS[0]].n == SCORED - 1
    whole = rows["dice", "all", "cases"]
    assert whole.value == pytest.approx(evaluation.figure("dice_structures_mean").value)
    sizes = [row for row in evaluation.strata if (row.metric, row.division) == (f"dice_{POSTERIOR}", "size")]
    assert sum(row.n for row in sizes) == SCORED
    assert len(sizes) == 3
    assert sizes[0].part.startswith("below")
    assert sizes[-1].part.endswith("and more")
    assert {row.division for row in evaluation.strata} == {"all", "structure", "size"}


def test_gates_name_a_structure_and_see_the_part_that_is_far_below_the_whole(evaluation):
    def gates(strata: StrataGate, *demands: Gate) -> list[bool]:
        wanted = Gates(
            format="preread-gates/1",
            package="test-two-ranges",
            frozen_tolerance=0.002,
            reason="",
            gates=demands,
            strata=(strata,),
        )
        return [one.passed for one in judge_gates(wanted, evaluation.figures, evaluation.strata, [])]

    reached = Gate(metric=f"dice_{POSTERIOR}_mean", statistic="point", at_least=0.86)
    missed = Gate(metric=f"volume_bias_{POSTERIOR}", statistic="bound", at_most=0.01)
    assert gates(StrataGate(metric="dice", n_min=7, below_max=0.1), reached, missed) == [
        True,
        False,
        True,
        True,
    ]
    # One third of the posterior parts holds the case that was changed.
    by_size = StrataGate(metric=f"dice_{POSTERIOR}", n_min=2, below_max=0.1)
    assert False in gates(by_size, reached)


def test_declared_figures_are_rows_of_a_manifest_that_the_report_repeats(judged, evaluation):
    on = judged_on(judged.package)
    predictor = Predictor(judged.package, device="cpu")
    results = judge_all(predictor, on.cases_in(judged.data), on.split.scored(), scale=scale_of(on.recipe))
    assert sorted(results, key=lambda one: one.name) == sorted(
        (one.measures.result for one in evaluation.cases), key=lambda one: one.name
    )
    kept = json.loads(json.dumps([plain_result(one) for one in results]))
    assert [result_from(one) for one in kept] == results
    again = declared_figures(on, evaluation.cases, "scored")
    values = {figure.metric: figure.value for figure in again}
    expected = {f"{form}{key}" for key in (ANTERIOR, POSTERIOR) for form in ("volume_bias_", "volume_icc_")}
    expected |= {f"dice_{key}_mean" for key in (ANTERIOR, POSTERIOR, "structures")}
    assert expected <= set(values)
    assert values == pytest.approx({metric: evaluation.figure(metric).value for metric in values})
    assert again[0].words.startswith("Dice, mean over the structures")
    assert {one.metric: one.statistic for one in again} == {
        one.metric: evaluation.figure(one.metric).statistic for one in again
    }
    assert not any("_" in metric_words(metric) for metric in values)


def test_a_result_of_lesions_is_kept_as_before():
    result = CaseResult("a", "a", 0.5, True, 1, 2, 1, 1, None, None, None)
    assert "structures" not in plain_result(result)
    assert result_from(plain_result(result)) == result


def measured(truth: np.ndarray, found: np.ndarray, number: int = 0, scale=None):
    case = Case(
        f"case-{number:02d}", f"p{number}", "", volume_of(image_of(number)), truth.astype(np.uint8), None
    )
    said = Said(np.zeros(found.shape, np.uint8), found, (), None, None)
    return measure_structures(case, said, LABELS, scale)


@pytest.fixture(scope="module")
def scale(judged):
    from models.evaluation.scales import scale_in

    case = Case("a", "a", "", volume_of(image_of(0)), np.zeros((8, 20, 48), np.uint8), None)
    return scale_in(case, scale_of(judged_on(judged.package).recipe), "own")


def test_the_slice_that_is_shown_is_where_the_numbers_differ_most(scale):
    truth = exact_truths(1)[0]
    found = truth.copy()
    found[4] = swapped(truth)[4]  # the same outline, the other numbers
    found[2, 3, 4] = 0
    assert measured(truth, found, scale=scale).shown_slice == 4


def test_two_packages_are_compared_structure_by_structure(scale):
    truths = exact_truths(6)
    exact = [measured(truth, truth, k, scale) for k, truth in enumerate(truths)]
    aside = [measured(truth, moved(truth, 2), k, scale) for k, truth in enumerate(truths)]
    rows = {row.metric: row for row in compare_structures(exact, aside, "patients")}
    assert set(rows) == {
        "dice_structures_mean",
        *(
            f"{form}{key}{end}"
            for key in (ANTERIOR, POSTERIOR)
            for form, end in (("dice_", "_mean"), ("volume_error_", ""))
        ),
    }
    assert rows[f"dice_{POSTERIOR}_mean"].verdict == "worse"
    assert rows[f"dice_{ANTERIOR}_mean"].verdict == "not told apart"
    assert rows[f"volume_error_{POSTERIOR}"].difference.value == 0.0
    expected = -np.mean([1 / columns(k)[1] for k in range(6)])
    assert rows[f"dice_{POSTERIOR}_mean"].difference.value == pytest.approx(expected)
    assert rows["dice_structures_mean"].difference.value == pytest.approx(expected / 2)
    backwards = {row.metric: row for row in compare_structures(aside, exact, "patients")}
    assert backwards["dice_structures_mean"].verdict == "better"
    assert not rows["dice_structures_mean"].is_not_worse(0.02)
    with pytest.raises(ValueError, match="same cases"):
        compare_structures(exact, exact[::-1], "patients")


def test_another_methods_figures_stand_in_the_report(evaluation, out):
    (row,) = evaluation.beside.rows
    assert row.n == SCORED - 1
    assert (row.theirs_only, row.ours_only) == (40 - SCORED + 1, 0)
    assert row.difference == pytest.approx((SCORED - 2) / (SCORED - 1) - 0.5)
    page = (out / "report.html").read_text("utf-8")
    assert "Beside another method" in page
    assert "Another method: its figure of each case" in page


def test_the_command_judges_a_package_of_structures_beside_a_file(judged, tmp_path):
    file = tmp_path / "theirs.csv"
    lines = [f"case-{k:02d},dice_{POSTERIOR},0.90" for k in range(SCORED)]
    file.write_text("\n".join(["# Their method", "case,metric,value", *lines]) + "\n")
    options = ["--data", str(judged.data), "--beside", str(file)]
    run = CliRunner().invoke(app, ["evaluate", str(judged.package.folder), *options])
    assert run.exit_code == 0, run.stderr
    assert "Beside Their method:" in run.stdout
    assert f"dice_{POSTERIOR}, {SCORED} cases judged here: 0.8654 less 0.9000 is -3.46 points" in run.stdout
    assert "it does not lie above -0.5 points" in run.stdout
    assert "lesion" not in run.stdout.lower()
    file.write_text("case,metric,value\nnobody,dice,0.5\n")
    run = CliRunner().invoke(app, ["evaluate", str(judged.package.folder), *options])
    assert run.exit_code == 1
    assert "none of their cases is judged here" in str(run.exception)
