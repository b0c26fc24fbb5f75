"""The whole of an evaluation on cases made up here: measures, figures, sentences, page, comparison."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from heat_maps import passed_block, sanity

from models.evaluation.charts import froc_chart
from models.evaluation.compare import compare_cases
from models.evaluation.document import JudgedCase, worst_first, write_json
from models.evaluation.headline import of_ten, one_in
from models.evaluation.kept_predictions import Said
from models.evaluation.measures import measure, shown_slice
from models.evaluation.page import report_page
from models.evaluation.run import classes_of, evaluate_fully
from models.evaluation.scales import SCALES
from models.evaluation.sheets import CasePicture, random_cases, save_sheet, words_of, worst_cases
from models.explanation.judging import block_of
from models.robustness.adversarial import GREY_LEVELS, Adversarial, AttackRow
from models.robustness.answers import Answer
from models.robustness.corruptions import SEVERITIES
from models.robustness.document import Robustness
from models.robustness.drops import Judged, drops_between
from models.robustness.natural import Curve, Natural, Step
from models.steps import FillHoles, MinComponent, Threshold
from models.training.cases import Case
from models.volume import Volume

STEPS = (
    Threshold(step="threshold", probability=0.5),
    FillHoles(step="fill_holes"),
    MinComponent(step="min_component", minimum_share=0.02),
)
CLASSES = ("benign", "malignant", "normal")


def box(*edges: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((1, size, size), bool)
    if edges:
        top, bottom, left, right = edges
        mask[0, top:bottom, left:right] = True
    return mask


def case(name: str, truth: np.ndarray, class_name: str = "benign") -> Case:
    return Case(name, name, class_name, Volume(np.zeros(truth.shape, np.uint8)), truth, class_name)


def said(outline: np.ndarray, class_name: str, faint: np.ndarray | None = None) -> Said:
    """`faint`: a region of the map that the shipped setting drops."""
    levels = np.where(outline, 230, 3).astype(np.uint8)
    if faint is not None:
        levels[faint] = 150
    scores = {name: 0.8 if name == class_name else 0.1 for name in CLASSES}
    return Said(levels, outline.astype(np.uint16), (0.9,) * bool(outline.any()), scores, class_name)


def judged(name: str, truth: np.ndarray, outline: np.ndarray, true_class: str, found_class: str, **more):
    one = case(name, truth, true_class)
    measures = measure(one, said(outline, found_class, **more), STEPS, SCALES["breast-us"])
    return JudgedCase(measures, {"class": true_class, "place": "not known to be axilla"})


@pytest.fixture(scope="module")
def cases() -> list[JudgedCase]:
    """Six good outlines, one missed, one twice as wide; a normal image left alone and one drawn on."""
    good = [
        judged(f"good_{k}", box(8, 34, 8, 34), box(8, 34, 9, 35), kind, kind)
        for k, kind in enumerate(["benign", "malignant"] * 3)
    ]
    return [
        *good,
        judged("missed", box(8, 36, 8, 36), box(), "malignant", "normal"),
        judged("wide", box(10, 20, 5, 15), box(10, 20, 5, 25), "benign", "malignant"),
        judged("quiet", box(), box(), "normal", "normal"),
        judged("alarm", box(), box(2, 12, 2, 12), "normal", "benign", faint=box(30, 33, 30, 33)),
    ]


def test_one_pixel_of_shift_is_measured_as_one_pixel(cases) -> None:
    shifted = cases[0].measures
    assert shifted.result.dice == pytest.approx(25 / 26)
    assert shifted.hd95 == 1
    assert shifted.nsd == 1
    assert (shifted.truth_size, shifted.found_size) == (676, 676)
    assert shifted.true_lesions[0].is_found
    assert shifted.true_lesions[0].diameter == pytest.approx(2 * np.sqrt(676 / np.pi))


def test_regions_that_the_shipped_setting_drops_are_candidates_of_the_curve(cases) -> None:
    alarm = cases[-1].measures
    assert alarm.false_lesions == 1
    assert sorted(one.score for one in alarm.candidates) == pytest.approx([150 / 255, 230 / 255])
    assert len(alarm.precise) == 1


def test_a_small_outline_inside_a_lesion_finds_it_and_is_not_precise() -> None:
    small = judged("small", box(5, 35, 5, 35), box(18, 22, 18, 22), "benign", "benign").measures
    assert small.candidates[0].is_hit
    assert not small.precise[0].is_hit


def test_the_slice_that_is_shown_is_where_the_outlines_differ_most() -> None:
    truth = np.concatenate([box(0, 20, 0, 20), box(0, 9, 0, 9), box(0, 5, 0, 5)])
    found = np.concatenate([box(0, 20, 0, 20), box(0, 9, 0, 6), box(0, 5, 0, 6)])
    assert shown_slice(found ^ truth, truth) == 1
    assert shown_slice(truth ^ truth, truth) == 0


@pytest.fixture(scope="module")
def evaluation(cases, original_package):
    from models.package import load_package

    return evaluate_fully(load_package(original_package), cases, "scored")


def test_the_figures_are_those_of_the_cases(evaluation) -> None:
    values = {figure.metric: (figure.value, figure.n) for figure in evaluation.figures}
    assert values["missed_share"] == (1 / 8, 8)
    assert values["lesion_sensitivity"] == (7 / 8, 8)
    assert values["lesion_sensitivity_large"] == (6 / 7, 7)  # the box of 10 pixels is 11 across
    assert values["false_lesions_per_study"] == (0.1, 10)
    assert values["normals_drawn_on"] == (0.5, 2)
    assert values["class_sensitivity"] == (3 / 4, 4)
    assert values["class_specificity"] == (5 / 6, 6)
    assert "class_auc" not in values
    assert evaluation.outlines.false_alarm_voxels == 100
    assert (evaluation.outlines.false_alarms, evaluation.outlines.both_empty) == (1, 1)
    assert evaluation.classes.confusion == ((3, 1, 0), (0, 3, 1), (1, 0, 1))
    assert evaluation.froc.shipped_sensitivity == 7 / 8
    parts = {(row.division, row.part): row for row in evaluation.strata if row.metric == "accuracy"}
    assert parts["all", "cases"].value == 0.7
    assert parts["class", "malignant"].value == 0.75


def test_a_failed_gate_fails_the_package(evaluation) -> None:
    assert evaluation.passed is False
    failed = [gate.demand for gate in evaluation.gates if not gate.passed]
    assert any("normals_drawn_on" in demand for demand in failed)


def test_the_first_page_counts_in_words(evaluation) -> None:
    assert evaluation.headline[0].startswith("Finds 9 of 10 lesions of 25 px and more across (6 of 7;")
    assert evaluation.headline[1].startswith("Draws a false lesion in 1 of 10 images (1 of 10;")
    assert evaluation.headline[3].startswith("Draws on 1 of 2 images without a lesion")
    assert len(evaluation.headline) == 5


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "all"), (0.0, "none of the"), (0.84, "8 of 10"), (0.97, "97 of 100"), (0.999, "nearly all")],
)
def test_a_share_is_never_rounded_to_all_or_none(share, words) -> None:
    assert of_ten(share) == words


def test_a_rate_is_one_in_so_many() -> None:
    assert [one_in(rate) for rate in (1 / 12, 0.3, 0.5)] == ["1 of 12", "1 of 3", "5 of 10"]


def test_the_worst_come_first_and_the_random_ones_do_not_change(cases) -> None:
    assert [one.name for one in worst_first(cases)][:4] == ["missed", "alarm", "wide", "good_0"]
    assert [one.name for one in worst_cases(cases)] == [one.name for one in worst_first(cases)]
    many = [JudgedCase(one.measures, {}) for one in cases] * 3
    assert [one.name for one in random_cases(many)] == [one.name for one in random_cases(many[::-1])]
    assert len(random_cases(many)) == 20
    words = [words_of(one, 1) for one in cases[-4:]]
    assert words[0] == "missed, malignant, called normal"
    assert words[2:] == ["rightly left alone, normal", "falsely outlined, normal, called benign"]


def test_the_report_is_one_file_that_asks_nothing_of_any_network(
    evaluation, original_package, tmp_path
) -> None:
    from models.package import load_package

    pictures = [CasePicture("<b>name</b>", "Dice 0.50", np.zeros((20, 30, 3), np.uint8))]
    page = report_page(evaluation, load_package(original_package).manifest, pictures, pictures)
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert outside
    assert all(address.startswith("data:image/png;base64,") for address in outside)
    assert "<script" not in page
    assert "<b>name</b>" not in page
    for sentence in (*evaluation.headline, *evaluation.unknown, evaluation.package.digest):
        assert sentence in page
    assert f"of the {len(evaluation.gates)} limits" in page
    assert page.count("<svg") == 7
    save_sheet(pictures * 7, tmp_path / "sheet.png")
    write_json(evaluation, tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert content["passed"] is False
    assert len(content["cases"]) == 10
    assert {figure["metric"] for figure in content["figures"]} >= {"cpm", "ece", "nsd_mean", "size_icc"}


def test_a_report_says_whether_robustness_was_measured_and_draws_it(evaluation, original_package) -> None:
    from models.package import load_package

    manifest = load_package(original_package).manifest
    silent = report_page(evaluation, manifest, [], [])
    assert "Not measured: how far these figures fall" in silent
    answers = [Answer(0.8, "benign", dict.fromkeys(CLASSES, 1 / 3))] * 6
    worse = [replace(one, dice=0.7) for one in answers]
    judged_cases = [Judged(f"c{k}", f"g{k}", "benign") for k in range(6)]
    drops = drops_between(judged_cases, answers, worse, manifest.findings.classes)
    natural = Natural((Curve("blur", "blur", 6, tuple(Step(s, drops) for s in SEVERITIES)),))
    rows = tuple(AttackRow("segmentation", "PGD", level, 6, 0.5, 0.4, 0.0, drops) for level in GREY_LEVELS)
    found = Robustness("a" * 64, "scored", "b" * 64, 6, natural, Adversarial(6, rows))
    page = report_page(replace(evaluation, robustness=found), manifest, [], [])
    assert page.count("<svg") == silent.count("<svg") + 2
    assert "not kept" in page
    assert "<td>blur</td><td>Dice</td>" in page
    assert "These figures show no robustness: PGD at 4 grey levels" in page
    assert "Not measured: how far" not in page


def test_a_report_says_whether_heat_maps_were_tested_and_what_failed(evaluation, original_package) -> None:
    from models.package import load_package

    manifest = load_package(original_package).manifest
    assert "Not tested, so none is shown." in report_page(evaluation, manifest, [], [])
    passed = report_page(evaluation, manifest.model_copy(update={"explain": passed_block()}), [], [])
    assert "shown to readers as attention, not boundary" in passed
    failing = block_of(sanity(energy_ratio=1.2, energy_ratio_ci95=(1.0, 1.4)))
    failed = report_page(evaluation, manifest.model_copy(update={"explain": failing}), [], [])
    assert "It fails: too little of its heat lies inside the lesion." in failed
    assert "1.00 to 1.40" in failed


def test_a_curve_is_drawn_where_its_numbers_are(evaluation) -> None:
    chart = froc_chart(evaluation.froc)
    (line,) = re.findall(r'<polyline points="([^"]+)" class="curve"', chart)
    last = [float(part) for part in line.split()[-1].split(",")]
    assert last == pytest.approx([340 - 12, 10 + (300 - 10 - 44) * (1 - 7 / 8)], abs=0.1)


def test_a_package_against_itself_is_not_told_apart_and_a_better_one_is(cases, package) -> None:
    measures = [one.measures for one in cases]
    classes = classes_of(package, cases)
    same = compare_cases(measures, measures, (classes, classes), "images")
    assert {row.verdict for row in same} == {"not told apart"}
    assert all(row.is_not_worse(0.001) for row in same)
    better = [
        judged(one.name, box(8, 34, 8, 34), box(8, 34, 8, 34), "benign", "benign").measures for one in cases
    ]
    worse = [
        judged(one.name, box(8, 34, 8, 34), box(8, 34, 8, 24), "benign", "benign").measures for one in cases
    ]
    rows = {row.metric: row for row in compare_cases(worse, better, (classes, classes), "images")}
    assert rows["dice"].verdict == "better"
    assert rows["dice"].difference.value == pytest.approx(1 - 32 / 42)
    backwards = {row.metric: row for row in compare_cases(better, worse, (classes, classes), "images")}
    assert backwards["dice"].verdict == "worse"
    assert not backwards["dice"].is_not_worse(0.02)
    with pytest.raises(ValueError, match="same cases"):
        compare_cases(measures, measures[::-1], (classes, classes), "images")
